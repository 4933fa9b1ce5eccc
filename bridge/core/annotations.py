"""The words of the house: items, what people and models said about them, and their shapes.

Geometry convention everywhere inside labelbridge: float pixels of the EXIF-oriented image, origin at the
top-left corner, x to the right, y down, boxes as half-open ``xyxy``. Each tool and each file format is
converted to and from this at its own edge.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, Literal

from bridge.errors import DataError

Xyxy = tuple[float, float, float, float]
#: Whether an image is among those that a model was trained on: ``in`` or ``out`` of its sample.
Sample = Literal["in", "out", "unknown"]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle ``x1, y1, x2, y2`` in pixels, turned by ``rotation`` degrees clockwise about its centre."""

    x1: float
    y1: float
    x2: float
    y2: float
    rotation: float = 0.0

    @property
    def xyxy(self) -> Xyxy:
        return (self.x1, self.y1, self.x2, self.y2)

    def problem(self) -> str | None:
        """Why this box cannot be scored, or None: a coordinate that is no finite number, or no area."""
        if not all(map(math.isfinite, (*self.xyxy, self.rotation))):
            return f"a coordinate is not a finite number: {self.xyxy}"
        if self.x2 <= self.x1 or self.y2 <= self.y1:
            return f"the box has no area: {self.x2 - self.x1:g} x {self.y2 - self.y1:g} px"
        return None


@dataclass(frozen=True, slots=True)
class Polygon:
    """A closed ring of ``(x, y)`` pixel points, at least three, not repeated at the end."""

    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Mask:
    """A full-frame binary mask as COCO's uncompressed run lengths.

    ``counts`` are lengths of alternating runs of 0 and 1, beginning with 0, in column-major order, and sum to
    ``height * width``.
    """

    height: int
    width: int
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tag:
    """A label of the whole item."""


@dataclass(frozen=True, slots=True)
class TextSpan:
    """Characters (Unicode code points) ``start`` (included) to ``end`` (excluded) of a text item.

    ``text`` is what stands there: so that a reader sees it, and a fix knows whether it still does.
    """

    start: int
    end: int
    text: str = ""

    def problem(self) -> str | None:
        """Why this span cannot be scored, or None: it lies before the text, or holds no character."""
        if self.start < 0:
            return f"the span begins at character {self.start}"
        if self.end <= self.start:
            return f"the span holds no character: {self.start} to {self.end}"
        return None


Shape = Box | Polygon | Mask | Tag | TextSpan

_SHAPES: dict[str, type[Shape]] = {"box": Box, "polygon": Polygon, "mask": Mask, "tag": Tag, "span": TextSpan}
_KINDS: dict[type[Shape], str] = {kind: name for name, kind in _SHAPES.items()}


def shape_to_list(shape: Shape) -> list[Any]:
    """A shape as a JSON-able list whose first entry names its kind."""
    kind = _KINDS[type(shape)]
    match shape:
        case Box():
            return [kind, *map(float, shape.xyxy), float(shape.rotation)]
        case Polygon():
            return [kind, [[float(x), float(y)] for x, y in shape.points]]
        case Mask():
            return [kind, shape.height, shape.width, list(shape.counts)]
        case TextSpan():
            return [kind, shape.start, shape.end, shape.text]
        case Tag():
            return [kind]


def shape_from_list(data: Sequence[Any]) -> Shape:
    """Inverse of :func:`shape_to_list`.

    Raises:
        DataError: the list names no known kind of shape.
    """
    kind, *rest = data
    if kind == "box":
        return Box(*rest)
    if kind == "polygon":
        return Polygon(tuple((float(x), float(y)) for x, y in rest[0]))
    if kind == "mask":
        return Mask(rest[0], rest[1], tuple(rest[2]))
    if kind == "span":
        return TextSpan(*rest)
    if kind == "tag":
        return Tag()
    raise DataError(f"unknown kind of shape {kind!r}", expected="one of " + ", ".join(_SHAPES))


@dataclass(frozen=True, slots=True)
class Item:
    """One image (or one frame of a task), or one text.

    Attributes:
        id: the tool's id, as text (Label Studio: the task id).
        name: what a person would call it: the file name without folders; of a text, how it begins.
        image: the tool's own reference to the image (URL or path); only the tool can read it. Empty for a text.
        width, height: pixels of the EXIF-oriented image; None when nobody has said so yet.
        split: which part of a dataset it is in, as :func:`bridge.core.splits.split_name` spells it; empty when nobody
            has said so.
        text: the text itself; None for an image.
    """

    id: str
    name: str
    image: str
    width: int | None = None
    height: int | None = None
    split: str = ""
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Relabeled:
    """An accepted fix that an object shows: its label, its place or the object itself came about by it.

    Attributes:
        finding, run: ids of the finding and of the run that found it last.
        model: whose predictions suggested the fix; empty where no model did.
        scorer: what found it.
        accepted_by, accepted_at: the reviewer, and the tool's own time of their verdict.
    """

    finding: str
    run: str
    model: str
    scorer: str
    accepted_by: str
    accepted_at: str


