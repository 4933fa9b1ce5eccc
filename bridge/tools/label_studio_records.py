"""A Label Studio task as a record: whose work, which objects, which predictions, what is wrong."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from textwrap import shorten
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from bridge.core.annotations import Item, Prediction, Problem, Record, Submission
from bridge.core.findings import ErrorType
from bridge.core.splits import split_name, split_of_path
from bridge.dialects.label_studio import LabelConfig, Size, regions_to_annotations

Row = dict[str, Any]

_NAME_LENGTH = 40
_UPLOAD = re.compile(r"/data/upload/")
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-(?=.)")


def record_from_task(task: Row, config: LabelConfig, *, model: str | None, with_predictions: bool) -> Record:
    """Everything Label Studio knows about one task (listed with all fields).

    A submission is an annotation that was not skipped; drafts are none. Its id is the annotation's.
    """
    size: Size | None = None
    text = text_of(task, config)
    problems: list[Problem] = []
    submissions: list[Submission] = []
    for annotation in _dicts(task.get("annotations")):
        if annotation.get("was_cancelled"):
            continue
        submission_id = str(annotation.get("id"))
        result = annotation.get("result")
        regions = [] if result is None else result
        objects, wrong, seen = regions_to_annotations(regions, config, submission_id, text or "")
        submissions.append(Submission(submission_id, annotator(annotation), tuple(objects)))
        problems.extend(wrong)
        size = size or seen
    predictions: list[Prediction] = []
    models: dict[str, None] = {}
    for entry in _dicts(task.get("predictions")):
        if model is None or entry.get("model_version") == model:
            models[str(entry.get("model_version") or "")] = None
            found, seen = predictions_from_entry(entry, config, text or "")
            size = size or seen
            if with_predictions:
                predictions.extend(found)
    if not _media_value(task, config):
        kind = ErrorType.NO_TEXT if config.media == "text" else ErrorType.NO_IMAGE
        problems.append(Problem(str(kind), f"the task's data has no {config.media} under {config.media_key!r}"))
    width, height = size or (None, None)
    task_id, image = str(task.get("id")), image_reference(task, config)
    name = image_name(image) if text is None else _beginning(text)
    item = Item(task_id, name or f"task {task_id}", image, width, height, _split(task, image), text)
    predicted_by = tuple(models) if with_predictions else ()
    return Record(item, tuple(submissions), tuple(predictions), tuple(problems), predicted_by)


def predictions_from_entry(entry: Row, config: LabelConfig, text: str = "") -> tuple[list[Prediction], Size | None]:
    """The objects of one stored prediction. A region without a score of its own has that of the whole."""
    result = entry.get("result")
    objects, _, size = regions_to_annotations(result, config, "", text)
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
    return _media_value(task, config) if config.media == "image" else ""


def text_of(task: Row, config: LabelConfig) -> str | None:
    """The task's text, empty where it has none; None where the configuration shows an image."""
    return _media_value(task, config) if config.media == "text" else None


def _media_value(task: Row, config: LabelConfig) -> str:
    data = task.get("data")
    value = data.get(config.media_key) if isinstance(data, dict) else None
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


def _beginning(text: str) -> str:
    """The first words of a text, on one line."""
    return shorten(text, _NAME_LENGTH, placeholder=" …")


def _decoded(text: str) -> str:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except ValueError:
        return unquote(text)


def _dicts(rows: object) -> Iterator[Row]:
    if isinstance(rows, list):
        yield from (row for row in rows if isinstance(row, dict))
