"""Strategies for values that break things, shared by the property tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from bridge.core.annotations import (
    Annotation,
    Box,
    Item,
    Mask,
    Polygon,
    Prediction,
    Problem,
    Record,
    Submission,
    Tag,
    TextSpan,
)

#: Zero, minus zero, denormal, tiny, equal neighbours, huge, and what is no number at all.
UGLY = (0.0, -0.0, 5e-324, 1e-160, 1e-9, 0.1 + 0.2, 0.3, 1.0, 640.0, 1e8, 1e155, 1e300, 1.7e308, -1.0, -1e8, -1.7e308)
NO_NUMBERS = (float("nan"), float("inf"), float("-inf"))

finite = st.one_of(st.sampled_from(UGLY), st.floats(-1e4, 1e4), st.integers(-700, 700).map(float))
anything = st.one_of(finite, st.sampled_from(NO_NUMBERS))
confidences = st.one_of(st.sampled_from((0.0, 1e-9, 0.5, 0.95, 1.0)), st.floats(0, 1))
names = st.text(min_size=1, max_size=8)


def rows_of(values: st.SearchStrategy[float], width: int, rows: int) -> st.SearchStrategy[np.ndarray]:
    """(rows, width) float64."""
    return st.lists(values, min_size=rows * width, max_size=rows * width).map(
        lambda v: np.array(v, dtype=np.float64).reshape(rows, width)
    )


@st.composite
def good_boxes(draw: st.DrawFn, turned: bool = True) -> Box:
    """Boxes with area, in a frame small enough that they meet, on a grid coarse enough that they tie."""
    x, y = draw(st.integers(0, 30)), draw(st.integers(0, 30))
    w, h = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    scale = draw(st.sampled_from((1.0, 1.0, 1.0, 0.37)))
    rotation = draw(st.sampled_from((0.0, 0.0, 0.0, 30.0, 90.0, -45.0))) if turned else 0.0
    return Box(x * scale, y * scale, (x + w) * scale, (y + h) * scale, rotation)


ugly_boxes = st.builds(Box, anything, anything, anything, anything, anything)
polygons = st.lists(st.tuples(finite, finite), min_size=3, max_size=6).map(lambda p: Polygon(tuple(p)))
masks = st.integers(1, 9).flatmap(
    lambda h: st.integers(1, 9).flatmap(
        lambda w: st.integers(0, h * w).map(lambda n: Mask(h, w, (n, h * w - n) if n < h * w else (n,)))
    )
)
spans = st.tuples(st.integers(0, 99), st.integers(0, 99)).map(lambda t: TextSpan(*t))
shapes = st.one_of(st.builds(Box, finite, finite, finite, finite, finite), polygons, masks, spans, st.just(Tag()))

items = st.builds(Item, names, names, names, st.none() | st.integers(1, 9999), st.none() | st.integers(1, 9999))
annotations = st.builds(
    Annotation, names, names, shapes, st.sampled_from(("manual", "prediction", "prediction-changed"))
)
submissions = st.builds(Submission, names, names, st.lists(annotations, max_size=3).map(tuple))
predictions = st.builds(Prediction, names, shapes, confidences, names)
problems = st.builds(Problem, st.just("out_of_image"), names, st.none() | names, names)
records = st.builds(
    Record,
    items,
    st.lists(submissions, max_size=2).map(tuple),
    st.lists(predictions, max_size=3).map(tuple),
    st.lists(problems, max_size=2).map(tuple),
    st.lists(names, max_size=2).map(tuple),
    st.lists(st.sampled_from(("in", "out", "unknown")), max_size=2).map(tuple),
)
