"""Label configurations of Label Studio: which controls a project has, and where a shape or a choice goes.

Pure: no I/O. Observed on Label Studio 1.23.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from xml.etree.ElementTree import Element, ParseError

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from bridge.core.annotations import LabelSet
from bridge.errors import DataError

#: The shapes that labelbridge can suggest.
Shape = Literal["brush", "polygon", "rectangle"]
#: The same, the most exact first.
SHAPES: tuple[Shape, ...] = ("brush", "polygon", "rectangle")
#: What is labelled.
Media = Literal["image", "text"]

#: Characters of a configuration that is read; one with ten thousand labels has half as many.
MAX_CONFIG = 1_000_000

_EXAMPLES: dict[Media, str] = {
    "image": '<Image name="image" value="$image"/>',
    "text": '<Text name="text" value="$text"/>',
}
#: Attributes of a Text tag, and the value with which the task's data holds the text itself: no address, no code.
_PLAIN_TEXT = (("valuetype", "text"), ("encoding", "none"))


@dataclass(frozen=True, slots=True)
class Control:
    """One control tag of a label configuration.

    Attributes:
        kind: the tag in lower case, as in ``rectanglelabels`` or ``choices``.
        labels: the values of its ``Label`` or ``Choice`` children as results hold them: the alias where there is one.
        smart: whether the tag asks a model for suggestions.
        per_region: whether it says something about each region, not about the image.
        multiple: whether several choices can be made at once.
    """

    name: str
    to_name: str
    kind: str
    labels: tuple[str, ...] = ()
    smart: bool = False
    per_region: bool = False
    multiple: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where the regions of one label go.

    Attributes:
        shape: what they are.
        geometry: the control that holds the shape, as in BrushLabels, or Brush beside Labels.
        name: the control that holds the label: the same one but where a bare shape stands beside Labels.
        label: as results hold it; None for a bare shape without a label.
    """

    shape: Shape
    geometry: Control
    name: Control
    label: str | None

    @property
    def controls(self) -> tuple[Control, ...]:
        """The controls under which the region is written, one entry each."""
        return (self.geometry,) if self.name is self.geometry else (self.geometry, self.name)


@dataclass(frozen=True, slots=True)
class LabelConfig:
    """What of a label configuration matters to labelbridge.

    A configuration may show several images or texts; labelbridge works with the first image only, and where there is
    none with the first text.

    Attributes:
        media_key: the key of the task's data that holds the image or text: ``image`` for ``value="$image"``.
        media_name: the name of the Image or Text tag.
        controls: every control tag, for every object, in document order.
    """

    media_key: str
    media_name: str
    controls: tuple[Control, ...]
    media: Media = "image"

    @property
    def media_controls(self) -> tuple[Control, ...]:
        """The controls that work on the image or text."""
        return tuple(c for c in self.controls if self.media_name in c.to_name.split(","))

    @property
    def labels(self) -> LabelSet:
        """The labels that regions of the image or text can have, in document order; without choices."""
        names = (label for c in self.media_controls if c.kind.endswith("labels") for label in c.labels)
        return LabelSet(tuple(dict.fromkeys(names)))

    def control_for(self, kind: str, label: str | None = None) -> Control | None:
        """The first control of this kind on the image or text (and with this label), or None."""
        for control in self.media_controls:
            if control.kind == kind and (label is None or label in control.labels):
                return control
        return None

    @property
    def shape_controls(self) -> tuple[Control, ...]:
        """The controls on the image that take shapes which labelbridge can suggest, with labels or bare."""
        kinds = {kind for shape in SHAPES for kind in (shape, f"{shape}labels")}
        return tuple(c for c in self.media_controls if c.kind in kinds)

    @property
    def choices(self) -> tuple[Control, ...]:
        """The Choices that are made for the image as a whole."""
        return tuple(c for c in self.media_controls if c.kind == "choices" and not c.per_region)

    def place(self, label: str, shapes: tuple[Shape, ...] = SHAPES) -> Place | None:
        """Where regions of ``label`` go: as the first of ``shapes`` that a person could draw with it; None for none."""
        for shape in shapes:
            both = self.control_for(f"{shape}labels", label)
            if both:
                return Place(shape, both, both, label)
            geometry, name = self.control_for(shape), self.control_for("labels", label)
            if geometry and name:
                return Place(shape, geometry, name, label)
        return None

    def box_controls(self, label: str) -> tuple[Control, Control]:
        """The controls that hold the geometry and the label of a box: the same one for RectangleLabels.

        Raises:
            DataError: a person could not draw such a box with this configuration.
        """
        place = self.place(label, ("rectangle",))
        if place:
            return place.geometry, place.name
        have = ", ".join(c.kind for c in self.media_controls) or "no control"
        raise DataError(
            f"the label configuration has no tag to draw a box labelled {label!r}: it has {have}",
            expected="RectangleLabels with that label, or Rectangle beside Labels",
            todo="Add the label in the project's labelling settings, or map the model's class to one of its labels",
        )