@dataclass(frozen=True, slots=True)
class Annotation:
    """One object as a person labelled it.

    Attributes:
        id: unique within the target, stable while the tool keeps the object.
        label: class name. Labels are matched by name, never by id.
        origin: ``manual``, or ``prediction`` (a suggestion accepted untouched), ``prediction-changed``.
        relabeled: the accepted fixes that it shows, as far as somebody has looked; no part of what makes two equal.
    """

    id: str
    label: str
    shape: Shape
    origin: Literal["manual", "prediction", "prediction-changed"] = "manual"
    relabeled: tuple[Relabeled, ...] = field(default=(), compare=False)

    @property
    def revision(self) -> str:
        """Digest of label and shape: equal exactly when nobody changed the object."""
        return revision_of(self.label, self.shape)


@dataclass(frozen=True, slots=True)
class Submission:
    """All objects one person submitted for one item: the unit that is scored.

    An empty ``annotations`` means the person said that nothing is there. An item that nobody has submitted
    has no Submission at all, and is never scored for missing objects.
    """

    id: str
    annotator: str
    annotations: tuple[Annotation, ...]


@dataclass(frozen=True, slots=True)
class Prediction:
    """One object as a model sees it; ``confidence`` is in [0, 1]."""

    label: str
    shape: Shape
    confidence: float
    model: str


@dataclass(frozen=True, slots=True)
class Probe:
    """A model's answer about one box that somebody drew; the label they gave it is no part of the question.

    Attributes:
        box: the box in question, which is not turned.
        chances: labels and their probabilities, those of none left out; what they lack to a sum of 1 is that no object
            of these labels is there.
        xyxy: where the model would draw the object.
    """

    box: Xyxy
    chances: tuple[tuple[str, float], ...]
    xyxy: Xyxy


@dataclass(frozen=True, slots=True)
class MapNote:
    """What is kept of a model's class map about one object; the map itself is far too large to keep.

    Attributes:
        kind: ``label``: an object that somebody outlined. ``proposal``: one that the model sees where nobody did. The
            others are planted to learn from: labels that are ``extra``, of the ``wrong_class``, ``imprecise``, and the
            proposals that an object leaves behind which was taken away in thought (``missing``).
        about: the annotation's id; of a proposal the submission's; empty for what is planted.
        label: the class that the model holds for likeliest beside the given one; of a proposal its class.
        numbers: what the scorer made of the map, in its own order; NaN where there is no number.
        shape: where the model sees the object; None where that says nothing new, or it is planted.
    """

    kind: Literal["label", "proposal", "extra", "wrong_class", "imprecise", "missing"]
    about: str
    label: str
    numbers: tuple[float, ...]
    shape: Shape | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the raw data that cannot be scored; becomes a finding of its own kind, never a crash.

    Attributes:
        kind: a data-check value of :class:`bridge.core.findings.ErrorType`.
        message: one sentence for a person.
        annotation_id: the object it is about; None when it is about the whole item.
    """

    kind: str
    message: str
    annotation_id: str | None = None
    submission_id: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """One item with all that is known about it.

    ``predicted_by`` names the models that have looked at the item: one that is here but has no prediction below
    found nothing, which is not the same as never having looked. ``samples`` tells for each of them whether it was
    trained on this image; empty where that is known of none. ``thumbnail`` are the bytes of
    :func:`bridge.core.fingerprints.thumbnail`, where somebody has opened the image; else empty. ``probes`` are the
    answers of the same model about boxes of the submissions, where it was asked, ``notes`` what its class map says
    about their outlines, where it makes one.
    """

    item: Item
    submissions: tuple[Submission, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    problems: tuple[Problem, ...] = ()
    predicted_by: tuple[str, ...] = ()
    samples: tuple[Sample, ...] = ()
    thumbnail: bytes = b""
    probes: tuple[Probe, ...] = ()
    notes: tuple[MapNote, ...] = ()

    @property
    def sample_of(self) -> dict[str, Sample]:
        """``samples`` by the model's name."""
        known: Sequence[Sample] = self.samples or ["unknown"] * len(self.predicted_by)
        return dict(zip(self.predicted_by, known, strict=True))


