"""Telling a tool where to send its webhooks, for a target and the places where its findings are reviewed."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.errors import NotFound, UsageError
from bridge.store import ReviewPlace
from bridge.tools import AnnotationTool, cvat_hooks, label_studio_hooks
from bridge.tools.cvat import Cvat
from bridge.tools.hooks import HookAddress
from bridge.tools.label_studio import LabelStudio


def settle_hooks(tool: AnnotationTool, hook: HookAddress, reviews: Sequence[ReviewPlace] = ()) -> tuple[str, ...]:
    """Make the webhooks of a target, or bring them up to date.

    Returns:
        What may keep events from coming, as sentences with what to do; without webhooks changes are found by polling.

    Raises:
        ToolError: the tool has no webhooks for this target, or this user may make none.
        UsageError: the target is a file.
    """
    if isinstance(tool, Cvat):
        return cvat_hooks.settle_hook(tool.client, tool.what, hook)
    client = _label_studio(tool).client
    told = [label_studio_hooks.settle_hook(client, project, hook) for project in _projects(tool, reviews)]
    return tuple(dict.fromkeys(warning for warnings in told for warning in warnings))


def remove_hooks(tool: AnnotationTool, reviews: Sequence[ReviewPlace] = ()) -> int:
    """Take the webhooks of a target away; errors as :func:`settle_hooks`. Returns how many there were."""
    if isinstance(tool, Cvat):
        return cvat_hooks.remove_hook(tool.client, tool.what)
    client = _label_studio(tool).client
    return sum(label_studio_hooks.remove_hook(client, project) for project in _projects(tool, reviews))


def _projects(tool: AnnotationTool, reviews: Sequence[ReviewPlace]) -> list[int]:
    """The target's project, and the review projects that are still there."""
    found = _label_studio(tool)
    projects = [found.project_id]
    for place in reviews:
        try:
            projects.append(int(found.client.project(int(place.ref))["id"]))
        except NotFound:
            continue
    return projects


def _label_studio(tool: AnnotationTool) -> LabelStudio:
    if isinstance(tool, LabelStudio):
        return tool
    raise UsageError(f"{tool.target} sends no webhooks", expected="a target in Label Studio or CVAT")
