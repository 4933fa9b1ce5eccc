"""Label Studio's own forms, gathered: label configurations, regions read, and regions written.

Shared by the tool (:mod:`bridge.tools.label_studio`) and by the model server, so they are pure: no I/O.
"""

from __future__ import annotations

from bridge.dialects.label_studio_config import (
    MAX_CONFIG,
    SHAPES,
    Control,
    LabelConfig,
    Media,
    Place,
    Shape,
    label_colours,
    parse_label_config,
)
from bridge.dialects.label_studio_regions import (
    Region,
    Size,
    box_from_value,
    box_to_value,
    geometry_entry,
    group_regions,
    mask_from_value,
    mask_to_value,
    polygon_from_value,
    polygon_to_value,
    region_label,
    region_size,
    regions_to_annotations,
    span_from_value,
    span_to_value,
)
from bridge.dialects.label_studio_results import (
    box_entries,
    box_region,
    choices_region,
    finite_score,
    mask_entries,
    polygon_entries,
    prediction_entry,
    rectangle_entries,
    span_region,
)

__all__ = [
    "MAX_CONFIG",
    "SHAPES",
    "Control",
    "LabelConfig",
    "Media",
    "Place",
    "Region",
    "Shape",
    "Size",
    "box_entries",
    "box_from_value",
    "box_region",
    "box_to_value",
    "choices_region",
    "finite_score",
    "geometry_entry",
    "group_regions",
    "label_colours",
    "mask_entries",
    "mask_from_value",
    "mask_to_value",
    "parse_label_config",
    "polygon_entries",
    "polygon_from_value",
    "polygon_to_value",
    "prediction_entry",
    "rectangle_entries",
    "region_label",
    "region_size",
    "regions_to_annotations",
    "span_from_value",
    "span_region",
    "span_to_value",
]
