"""bridge.flows.prelabel: each item is predicted once, whatever happens on the way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.colour_detector import NAME
from fakes.pictures import CAT, TRUTH
from flow_kit import Desk, Killed

from bridge.errors import ToolUnreachable
from bridge.flows.prelabel import PrelabelResult, prelabel
from bridge.flows.progress import Progress, silent
from bridge.flows.sources import ModelPredictions


def run(
    desk: Desk, page_size: int = 2, source: ModelPredictions | None = None, progress: Progress = silent
) -> PrelabelResult:
    return prelabel(desk.tool, source or desk.model(), desk.journal, page_size=page_size, progress=progress)


def predicted(desk: Desk) -> dict[str, int]:
    return {item: len(found) for (model, item), found in desk.tool.models.items() if model == NAME}


@pytest.mark.parametrize("page_size", [1, 2, 3, 4, 5])
def test_every_item_once_whatever_the_page(desk: Desk, page_size: int) -> None:
    for _ in range(4):
        desk.picture()
    assert run(desk, page_size) == PrelabelResult(items=4, written=4, skipped=0, predictions=8, failures=())
    assert predicted(desk) == dict.fromkeys("1234", 2)
    desk.tool.calls.clear()
    assert run(desk, page_size) == PrelabelResult(items=4, written=0, skipped=4, predictions=0, failures=())
    assert desk.tool.calls["read_image"] == 0


def test_only_new_items_are_looked_at(desk: Desk) -> None:
    desk.picture()
    run(desk)
    desk.picture(shows=(("cat", CAT),))
    assert run(desk) == PrelabelResult(items=2, written=1, skipped=1, predictions=1, failures=())


def test_another_models_predictions_do_not_count(desk: Desk) -> None:
    item = desk.picture()
    desk.tool.models["other-1", item] = ()
    assert run(desk).written == 1
    assert set(desk.tool.models) == {("other-1", item), (NAME, item)}


def test_nothing_found_counts_as_done(desk: Desk) -> None:
    desk.picture(shows=())
    assert run(desk) == PrelabelResult(items=1, written=1, skipped=0, predictions=0, failures=())
    assert run(desk).skipped == 1


def test_nothing_there(desk: Desk) -> None:
    assert run(desk) == PrelabelResult(items=0, written=0, skipped=0, predictions=0, failures=())


def test_an_image_that_cannot_be_read_fails_alone(desk: Desk) -> None:
    desk.picture()
    broken = desk.tool.add_item(None)
    desk.picture()
    result = run(desk, page_size=3)
    assert (result.items, result.written, result.skipped) == (3, 2, 0)
    assert [f.item for f in result.failures] == [f"{broken}.png (item {broken})"]
    assert broken not in predicted(desk)
    desk.tool.images[broken] = desk.tool.images["1"]
    assert run(desk) == PrelabelResult(items=3, written=1, skipped=2, predictions=2, failures=())


@pytest.mark.parametrize("page", [0, 1, 2])
def test_killed_after_writing_a_page(desk: Desk, page: int) -> None:
    for _ in range(5):
        desk.picture()
    desk.durable.kill_after = f"page {page}"
    with pytest.raises(Killed):
        run(desk)
    assert len(predicted(desk)) == min(2 * page + 2, 5)
    desk.tool.calls.clear()
    result = run(desk)
    assert (result.items, result.failures) == (5, ())
    assert predicted(desk) == dict.fromkeys("12345", 2)
    assert desk.tool.calls["read_page"] == 3 - page


def test_another_threshold_is_another_journey(desk: Desk) -> None:
    """Else pages that a killed run had done would keep what the other threshold let through."""
    for _ in range(3):
        desk.picture()
    desk.durable.kill_after = "page 1"
    with pytest.raises(Killed):
        run(desk)
    desk.tool.calls.clear()
    run(desk, source=replace(desk.model(), threshold=0.9))
    assert desk.tool.calls["read_page"] == 2


def test_a_lost_answer_ends_the_run_and_the_next_one_goes_on(desk: Desk) -> None:
    for _ in range(3):
        desk.picture()
    desk.tool.lose = {"write_predictions"}
    with pytest.raises(ToolUnreachable):
        run(desk)
    assert run(desk) == PrelabelResult(items=3, written=1, skipped=2, predictions=2, failures=())
    assert desk.durable.left == {}


def test_tells_how_far_it_is(desk: Desk) -> None:
    for _ in range(3):
        desk.picture(TRUTH)
    told: list[tuple[str, int, int | None]] = []
    run(desk, progress=lambda *news: told.append(news))
    assert told == [("pre-labelling", 2, 3), ("pre-labelling", 3, 3)]


@pytest.mark.parametrize("killed", [False, True])
def test_the_audit_log_tells_which_model_suggested_where(desk: Desk, killed: bool) -> None:
    for _ in range(3):
        desk.picture()
    if killed:
        desk.durable.kill_after = "page 0"
        with pytest.raises(Killed):
            run(desk)
    run(desk)
    events = desk.store.events(desk.tool.target)
    assert [(e.kind, e.detail["items"]) for e in events] == [("prelabel", ["1", "2"]), ("prelabel", ["3"])]
    assert [(e.detail["model"], e.detail["predictions"]) for e in events] == [(NAME, 4), (NAME, 2)]
