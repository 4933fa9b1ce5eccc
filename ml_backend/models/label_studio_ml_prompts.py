"""A prompt as Label Studio's editor sends it to such a model: the regions a person drew, in percent of the image."""

from __future__ import annotations

from collections.abc import Mapping

from bridge.core.annotations import Box
from bridge.dialects.label_studio import Control, LabelConfig, Region, Size, box_to_value
from ml_backend.models.interactor import Prompt


def prompt_regions(prompt: Prompt, config: LabelConfig, size: Size) -> list[Region]:
    """The prompt as the ``result`` of a context; empty where nothing in it says where on the image the object is.

    Boxes are cut to the image of ``size`` (width, height) and points beside it moved to its edge: code that looks up a
    pixel must find one.
    """
    width, height = size
    regions: list[Region] = []
    if prompt.box is not None:
        box = Box(max(prompt.box[0], 0), max(prompt.box[1], 0), min(prompt.box[2], width), min(prompt.box[3], height))
        if box.problem() is None:
            regions.append(_region(config, "rectangle", box_to_value(box, *size), size))
    if not regions and not prompt.positive:
        return []
    for positive, points in ((True, prompt.positive), (False, prompt.negative)):
        for x, y in points:
            inside = (min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0))
            value = {"x": inside[0] * 100 / width, "y": inside[1] * 100 / height, "width": 0.25}
            regions.append({**_region(config, "keypoint", value, size), "is_positive": positive})
    for number, region in enumerate(regions):
        region["id"] = f"prompt{number}"
    return regions


def _region(config: LabelConfig, shape: str, value: Mapping[str, float], size: Size) -> Region:
    control = _control(config, shape)
    label = next((name for c in (control, *config.media_controls) for name in c.labels), "")
    named = {"labels": [label], control.kind: [label]} if control.kind.endswith("labels") else {}
    return {
        "type": control.kind,
        "from_name": control.name,
        "to_name": config.media_name,
        "origin": "manual",
        "original_width": size[0],
        "original_height": size[1],
        "image_rotation": 0,
        "value": {**value, **named},
    }


def _control(config: LabelConfig, shape: str) -> Control:
    """The control a person would draw this prompt with; one made up where the configuration offers none."""
    fitting = [c for c in config.media_controls if c.kind in (shape, f"{shape}labels")]
    fitting.sort(key=lambda c: not c.smart)
    return fitting[0] if fitting else Control(shape, config.media_name, f"{shape}labels")
