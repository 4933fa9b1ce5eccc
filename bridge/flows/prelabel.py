"""PRE-LABEL: a model's predictions into the tool, beside people's work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from bridge.errors import ToolError
from bridge.flows.durable import Step
from bridge.flows.failures import Failure
from bridge.flows.progress import Progress
from bridge.flows.score import Journal
from bridge.flows.sources import ModelPredictions
from bridge.tools import AnnotationTool, Prelabel


@dataclass(frozen=True, slots=True)
class PrelabelResult:
    """Counts of items; ``predictions`` counts the objects written now."""

    items: int
    written: int
    skipped: int
    predictions: int
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class _PageResult:
    next: str | None
    items: int
    written: int
    predictions: int
    failures: tuple[Failure, ...]


def prelabel(
    tool: AnnotationTool,
    source: ModelPredictions,
    journal: Journal,
    *,
    page_size: int,
    progress: Progress,
    late: Callable[[Sequence[str]], None] | None = None,
) -> PrelabelResult:
    """Predict every item that holds no prediction of this model yet, page by page.

    ``late`` is told of items that people have submitted already, before predictions are written into them: they were
    scored without. Resumes after a crash at the page it stopped in. An image that cannot be read fails alone.

    Raises:
        ToolError: the tool failed; what was written stays, and running again goes on.
    """
    info = tool.describe()
    if not info.writable:
        raise ToolError(
            f"{info.target} is read-only: predictions cannot be stored there",
            expected="an annotation tool, as in ls:project/7",
            todo=f"Score it with a model instead: labelbridge score {info.target} --detector NAME",
        )
    total = info.items

    def journey(step: Step) -> PrelabelResult:
        pages: list[_PageResult] = []
        cursor: str | None = None
        while True:
            pages.append(step(f"page {len(pages)}", partial(_page, tool, source, journal, cursor, page_size, late)))
            progress("pre-labelling", sum(p.items for p in pages), total)
            cursor = pages[-1].next
            if cursor is None:
                break
        step("show", lambda: tool.write_predictions(source.model, []))
        items, written = sum(p.items for p in pages), sum(p.written for p in pages)
        failures = tuple(f for p in pages for f in p.failures)
        return PrelabelResult(
            items=items,
            written=written,
            skipped=items - written - len(failures),
            predictions=sum(p.predictions for p in pages),
            failures=failures,
        )

    return journal.durable.run(f"prelabel {tool.target}", source.key, journey)


def _page(
    tool: AnnotationTool,
    source: ModelPredictions,
    journal: Journal,
    after: str | None,
    limit: int,
    late: Callable[[Sequence[str]], None] | None,
) -> _PageResult:
    page = tool.read_page(after, limit, model=source.model)
    todo, failures = [], []
    for record in page.records:
        if record.problems and not record.item.image:
            failures.append(Failure(f"{record.item.name} (item {record.item.id})", record.problems[0].message))
        elif source.model not in record.predicted_by:
            todo.append(record)
    records, broken = source.attach(todo)
    good = [Prelabel(r.item, r.predictions) for r in records if source.model in r.predicted_by]
    predictions = sum(len(p.predictions) for p in good)
    if good:
        # Before it happens: what a kill cut off is noted all the same, and noted once when it is done again.
        detail = {"model": source.model, "items": [p.item.id for p in good], "predictions": predictions}
        journal.store.note("prelabel", tool.target, detail, journal.now())
        submitted = [r.item.id for r in records if source.model in r.predicted_by and r.submissions]
        if late is not None and submitted:
            late(submitted)
    written = tool.write_predictions(source.model, good)
    return _PageResult(page.next, len(page.records), written, predictions, (*failures, *broken))
