"""Label configurations of Label Studio: which controls a project has, and where a shape or a choice goes.

Pure: no I/O. Observed on Label Studio 1.23.2.
"""

from __future__ import annotations

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

    A configuration may show several images; labelbridge works with the first one only.

    Attributes:
        image_key: the key of the task's data that holds the image: ``image`` for ``value="$image"``.
        image_name: the name of the Image tag.
        controls: every control tag, for every object, in document order.
    """

    image_key: str
    image_name: str
    controls: tuple[Control, ...]

    @property
    def image_controls(self) -> tuple[Control, ...]:
        """The controls that work on the image."""
        return tuple(c for c in self.controls if self.image_name in c.to_name.split(","))

    @property
    def labels(self) -> LabelSet:
        """The labels that regions of the image can have, in document order; without choices."""
        names = (label for c in self.image_controls if c.kind.endswith("labels") for label in c.labels)
        return LabelSet(tuple(dict.fromkeys(names)))

    def control_for(self, kind: str, label: str | None = None) -> Control | None:
        """The first control of this kind on the image (and with this label), or None."""
        for control in self.image_controls:
            if control.kind == kind and (label is None or label in control.labels):
                return control
        return None

    @property
    def shape_controls(self) -> tuple[Control, ...]:
        """The controls on the image that take shapes which labelbridge can suggest, with labels or bare."""
        kinds = {kind for shape in SHAPES for kind in (shape, f"{shape}labels")}
        return tuple(c for c in self.image_controls if c.kind in kinds)

    @property
    def choices(self) -> tuple[Control, ...]:
        """The Choices that are made for the image as a whole."""
        return tuple(c for c in self.image_controls if c.kind == "choices" and not c.per_region)

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
        have = ", ".join(c.kind for c in self.image_controls) or "no control"
        raise DataError(
            f"the label configuration has no tag to draw a box labelled {label!r}: it has {have}",
            expected="RectangleLabels with that label, or Rectangle beside Labels",
            todo="Add the label in the project's labelling settings, or map the model's class to one of its labels",
        )


def parse_label_config(xml: str) -> LabelConfig:
    """Read a project's label configuration.

    Raises:
        DataError: it is no XML, or has no image that labelbridge can work with; says what was found.
    """
    root = _root(xml)
    tags = [(element.tag, {k.lower(): v for k, v in element.attrib.items()}, element) for element in root.iter()]
    image = next((attributes for tag, attributes, _ in tags if tag.lower() == "image"), None)
    if image is None:
        found = ", ".join(dict.fromkeys(tag for tag, _, _ in tags if tag.lower() != "view")) or "no tag at all"
        raise DataError(
            f"the label configuration shows no image: it has {found}",
            expected='an Image tag, as in <Image name="image" value="$image"/>',
            todo="Choose a project that labels images",
        )
    value, name = image.get("value", ""), image.get("name", "")
    if not name or not value.startswith("$") or len(value) < 2:
        shown = "valueList" if "valuelist" in image else f"value={value!r}"
        raise DataError(
            f"the Image tag of the label configuration has name={name!r} and {shown}",
            expected='one image per task, named by the task\'s data, as in <Image name="image" value="$image"/>',
            todo="Correct the project's labelling settings",
        )
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
    return LabelConfig(value[1:], name, controls)


def label_colours(xml: str) -> dict[str, str]:
    """The colour of each label that has one, as it is written in the configuration."""
    colours: dict[str, str] = {}
    for element in _root(xml).iter():
        colour = element.get("background")
        if element.tag.lower() == "label" and colour:
            colours.setdefault(element.get("alias") or element.get("value") or "", colour)
    return colours


def _root(xml: str) -> Element:
    try:
        return ElementTree.fromstring(xml)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise DataError(
            f"the label configuration is no usable XML: {error}",
            expected="a <View> with an Image tag",
            todo="Correct the project's labelling settings",
        ) from None


def _values(control: Element) -> tuple[str, ...]:
    children = (e for e in control.iter() if e.tag.lower() in ("label", "choice"))
    return tuple(value for e in children if (value := e.get("alias") or e.get("value")))
