"""CVAT's label lists: names, ids, attributes, and which shapes a label takes.

Pure: no I/O. CVAT's annotations name labels and attributes by id; labelbridge matches by name. Everything here comes
from the answer of ``GET /api/labels``. A skeleton's parts are labels with ids of their own, but no class of the target.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.core.annotations import LabelSet
from bridge.dialects.cvat_functions import SCORE
from bridge.errors import DataError

#: What a label of the type ``any`` takes: everything but a skeleton, which needs parts.
ANY_TAKES = ("rectangle", "polygon", "mask", "ellipse", "polyline", "points", "cuboid", "tag")
#: Every type that a label can have.
TYPES = ("any", *ANY_TAKES, "skeleton")
#: Names of a text attribute that holds the confidence of a suggestion, the preferred one first.
_SCORE_NAMES = (SCORE, "confidence")


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute of a label.

    Attributes:
        spec_id: how shapes name it.
        input_type: ``text``, ``number``, ``select``, ``radio`` or ``checkbox``.
        mutable: whether it may change along a track.
        values: the choices; of a number its least, its largest and its step.
        default: what it has where a shape says nothing.
    """

    spec_id: int
    name: str
    input_type: str
    mutable: bool = False
    values: tuple[str, ...] = ()
    default: str = ""


@dataclass(frozen=True, slots=True)
class Label:
    """One label.

    Attributes:
        type: one of :data:`TYPES`; a type of a later CVAT stays as it is.
        parts: the labels of a skeleton's points.
    """

    id: int
    name: str
    type: str = "any"
    attributes: tuple[Attribute, ...] = ()
    parts: tuple[Label, ...] = ()

    @property
    def takes(self) -> tuple[str, ...]:
        """The types of shapes that a person could draw with it."""
        return ANY_TAKES if self.type == "any" else (self.type,)

    @property
    def score_attribute(self) -> Attribute | None:
        """The text attribute that holds the confidence: ``score``, else ``confidence``; None where there is none.

        Case and surrounding blanks do not count. A ``number`` will not do: CVAT takes whole numbers only there.
        """
        named = {a.name.strip().casefold(): a for a in reversed(self.attributes) if a.input_type == "text"}
        return next((named[name] for name in _SCORE_NAMES if name in named), None)


@dataclass(frozen=True, slots=True)
class CvatLabels:
    """The labels of a task or a project, in CVAT's order; build it with :func:`parse_labels`.

    Attributes:
        by_id: every label, a skeleton's parts included.
        by_name: without those parts.
    """

    labels: tuple[Label, ...]
    by_id: Mapping[int, Label]
    by_name: Mapping[str, Label]

    @property
    def names(self) -> LabelSet:
        """The class names of the target."""
        return LabelSet(tuple(label.name for label in self.labels))

    def name_of(self, label_id: object) -> str | None:
        """The name of a label that an annotation has; None where it is gone, or is no id."""
        label = self.by_id.get(label_id) if type(label_id) is int else None
        return None if label is None else label.name

    def require(self, name: str) -> Label:
        """The label of this name.

        Raises:
            DataError: there is none.
        """
        if name in self.by_name:
            return self.by_name[name]
        raise DataError(
            f"CVAT has no label {name!r}",
            expected=f"one of {', '.join(map(repr, self.by_name)) or 'its labels, of which there are none'}",
            todo="Add the label in CVAT, or map the model's class to one of its labels",
        )


def parse_labels(answer: object) -> CvatLabels:
    """Read the answer of ``GET /api/labels``: one page that holds all, or the list of all pages' ``results``.

    Raises:
        DataError: it is no list of labels, holds only some of them, or has a name or an id twice.
    """
    if isinstance(answer, Mapping):
        if answer.get("next"):
            raise DataError(
                "this is one page of several of the label list",
                expected="all labels at once",
                todo="Ask for page_size=all, or put the results of all pages together",
            )
        answer = answer.get("results")
    entries = [e for e in _objects(answer, "the label list") if not (e.get("has_parent") or e.get("parent_id"))]
    labels = tuple(map(_label, entries))
    every = [label for top in labels for label in (top, *top.parts)]
    by_id = {label.id: label for label in every}
    if len(by_id) < len(every):
        raise DataError("two labels of the list have one id", todo="Read the label list again")
    read = CvatLabels(labels, by_id, {label.name: label for label in labels})
    _ = read.names  # which refuses names that occur twice
    return read


def attribute_values(entries: object, label: Label | None) -> dict[str, str]:
    """What an annotation's ``attributes`` say, by name; those not mentioned have their default.

    One whose spec is not known goes by ``#<spec_id>``. Never raises, whatever ``entries`` holds.
    """
    known = () if label is None else label.attributes
    names = {a.spec_id: a.name for a in known}
    values = {a.name: a.default for a in known}
    for entry in _dicts(entries):
        spec = entry.get("spec_id")
        name = names.get(spec) if isinstance(spec, int) else None
        values[f"#{spec}" if name is None else name] = str(entry.get("value"))
    return values


def _label(entry: Mapping[str, Any]) -> Label:
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise DataError(f"a label's name is {name!r}", expected="a text that is not empty")
    attributes = _objects(entry.get("attributes") or [], f"the attributes of {name!r}")
    return Label(
        id=_id(entry, f"the label {name!r}"),
        name=name,
        type=str(entry.get("type") or "any"),
        attributes=tuple(_attribute(one, name) for one in attributes),
        parts=tuple(map(_label, _objects(entry.get("sublabels") or [], f"the parts of {name!r}"))),
    )


def _attribute(entry: Mapping[str, Any], label: str) -> Attribute:
    values = entry.get("values")
    return Attribute(
        spec_id=_id(entry, f"an attribute of {label!r}"),
        name=str(entry.get("name")),
        input_type=str(entry.get("input_type")),
        mutable=entry.get("mutable") is True,
        values=tuple(map(str, values)) if isinstance(values, list) else (),
        default=str(entry.get("default_value") or ""),
    )


def _id(entry: Mapping[str, Any], what: str) -> int:
    number = entry.get("id")
    if not isinstance(number, int) or isinstance(number, bool):
        raise DataError(f"the id of {what} is {number!r}", expected="a whole number")
    return number


def _objects(value: object, what: str) -> Sequence[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise DataError(f"{what} is no list of objects", expected="the answer of GET /api/labels")
    return value


def _dicts(value: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        yield from (one for one in value if isinstance(one, dict))
