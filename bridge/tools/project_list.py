"""What could be a target: the projects of a tool, without those that labelbridge made for reviews."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bridge.dialects.cvat_labels import parse_labels
from bridge.dialects.label_studio import parse_label_config
from bridge.errors import DataError
from bridge.tools.cvat_client import CvatClient, Row
from bridge.tools.cvat_review_task import FINDING, VERDICT
from bridge.tools.label_studio_client import LabelStudioClient
from bridge.tools.label_studio_review import REVIEW_MARK


@dataclass(frozen=True, slots=True)
class ListedProject:
    """A project; in CVAT also a task without one.

    Attributes:
        labels: those that its objects can have.
        is_text: texts are labelled, not images.
        problem: why nothing can be done in it; empty where something can.
    """

    target: str
    title: str
    labels: tuple[str, ...] = ()
    is_text: bool = False
    problem: str = ""


def label_studio_projects(client: LabelStudioClient) -> Iterator[ListedProject]:
    """Every project that the token's user can see; one request for a hundred."""
    for row in client.projects("id,title,description,label_config"):
        if REVIEW_MARK in str(row.get("description") or ""):
            continue
        target, title = f"ls:project/{row['id']}", str(row.get("title") or "")
        try:
            config = parse_label_config(str(row.get("label_config") or ""), texts=True)
            yield ListedProject(target, title, config.labels.names, config.media == "text")
        except DataError as error:
            yield ListedProject(target, title, problem=error.found)


def cvat_projects(client: CvatClient) -> Iterator[ListedProject]:
    """Every project, and every task without one, that this user can see; three requests for some hundred."""
    labels: dict[tuple[str, object], list[Row]] = {}
    for label in client.labels():
        kind = "project" if label.get("project_id") is not None else "task"
        labels.setdefault((kind, label.get(f"{kind}_id")), []).append(label)
    for kind, rows in (("project", client.projects()), ("task", client.tasks())):
        for row in rows:
            own = labels.get((kind, row["id"]), [])
            if (kind == "task" and row.get("project_id") is not None) or any(map(_asks_for_verdicts, own)):
                continue
            target, title = f"cvat:{kind}/{row['id']}", str(row.get("name") or "")
            try:
                yield ListedProject(target, title, parse_labels(own).names.names)
            except DataError as error:
                yield ListedProject(target, title, problem=error.found)


def _asks_for_verdicts(label: Row) -> bool:
    """Whether it is a label of a review project, told by its attributes: a project's name and links may be changed."""
    attributes = label.get("attributes") or []
    return {VERDICT, FINDING} <= {attribute.get("name") for attribute in attributes if isinstance(attribute, dict)}
