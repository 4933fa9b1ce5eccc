"""What several commands look up."""

from __future__ import annotations

from bridge.errors import NotFound, UsageError
from bridge.store import Run, Store
from bridge.tools import AnnotationTool, Review
from bridge.tools.label_studio import LabelStudio


def find_run(store: Store, target: str, run_id: str | None) -> Run:
    run = store.run(run_id) if run_id else store.latest_finished_run(target)
    if run is None:
        raise NotFound(f"{target} has not been scored yet", todo=f"Run `labelbridge score {target}` first")
    if run.target != target:
        raise UsageError(f"run {run.id} belongs to {run.target}, not to {target}")
    return run


def label_studio(tool: AnnotationTool) -> LabelStudio:
    if not isinstance(tool, LabelStudio):
        raise UsageError(f"{tool.target} is not in Label Studio", expected="a target like ls:project/7")
    return tool


def review_places(store: Store, target: str) -> list[Review]:
    return [Review(p.ref, p.url, created=False, mode=p.mode) for p in store.reviews_of(target)]
