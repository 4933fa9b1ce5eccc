"""One chart: of the first n findings of each method, how many are right."""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 860, 420, 60, 20, 230, 50
_COLOURS = ("#0b6e4f", "#08a045", "#1f77b4", "#d62728", "#ff7f0e", "#7f7f7f")
_POINTS = 200


@dataclass(frozen=True)
class Curve:
    """``hits`` (N,) bool in the order of review; ``errors``: how many there are to find."""

    name: str
    hits: npt.NDArray[np.bool_]
    errors: int


def chart(curves: list[Curve]) -> str:
    """An SVG: errors found over findings reviewed, up to twice as many findings as there are errors."""
    errors = max((c.errors for c in curves), default=0) or 1
    budget = 2 * errors
    across, down = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif"'
        ' font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<path d="M{_LEFT} {_TOP}V{_TOP + down}H{_LEFT + across}" fill="none" stroke="black"/>',
        f'<text x="{_LEFT + across / 2}" y="{_HEIGHT - 12}" text-anchor="middle">findings reviewed</text>',
        f'<text transform="translate(16 {_TOP + down / 2}) rotate(-90)" text-anchor="middle">errors found</text>',
    ]
    for share in (0.0, 0.5, 1.0):
        x, y = _LEFT + share * across, _TOP + down * (1 - share)
        parts.append(f'<text x="{x:.0f}" y="{_TOP + down + 18}" text-anchor="middle">{share * budget:.0f}</text>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">{share * errors:.0f}</text>')
    for k, curve in enumerate(curves):
        colour = _COLOURS[k % len(_COLOURS)]
        found = np.r_[0, np.cumsum(curve.hits)]
        reviewed = np.unique(np.linspace(0, min(budget, len(curve.hits)), _POINTS).astype(int))
        points = " ".join(
            f"{_LEFT + n / budget * across:.1f},{_TOP + down * (1 - min(1.0, found[n] / errors)):.1f}" for n in reviewed
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = _TOP + 14 + 20 * k
        parts.append(f'<text x="{_LEFT + across + 14}" y="{y}" fill="{colour}">{escape(curve.name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