def parse_label_config(xml: str, texts: bool = False) -> LabelConfig:
    """Read a project's label configuration.

    Args:
        texts: whether the caller can work with a text where there is no image.

    Raises:
        DataError: it is no XML, or has no image or text that labelbridge can work with; says what was found.
    """
    root = _root(xml)
    tags = [(element.tag, {k.lower(): v for k, v in element.attrib.items()}, element) for element in root.iter()]
    shown: dict[str, dict[str, str]] = {}
    for tag, attributes, _ in tags:
        shown.setdefault(tag.lower(), attributes)
    media: Media = "image" if "image" in shown or not texts else "text"
    if media not in shown:
        found = ", ".join(dict.fromkeys(tag for tag, _, _ in tags if tag.lower() != "view")) or "no tag at all"
        raise DataError(
            f"the label configuration shows no image{' or plain text' if texts else ''}: it has {found}",
            expected="a tag such as " + (" or ".join(_EXAMPLES.values()) if texts else _EXAMPLES["image"]),
            todo=f"Choose a project that labels images{' or plain texts' if texts else ''}",
        )
    value, name = _data_key(media, shown[media])
    controls = tuple(
        Control(
            name=attributes["name"],
            to_name=attributes["toname"],
            kind=tag.lower(),
            labels=_values(element),
            smart=attributes.get("smart", "").lower() == "true",
            per_region=attributes.get("perregion", "").lower() == "true",
            multiple=attributes.get("choice", "").lower() == "multiple",
        )
        for tag, attributes, element in tags
        if "name" in attributes and "toname" in attributes
    )
    return LabelConfig(value, name, controls, media)


def _data_key(media: Media, tag: Mapping[str, str]) -> tuple[str, str]:
    """The key of the task's data that holds what the tag shows, and the tag's name."""
    value, name = tag.get("value", ""), tag.get("name", "")
    odd = [f"{key}={tag[key]!r}" for key, plain in _PLAIN_TEXT if media == "text" and tag.get(key, plain) != plain]
    if name and value.startswith("$") and len(value) > 1 and not odd:
        return value[1:], name
    shown = "valueList" if "valuelist" in tag else " and ".join([f"value={value!r}", *odd])
    where = "named by" if media == "image" else "standing in"
    raise DataError(
        f"the {media.title()} tag of the label configuration has name={name!r} and {shown}",
        expected=f"one {media} per task, {where} the task's data, as in {_EXAMPLES[media]}",
        todo="Correct the project's labelling settings",
    )


def label_colours(xml: str) -> dict[str, str]:
    """The colour of each label that has one, as it is written in the configuration."""
    colours: dict[str, str] = {}
    for element in _root(xml).iter():
        colour = element.get("background")
        if element.tag.lower() == "label" and colour:
            colours.setdefault(element.get("alias") or element.get("value") or "", colour)
    return colours


def _root(xml: str) -> Element:
    if len(xml) > MAX_CONFIG:
        raise DataError(
            f"the label configuration has {len(xml):,} characters",
            expected=f"at most {MAX_CONFIG:,}",
            todo="Give the project fewer labels",
        )
    try:
        return ElementTree.fromstring(xml)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise DataError(
            f"the label configuration is no usable XML: {error}",
            expected="a <View> with an Image or Text tag",
            todo="Correct the project's labelling settings",
        ) from None


def _values(control: Element) -> tuple[str, ...]:
    children = (e for e in control.iter() if e.tag.lower() in ("label", "choice"))
    return tuple(value for e in children if (value := e.get("alias") or e.get("value")))
