"""Annotations of jobs and of tasks."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from fakes.cvat_server.permissions import get_job, get_task
from fakes.cvat_server.routing import ApiError, Context, Reply, route
from fakes.cvat_server.state import SHAPES, Annotations, Attribute, Job, Row, State
from fakes.cvat_server.versions import Version

KINDS = ("tags", "shapes", "tracks")


def kinds(version: Version) -> tuple[str, ...]:
    return (*KINDS, "intervals") if version.has_intervals else KINDS


class Desk:
    """Checks rows that come in and completes rows that go out."""

    def __init__(self, state: State, version: Version, job: Job) -> None:
        self.state, self.version, self.job = state, version, job
        self.labels = {label.id: label for label in state.labels_of(state.tasks[job.task])}

    # --- in ---------------------------------------------------------------------------------------------------------

    def clean(self, kind: str, row: Any) -> Row:
        """A row with what the server keeps of it: fields that it does not know are dropped in silence."""
        if not isinstance(row, dict):
            raise ApiError(400, {kind: [{"non_field_errors": ["Invalid data. Expected a dictionary."]}]})
        _require(kind, row, "frame", "label_id")
        self._check_label(row["label_id"])
        kept: Row = {**self._common(row), "attributes": self._attributes(row)}
        if kind == "shapes":
            _require(kind, row, "type")
            kept |= self._shape(row)
            if self.version.has_score:  # facts/cvat.md (c) Annotations: an older server drops the score
                kept["score"] = float(row.get("score", 1.0))
            if row["type"] == "skeleton":
                kept["elements"] = [self.clean("shapes", x) for x in row.get("elements") or []]
        elif kind == "tracks":
            kept["shapes"] = [self._tracked(row, shape) for shape in row.get("shapes") or []]
            kept["elements"] = [self.clean("tracks", x) for x in row.get("elements") or []]
        return kept

    def _common(self, row: Row) -> Row:
        if not isinstance(row["frame"], int) or row["frame"] < 0:
            raise ApiError(400, {"frame": ["Ensure this value is greater than or equal to 0."]})
        source = row.get("source", "manual")
        # facts/cvat.md (c) Annotations: any source of up to 16 characters is stored, a longer one breaks the server
        if len(source) > 16:
            raise ApiError(500, {"detail": "value too long for type character varying(16)"})
        known = {"id": row.get("id"), "frame": row["frame"], "label_id": row["label_id"]}
        return {**known, "group": row.get("group"), "source": source}

    def _shape(self, row: Row) -> Row:
        if row["type"] not in SHAPES:
            raise ApiError(400, {"type": [f'"{row["type"]}" is not a valid choice.']})
        points = row.get("points", [] if row["type"] == "skeleton" else None)
        if not isinstance(points, list) or not all(isinstance(x, int | float) for x in points):
            raise ApiError(400, {"points": ["expected a list of numbers"]})
        # facts/cvat.md (c) Annotations: neither the number of points nor the frame is checked against anything
        return {
            "type": row["type"],
            "occluded": bool(row.get("occluded")),
            "outside": bool(row.get("outside")),
            "z_order": int(row.get("z_order") or 0),
            "rotation": float(row.get("rotation") or 0),
            "points": [float(x) for x in points],
        }

    def _tracked(self, track: Row, row: Row) -> Row:
        _require("shapes", row, "frame", "type")
        attributes = self._attributes({"label_id": track["label_id"], "attributes": row.get("attributes")})
        return {"id": row.get("id"), "frame": row["frame"], **self._shape(row), "attributes": attributes}

    def _check_label(self, number: int) -> None:
        if number not in self.labels:  # facts/cvat.md (c) Annotations: an unknown label is refused
            raise ApiError(400, [f"label_id `{number}` is invalid"])

    def _attributes(self, row: Row) -> list[Row]:
        known = {attribute.id for attribute in self._specs(row)}
        kept = []
        for attribute in row.get("attributes") or []:
            if attribute.get("spec_id") not in known:
                raise ApiError(400, [f"spec_id `{attribute.get('spec_id')}` is invalid"])
            kept.append({"spec_id": attribute["spec_id"], "value": str(attribute.get("value", ""))})
        return kept

    def _specs(self, row: Row) -> list[Attribute]:
        label = self.labels.get(row["label_id"])
        return label.attributes if label else []

    # --- out --------------------------------------------------------------------------------------------------------

    def show(self, row: Row) -> Row:
        """A row as it is read: attributes that were not given have their default values."""
        shown = copy.deepcopy(row)
        given = {attribute["spec_id"] for attribute in row["attributes"]}
        for spec in self._specs(row):
            if spec.id not in given and ("shapes" not in row or not spec.mutable):
                shown["attributes"].append({"spec_id": spec.id, "value": spec.default_value})
        # seen on 2.15: the order of attributes changes from one reading to the next
        self.state.readings += 1
        if self.state.readings % 2:
            shown["attributes"].reverse()
        return shown

    # --- writing ----------------------------------------------------------------------------------------------------

    def create(self, rows: Mapping[str, list[Row]], keep_ids: bool = False) -> Row:
        """Stores clean rows; with new ids, unless they come with ids to keep."""
        created: Row = {}
        for kind in kinds(self.version):
            created[kind] = [self._numbered(kind, row, keep_ids) for row in rows.get(kind, [])]
            self.job.annotations.of(kind).extend(created[kind])
        return created

    def _numbered(self, kind: str, row: Row, keep_ids: bool) -> Row:
        # facts/cvat.md (c) Annotations: create gives new ids, update keeps the given ones
        row = copy.deepcopy(row)
        if row.get("id") is None or not keep_ids:
            # each table counts its own ids, so that a tag and a shape may have the same: not in the facts
            row["id"] = self.state.new_id({"tags": "tag", "shapes": "shape", "tracks": "track"}.get(kind, kind))
        for shape in row.get("shapes", []):
            shape["id"] = self.state.new_id("tracked shape")
        row["elements"] = [self._numbered(kind, x, keep_ids) for x in row.get("elements", [])]
        if kind == "tags":
            del row["elements"]
        return row

    def delete(self, rows: Mapping[str, list[Row]]) -> None:
        for kind in kinds(self.version):
            gone = {row["id"] for row in rows.get(kind, [])}
            stored = self.job.annotations.of(kind)
            stored[:] = [row for row in stored if row["id"] not in gone]


def _require(kind: str, row: Row, *names: str) -> None:
    missing = {name: ["This field is required."] for name in names if row.get(name) is None}
    if missing:
        raise ApiError(400, {kind: [missing]})


def _require_own(desk: Desk, kind: str, number: int) -> None:
    """Refuses to update what is in another job."""
    # seen on 2.15; what is in no job at all is made again, with its id
    others = (job for job in desk.state.jobs.values() if job is not desk.job)
    if any(row["id"] == number for job in others for row in job.annotations.of(kind)):
        raise ApiError(400, f"duplicate key value violates unique constraint\nDETAIL:  Key (id)=({number}) exists.\n")


def _read(ctx: Context, jobs: Iterable[Job]) -> Row:
    # facts/cvat.md (c) Annotations: the version is 0 for ever
    answer: Row = {"version": 0, **{kind: [] for kind in kinds(ctx.version)}}
    for job in jobs:
        desk = Desk(ctx.state, ctx.version, job)
        for kind in kinds(ctx.version):
            answer[kind] += [desk.show(row) for row in job.annotations.of(kind)]
    for rows in (answer[kind] for kind in kinds(ctx.version)):
        # seen on 2.15: by frame, and within a frame in any order; here never that of the ids
        rows.sort(key=lambda row: (row["frame"], -row["id"]))
    return answer


def _parts(ctx: Context, body: Row, jobs: list[Job], whole: bool) -> list[tuple[Desk, dict[str, list[Row]]]]:
    """The clean rows of a body for each job; all is checked before anything is written."""
    desks = [Desk(ctx.state, ctx.version, job) for job in jobs]
    parts: list[tuple[Desk, dict[str, list[Row]]]] = [(desk, {kind: [] for kind in KINDS}) for desk in desks]
    for kind in kinds(ctx.version):
        for given in body.get(kind) or []:
            row = desks[0].clean(kind, given)
            for desk, rows in parts:
                # facts/cvat.md (c) Annotations: a job takes any frame. A task drops what no job holds: not in the facts
                if not whole or desk.job.start <= row["frame"] <= desk.job.stop:
                    rows.setdefault(kind, []).append(row)
                    break
    return parts


def _write(ctx: Context, jobs: list[Job], whole: bool) -> Reply:
    action = ctx.query.get("action")
    if ctx.method == "PATCH" and action not in ("create", "update", "delete"):
        raise ApiError(400, ["Please specify a correct 'action' for the request"])
    body = ctx.json
    answer: dict[str, list[Row]] = {kind: [] for kind in kinds(ctx.version)}
    if not jobs:
        raise ApiError(400, ["The task has no jobs"])
    parts = _parts(ctx, body, jobs, whole)
    if action in ("update", "delete"):
        for desk, rows in parts:
            for kind in rows:
                for row in rows[kind]:
                    _require(kind, row, "id")
                    if action == "update":
                        _require_own(desk, kind, row["id"])
    for desk, rows in parts:
        if ctx.method == "PUT":  # facts/cvat.md (c) Annotations: PUT replaces all, under new ids
            desk.job.annotations = Annotations()
            done = desk.create(rows)
        elif action == "delete":
            desk.delete(rows)
            done = rows
        else:
            if action == "update":
                desk.delete(rows)
            done = desk.create(rows, keep_ids=action == "update")
        for kind in answer:
            answer[kind] += done.get(kind, [])
        if not whole or ctx.method == "PUT" or any(rows.values()):
            ctx.state.touch(desk.job)
    return Reply(200, {"version": 0, **answer})


def _task_jobs(ctx: Context, number: int) -> list[Job]:
    # the ground truth and replicas are apart from the task's annotations: not in the facts
    get_task(ctx, number)
    return [job for job in ctx.state.jobs_of(number) if job.type == "annotation"]


def _clear(ctx: Context, jobs: Iterable[Job]) -> Reply:
    for job in jobs:
        job.annotations = Annotations()
        ctx.state.touch(job)
    return Reply(204)


@route("GET", "/api/jobs/{id}/annotations")
def read_job(ctx: Context, number: int) -> Reply:
    return Reply(200, _read(ctx, [get_job(ctx, number)]))


@route("GET", "/api/tasks/{id}/annotations")
def read_task(ctx: Context, number: int) -> Reply:
    return Reply(200, _read(ctx, _task_jobs(ctx, number)))


@route("PATCH", "/api/jobs/{id}/annotations")
@route("PUT", "/api/jobs/{id}/annotations")
def write_job(ctx: Context, number: int) -> Reply:
    return _write(ctx, [get_job(ctx, number)], whole=False)


@route("PATCH", "/api/tasks/{id}/annotations")
@route("PUT", "/api/tasks/{id}/annotations")
def write_task(ctx: Context, number: int) -> Reply:
    return _write(ctx, _task_jobs(ctx, number), whole=True)


@route("DELETE", "/api/jobs/{id}/annotations")
def clear_job(ctx: Context, number: int) -> Reply:
    return _clear(ctx, [get_job(ctx, number)])


@route("DELETE", "/api/tasks/{id}/annotations")
def clear_task(ctx: Context, number: int) -> Reply:
    return _clear(ctx, _task_jobs(ctx, number))
