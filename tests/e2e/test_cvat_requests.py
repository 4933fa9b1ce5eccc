"""How many requests a large target takes: they grow with its jobs, not with its frames, objects and fixes."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest
from cvat_world import Case, CvatDesk, CvatWorld, Picture, open_desk
from fakes.cvat_server import FakeCvat

from bridge.core.annotations import Box, Record
from bridge.core.findings import ErrorType, Event, Finding, Fix, finding_id

FRAMES, JOBS, FIXES = 2000, 8, 400
SMALL = [Box(4 + 18 * n, 4, 18 + 18 * n, 20) for n in range(5)]


def wrong(target: str, record: Record, error: ErrorType, which: int, number: int) -> Finding:
    """A finding about one of a record's objects, which are all cats."""
    (submission,) = record.submissions
    found = submission.annotations[which]
    assert isinstance(found.shape, Box)
    moved = Box(found.shape.x1, 22, found.shape.x2, 40)
    fix = {
        ErrorType.WRONG_CLASS: Fix("relabel", "dog", found.shape),
        ErrorType.EXTRA: Fix("delete"),
        ErrorType.IMPRECISE: Fix("reshape", "cat", moved),
        ErrorType.MISSING: Fix("add", "dog", moved),
    }[error]
    ids, revisions = ((), ()) if error is ErrorType.MISSING else ((found.id,), (found.revision,))
    return Finding(
        id=finding_id(target, record.item.id, submission.id, ids, error, fix),
        target=target,
        item_id=record.item.id,
        item_name=record.item.name,
        submission_id=submission.id,
        annotation_ids=ids,
        error=error,
        label="cat",
        score=1 - number / (2 * FIXES),
        reason="The model sees it so.",
        fix=fix,
        scorer="test",
        current_shape=found.shape if ids else None,
        revisions=revisions,
    )


def accept(desk: CvatDesk) -> None:
    """Accepted findings of each kind, spread over all frames, likely ones next to unlikely ones."""
    tool, store, at = desk.tool, desk.store, desk.journal.now()
    info = tool.describe()
    run = desk.journal.new_id()
    store.start_run(
        run, target=tool.target, title=info.title, kind="object", model="m", scorer="test", labels=info.labels,
        started_at=at, options={},
    )  # fmt: skip
    records = tool.read_page(None, FRAMES).records
    kinds = list(ErrorType)[:4]
    found = [wrong(tool.target, records[n * 997 % FRAMES], kinds[n % 4], n % 5, n) for n in range(FIXES)]
    store.put_findings(run, found)
    for finding in found:
        store.transition(finding.id, Event.PUSH, at, "test")
        store.transition(finding.id, Event.ACCEPT, at, "test")
    store.put_review(tool.target, tool.target, tool.url)


@pytest.mark.slow
def test_requests_and_memory_of_a_large_sync(tmp_path: Path) -> None:
    pictures = [Picture((), tuple(("cat", box) for box in SMALL))] * FRAMES
    with FakeCvat("2.80") as server:
        world = CvatWorld(server, Case("2.80", "owner"), pictures, segment_size=FRAMES // JOBS)
        with open_desk(world, tmp_path) as desk:
            accept(desk)
            tracemalloc.start()
            start = time.perf_counter()
            result, calls = desk.calls(lambda: desk.sync(chunk=100))
            seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
            tracemalloc.stop()
    assert (result.fixes, result.verified) == ({"applied": FIXES}, FIXES)
    # 400 findings take 4 chunks; each job is in one or two of them, and at most read twice and written three times.
    assert len(calls) <= JOBS * 2 * 5 + 4 * 2 * 5 + JOBS * 2
    print(f"\n{len(calls) * 100 / FIXES:.1f} requests for 100 fixes, {peak / 2**20:.0f} MiB, {seconds:.1f} s")