@dataclass(frozen=True, slots=True)
class LabelSet:
    """The class names of a target, in the tool's order, without repeats."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        repeated = sorted({n for n in self.names if self.names.count(n) > 1})
        if repeated:
            raise DataError(
                f"label names occur twice: {', '.join(repeated)}",
                expected="each label name once",
                todo="Rename or merge them in the tool's label configuration",
            )

    def index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}


def revision_of(label: str, shape: Shape) -> str:
    """16 hex digits over label and shape.

    Coordinates are rounded to 1/100 pixel first: tools that store percentages give them back with rounding
    noise far below that, and a person cannot move a corner by less.
    """
    return digest([label, _rounded(shape_to_list(shape), 2)])


#: Made once: building an encoder costs more than encoding a finding.
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: object, digits: int = 16) -> str:
    """The first ``digits`` hex digits of the SHA-256 of the value's canonical JSON."""
    return hashlib.sha256(_CANONICAL.encode(value).encode()).hexdigest()[:digits]


def _rounded(value: Any, places: int) -> Any:
    if isinstance(value, float):
        return round(value, places) + 0.0
    if isinstance(value, list):
        return [_rounded(v, places) for v in value]
    return value


def record_to_dict(record: Record) -> dict[str, Any]:
    """A record as JSON-able data: the form that snapshots keep."""
    item = record.item
    # An item keeps the form, and the snapshot the hash, that it had before there were splits and texts.
    more = [item.split] if item.split else []
    if item.text is not None:
        more = [item.split, item.text]
    objects = [a for s in record.submissions for a in s.annotations]
    relabeled = {a.id: [list(astuple(r)) for r in a.relabeled] for a in objects if a.relabeled}
    return {
        "item": [item.id, item.name, item.image, item.width, item.height, *more],
        "submissions": [
            [s.id, s.annotator, [[a.id, a.label, shape_to_list(a.shape), a.origin] for a in s.annotations]]
            for s in record.submissions
        ],
        "predictions": [[p.label, shape_to_list(p.shape), p.confidence, p.model] for p in record.predictions],
        "problems": [[p.kind, p.message, p.annotation_id, p.submission_id] for p in record.problems],
        "predicted_by": list(record.predicted_by),
        "samples": list(record.samples),
        "thumbnail": record.thumbnail.hex(),
        "probes": [probe_to_list(p) for p in record.probes],
        "notes": [note_to_list(n) for n in record.notes],
        # Not among the submissions: what people submitted stays the same work, whoever finds out where it came from.
        **({"relabeled": relabeled} if relabeled else {}),
    }


def record_from_dict(data: Mapping[str, Any]) -> Record:
    """Inverse of :func:`record_to_dict`."""

    def fixes(annotation_id: str) -> tuple[Relabeled, ...]:
        return tuple(Relabeled(*r) for r in data.get("relabeled", {}).get(annotation_id, ()))

    return Record(
        item=Item(*data["item"]),
        submissions=tuple(
            Submission(
                sid, who, tuple(Annotation(a, label, shape_from_list(s), o, fixes(a)) for a, label, s, o in objects)
            )
            for sid, who, objects in data["submissions"]
        ),
        predictions=tuple(Prediction(label, shape_from_list(s), c, m) for label, s, c, m in data["predictions"]),
        problems=tuple(Problem(*p) for p in data["problems"]),
        predicted_by=tuple(data["predicted_by"]),
        samples=tuple(data.get("samples", ())),
        thumbnail=bytes.fromhex(data.get("thumbnail", "")),
        # Older snapshots have neither.
        probes=tuple(map(probe_from_list, data.get("probes", ()))),
        notes=tuple(map(note_from_list, data.get("notes", ()))),
    )


def probe_to_list(probe: Probe) -> list[Any]:
    """A probe as JSON-able data."""
    return [list(probe.box), [list(chance) for chance in probe.chances], list(probe.xyxy)]


def probe_from_list(data: Sequence[Any]) -> Probe:
    """Inverse of :func:`probe_to_list`."""
    box, chances, xyxy = data
    return Probe(tuple(box), tuple((label, p) for label, p in chances), tuple(xyxy))


def note_to_list(note: MapNote) -> list[Any]:
    """A note as JSON-able data; numbers keep three digits behind the point."""
    numbers = [None if math.isnan(n) else round(n, 3) for n in note.numbers]
    return [note.kind, note.about, note.label, numbers, None if note.shape is None else shape_to_list(note.shape)]


def note_from_list(data: Sequence[Any]) -> MapNote:
    """Inverse of :func:`note_to_list`."""
    kind, about, label, numbers, shape = data
    known = tuple(math.nan if n is None else float(n) for n in numbers)
    return MapNote(kind, about, label, known, None if shape is None else shape_from_list(shape))


def snapshot_hash(records: Iterable[Record]) -> str:
    """SHA-256 (hex) over items and annotations in the given order; predictions, probes and notes do not count."""
    whole = hashlib.sha256()
    for record in records:
        data = record_to_dict(record)
        whole.update(digest([data["item"], data["submissions"]], 64).encode())
    return whole.hexdigest()
