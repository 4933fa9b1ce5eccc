"""Labels with attributes, of projects and of tasks that stand alone."""

from __future__ import annotations

from collections.abc import Sequence

from fakes.cvat_server.lists import listing
from fakes.cvat_server.permissions import (
    deny,
    get_job,
    get_project,
    get_task,
    is_staff,
    lists_project,
    lists_task,
    manages,
    owns_project,
    sees_project,
    sees_task,
)
from fakes.cvat_server.routing import ApiError, Context, Reply, route
from fakes.cvat_server.state import SHAPES, Attribute, Label, Row, State

TYPES = SHAPES | {"any", "tag", "interval"}
INPUTS = frozenset(["checkbox", "radio", "number", "text", "select"])
COLOURS = ("#33ddff", "#fa3253", "#ff6037", "#fafa37", "#34d1b7", "#aaf0d1", "#b83df5", "#733380")

LabelSpec = str | Row


def add_labels(
    state: State, specs: Sequence[LabelSpec], *, project: int | None = None, task: int | None = None
) -> list[Label]:
    """Stores labels; a name alone stands for a label of any type."""
    rows = [{"name": spec} if isinstance(spec, str) else spec for spec in specs]
    return [_add(state, row, project, task, None) for row in rows]


def _add(state: State, row: Row, project: int | None, task: int | None, parent: int | None) -> Label:
    name, kind = row.get("name"), row.get("type") or "any"
    if not name:
        raise ApiError(400, {"labels": [{"name": ["This field is required."]}]})
    if kind not in TYPES:
        raise ApiError(400, {"labels": [{"type": [f'"{kind}" is not a valid choice.']}]})
    siblings = [x for x in state.labels.values() if (x.project, x.task, x.parent) == (project, task, parent)]
    if any(x.name == name for x in siblings):  # not in the facts
        raise ApiError(400, ["All label names must be unique"])
    number = state.new_id("label")
    colour = row.get("color") or COLOURS[len(siblings) % len(COLOURS)]
    label = Label(number, name, kind, colour, project, task, parent, svg=row.get("svg", ""))
    state.labels[number] = label
    for attribute in row.get("attributes") or []:
        _put_attribute(state, label, attribute)
    for sublabel in row.get("sublabels") or []:
        _add(state, sublabel, project, task, number)
    return label


def _put_attribute(state: State, label: Label, row: Row) -> None:
    """Adds an attribute, or changes the one of that id or name."""
    known = next((a for a in label.attributes if row.get("id") == a.id or row.get("name") == a.name), None)
    if known is None:
        if not row.get("name") or row.get("input_type") not in INPUTS:
            raise ApiError(400, {"labels": [{"attributes": [{"input_type": ["This field is required."]}]}]})
        known = Attribute(state.new_id("attribute"), row["name"], row["input_type"])
        label.attributes.append(known)
    known.name = row.get("name", known.name)
    known.mutable = row.get("mutable", known.mutable)
    known.values = [str(x) for x in row.get("values", known.values)] or [""]  # seen on 2.15: never an empty list
    known.default_value = str(row.get("default_value", known.default_value))


def patch_labels(state: State, rows: Sequence[Row], *, project: int | None = None, task: int | None = None) -> None:
    """What PATCH of a project or task does: rows without an id are new labels, ``deleted`` removes one."""
    for row in rows:
        if "id" not in row:
            _add(state, row, project, task, None)
            continue
        label = state.labels.get(row["id"])
        if label is None or (label.project, label.task) != (project, task):
            raise ApiError(404, f"Not found label with id #{row['id']} to change")
        if row.get("deleted"):
            delete_label(state, label)
            continue
        label.name = row.get("name", label.name)
        label.color = row.get("color", label.color)
        for attribute in row.get("attributes") or []:
            _put_attribute(state, label, attribute)


def delete_label(state: State, label: Label) -> None:
    """Annotations with the label go too."""
    gone = {label.id} | {x.id for x in state.labels.values() if x.parent == label.id}
    for number in gone:
        del state.labels[number]
    for job in state.jobs.values():
        for rows in (job.annotations.tags, job.annotations.shapes, job.annotations.tracks):
            rows[:] = [row for row in rows if row["label_id"] not in gone]


def label_row(state: State, label: Label) -> Row:
    sublabels = [label_row(state, x) for x in state.labels.values() if x.parent == label.id]
    return {
        "id": label.id,
        "name": label.name,
        "color": label.color,
        "attributes": [
            {
                "id": a.id,
                "name": a.name,
                "mutable": a.mutable,
                "input_type": a.input_type,
                "default_value": a.default_value,
                "values": a.values,
            }
            for a in sorted(label.attributes, key=lambda a: a.name)  # seen on 2.15
        ],
        "type": label.type,
        "sublabels": sublabels,
        "parent_id": label.parent,
        "has_parent": label.parent is not None,
        **({"svg": label.svg} if label.type == "skeleton" else {}),
        **({"project_id": label.project} if label.project is not None else {"task_id": label.task}),
    }


def _listed(ctx: Context, label: Label) -> bool:
    if label.project is not None:
        return lists_project(ctx, ctx.state.projects[label.project])
    return lists_task(ctx, ctx.state.tasks[label.task or 0])


@route("GET", "/api/labels")
def list_labels(ctx: Context) -> Reply:
    """Of one project, task or job, or else all that the context shows."""
    state, query = ctx.state, ctx.query
    if "job_id" in query:
        task = state.tasks[get_job(ctx, int(query["job_id"])).task]
        found = state.labels_of(task)
    elif "task_id" in query:
        found = state.labels_of(get_task(ctx, int(query["task_id"])))
    elif "project_id" in query:
        project = get_project(ctx, int(query["project_id"]))
        found = [x for x in state.labels.values() if x.project == project.id]
    else:
        found = [x for x in state.labels.values() if _listed(ctx, x)]
    terms = {
        "id": lambda x: x.id,
        "name": lambda x: x.name,
        "type": lambda x: x.type,
        "color": lambda x: x.color,
        "parent": lambda x: state.labels[x.parent].name if x.parent else None,
    }
    return listing(ctx, [x for x in found if x.parent is None], terms, lambda x: label_row(state, x))


def _get(ctx: Context, number: int, change: bool = False) -> Label:
    label = ctx.state.labels.get(number)
    if label is None:
        raise ApiError(404, "Not found.")
    if label.project is not None:
        project = ctx.state.projects[label.project]
        may = manages(ctx, project.org) or owns_project(ctx, project) if change else sees_project(ctx, project)
    else:
        task = ctx.state.tasks[label.task or 0]
        may = is_staff(ctx, task) if change else sees_task(ctx, task)
    if not may:
        raise deny()
    return label


@route("GET", "/api/labels/{id}")
def one_label(ctx: Context, number: int) -> Reply:
    return Reply(200, label_row(ctx.state, _get(ctx, number)))


@route("PATCH", "/api/labels/{id}")
def patch_label(ctx: Context, number: int) -> Reply:
    label = _get(ctx, number, change=True)
    patch_labels(ctx.state, [{**ctx.json, "id": number}], project=label.project, task=label.task)
    return Reply(200, label_row(ctx.state, label))


@route("DELETE", "/api/labels/{id}")
def remove_label(ctx: Context, number: int) -> Reply:
    delete_label(ctx.state, _get(ctx, number, change=True))
    return Reply(204)
