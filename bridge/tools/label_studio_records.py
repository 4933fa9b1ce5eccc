"""A Label Studio task as a record: whose work, which objects, which predictions, what is wrong."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from bridge.core.annotations import Item, Prediction, Problem, Record, Submission
from bridge.core.findings import ErrorType
from bridge.core.splits import split_name, split_of_path
from bridge.dialects.label_studio import LabelConfig, Size, regions_to_annotations

Row = dict[str, Any]

_UPLOAD = re.compile(r"/data/upload/")
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-(?=.)")


def record_from_task(task: Row, config: LabelConfig, *, model: str | None, with_predictions: bool) -> Record:
    """Everything Label Studio knows about one task (listed with all fields).

    A submission is an annotation that was not skipped; drafts are none. Its id is the annotation's.
    """
    size: Size | None = None
    problems: list[Problem] = []
    submissions: list[Submission] = []
    for annotation in _dicts(task.get("annotations")):
        if annotation.get("was_cancelled"):
            continue
        submission_id = str(annotation.get("id"))
        result = annotation.get("result")
        objects, wrong, seen = regions_to_annotations([] if result is None else result, config, submission_id)
        submissions.append(Submission(submission_id, annotator(annotation), tuple(objects)))
        problems.extend(wrong)
        size = size or seen
    predictions: list[Prediction] = []
    models: dict[str, None] = {}
    for entry in _dicts(task.get("predictions")):
        if model is None or entry.get("model_version") == model:
            models[str(entry.get("model_version") or "")] = None
            found, seen = predictions_from_entry(entry, config)
            size = size or seen
            if with_predictions:
                predictions.extend(found)
    image = image_reference(task, config)
    if not image:
        message = f"the task's data has no image under {config.image_key!r}"
        problems.append(Problem(str(ErrorType.NO_IMAGE), message))
    width, height = size or (None, None)
    task_id = str(task.get("id"))
    item = Item(task_id, image_name(image) or f"task {task_id}", image, width, height, _split(task, image))
    predicted_by = tuple(models) if with_predictions else ()
    return Record(item, tuple(submissions), tuple(predictions), tuple(problems), predicted_by)


def predictions_from_entry(entry: Row, config: LabelConfig) -> tuple[list[Prediction], Size | None]:
    """The objects of one stored prediction. A region without a score of its own has that of the whole."""
    result = entry.get("result")
    objects, _, size = regions_to_annotations(result, config, "")
    whole = _confidence(entry.get("score"))
    scores: dict[str, float] = {}
    for region in _dicts(result):
        own = _confidence(region.get("score"))
        if own is not None:
            scores.setdefault(f":{region.get('id')}", own)
    model = str(entry.get("model_version") or "")
    fallback = 1.0 if whole is None else whole
    return [Prediction(o.label, o.shape, scores.get(o.id, fallback), model) for o in objects], size


def _confidence(score: object) -> float | None:
    """A score in [0, 1]; Label Studio stores whatever it is sent."""
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        return None
    return min(max(float(score), 0.0), 1.0)


def _split(task: Row, image: str) -> str:
    """The split that the task's data or meta data names under ``split`` or ``subset``, or a folder of the image."""
    for fields in (task.get("data"), task.get("meta")):
        if isinstance(fields, dict):
            named = split_name(fields.get("split")) or split_name(fields.get("subset"))
            if named:
                return named
    return split_of_path(unquote(image).replace("=", "/"))  # local files are named behind ?d=


def annotator(annotation: Row) -> str:
    """The e-mail address of who submitted it, else ``user ID``."""
    # "First Last mail@example.com, 7": the only place where a listing says more than a number.
    name, _, number = str(annotation.get("created_username") or "").rpartition(",")
    words = name.split()
    return words[-1] if words else f"user {number.strip() or annotation.get('completed_by')}"


def image_reference(task: Row, config: LabelConfig) -> str:
    """The task's own reference to its image; empty where there is none."""
    data = task.get("data")
    value = data.get(config.image_key) if isinstance(data, dict) else None
    return value if isinstance(value, str) else ""


def image_name(reference: str) -> str:
    """The file name a person knows: without folders, without the prefix that Label Studio gives to uploads."""
    if reference.startswith("data:"):
        return ""
    try:
        parts = urlsplit(reference)
    except ValueError:
        return reference[-80:]
    query = parse_qs(parts.query)
    if "d" in query and parts.path.endswith("/local-files/"):
        return PurePosixPath(unquote(query["d"][0])).name
    if "fileuri" in query:
        return image_name(_decoded(query["fileuri"][0]))
    name = PurePosixPath(unquote(parts.path)).name or reference
    return _UPLOAD_PREFIX.sub("", name) if _UPLOAD.search(parts.path) else name


def _decoded(text: str) -> str:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except ValueError:
        return unquote(text)


def _dicts(rows: object) -> Iterator[Row]:
    if isinstance(rows, list):
        yield from (row for row in rows if isinstance(row, dict))
