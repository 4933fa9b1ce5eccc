"""Spans of characters: how much two of them share, and what remains of one without blanks and punctuation at its ends.

``char_f1`` is the F1 of SQuAD (Rajpurkar et al., 2016) over characters in place of words, each counted where it stands:
``2 * shared / (length of a + length of b)``. The two words that most boundary errors are about can be of any length,
and languages without blanks between words have it too.
"""

from __future__ import annotations

import unicodedata

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import Box, TextSpan

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def char_f1(a: Ints, b: Ints) -> Floats:
    """(N, M) float64 in [0, 1]: 1 for equal spans, 0 for spans that share no character, and for empty ones.

    Args:
        a, b: (N, 2) and (M, 2) int64, start and end in characters, half-open.
    """
    start = np.maximum(a[:, None, 0], b[None, :, 0])
    end = np.minimum(a[:, None, 1], b[None, :, 1])
    shared = np.maximum(0, end - start)
    total = (a[:, 1] - a[:, 0])[:, None] + (b[:, 1] - b[:, 0])[None, :]
    return np.where(shared > 0, 2 * shared / np.where(shared > 0, total, 1), 0.0)


def trimmed(span: TextSpan) -> TextSpan:
    """The span without blanks and punctuation at its ends; as it is where nothing else is in it."""
    if len(span.text) != span.end - span.start:
        return span  # nobody has said what stands there
    inner = [k for k, character in enumerate(span.text) if not _is_margin(character)]
    if not inner:
        return span
    first, last = inner[0], inner[-1] + 1
    return TextSpan(span.start + first, span.start + last, span.text[first:last])


def _is_margin(character: str) -> bool:
    return character.isspace() or unicodedata.category(character).startswith(("P", "Z"))


def box_of(span: TextSpan) -> Box:
    """A box one unit high: the IoU of such boxes is that of the characters."""
    return Box(float(span.start), 0.0, float(span.end), 1.0)
