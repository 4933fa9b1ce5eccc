"""Errors as people make them in instance masks, planted one to an object.

Of two images in five each object is wrong with a chance of ``RATE``. The kinds are drawn alike; a kind that an object
cannot have (a hole in one of five pixels, a merger without a neighbour) gives way to another::

    dropped    the label is taken away                      extra     a label of its form is put where nothing is
    dilated    grown by 12 to 25 % of its size              eroded    shrunk by as much
    shifted    moved by 25 to 50 % of its size              swapped   given another class
    hole       8 to 25 % of its pixels taken from within    fragment  a blob of 10 to 30 % put beside it
    merged     made one with a neighbour                    split     cut in two, each of a quarter at least

*Size* is the square root of the area; nothing moves by less than a pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from bridge.core.findings import ErrorType

Bools = npt.NDArray[np.bool_]

DIRTY = 0.4
RATE = 0.25
#: Each kind, and the findings that are right about it.
KINDS: dict[str, tuple[ErrorType, ...]] = {
    "dropped": (ErrorType.MISSING,),
    "extra": (ErrorType.EXTRA,),
    "swapped": (ErrorType.WRONG_CLASS,),
    "dilated": (ErrorType.IMPRECISE,),
    "eroded": (ErrorType.IMPRECISE,),
    "shifted": (ErrorType.IMPRECISE,),
    "hole": (ErrorType.IMPRECISE,),
    "fragment": (ErrorType.IMPRECISE,),
    "merged": (ErrorType.IMPRECISE, ErrorType.MISSING),
    "split": (ErrorType.IMPRECISE, ErrorType.EXTRA),
}
#: Pixels between two objects that somebody might take for one.
NEIGHBOURS = 3
_TRIES = 30


@dataclass
class Error:
    """``ids`` are the labels that are wrong now, ``truth`` the masks of the objects that are gone or merged."""

    kind: str
    image: str
    ids: list[str] = field(default_factory=list)
    truth: list[Bools] = field(default_factory=list)


@dataclass
class Sheet:
    """An image on the bench: its labels by id, and what was done to them."""

    image: str
    label: dict[str, tuple[str, Bools]]
    errors: list[Error]


def plant(
    image: str, masks: Sequence[Bools], kind: str, classes: Sequence[str], *, rate: float, rng: np.random.Generator
) -> Sheet:
    """The labels of one image, all of class ``kind``, each wrong with the chance ``rate``."""
    sheet = Sheet(image, {f"{image}-{k}": (kind, mask) for k, mask in enumerate(masks)}, [])
    untouched = [name for name in sheet.label if rng.random() < rate]
    wrong: set[str] = set()
    for name in untouched:
        if name in wrong:
            continue
        for error in rng.permutation(list(KINDS)).tolist():
            done = _make(error, sheet, name, masks, wrong, classes, rng)
            if done is not None:
                sheet.errors.append(done)
                wrong.update([name, *done.ids])
                break
    return sheet


def _make(
    kind: str,
    sheet: Sheet,
    name: str,
    masks: Sequence[Bools],
    wrong: set[str],
    classes: Sequence[str],
    rng: np.random.Generator,
) -> Error | None:
    """Give one label this error; None where it cannot have it."""
    label, mask = sheet.label[name]
    error = Error(kind, sheet.image, [name])
    if kind == "dropped":
        del sheet.label[name]
        return Error(kind, sheet.image, [], [mask])
    if kind == "swapped":
        sheet.label[name] = (str(rng.choice([c for c in classes if c != label])), mask)
    elif kind == "extra":
        place = _elsewhere(mask, masks, rng)
        if place is None:
            return None
        error.ids = [f"{name}-extra"]
        sheet.label[error.ids[0]] = (label, place)
    elif kind == "merged":
        near = _grown(mask, NEIGHBOURS)
        others = [o for o, (_, m) in sheet.label.items() if o != name and o not in wrong and (m & near).any()]
        if not others:
            return None
        other = str(rng.choice(others))
        error.truth = [mask, sheet.label.pop(other)[1]]
        disc = _disc(NEIGHBOURS)
        both = (error.truth[0] | error.truth[1]).astype(np.uint8)
        sheet.label[name] = (label, cv2.morphologyEx(both, cv2.MORPH_CLOSE, disc) > 0)
        wrong.add(other)
    elif kind == "split":
        halves = _halves(mask, rng)
        if halves is None:
            return None
        error.ids.append(f"{name}-half")
        sheet.label[name], sheet.label[error.ids[1]] = (label, halves[0]), (label, halves[1])
    else:
        changed = _CHANGES[kind](mask, rng)
        if changed is None or not changed.any():
            return None
        sheet.label[name] = (label, changed)
    return error


def _side(mask: Bools) -> float:
    return float(np.sqrt(mask.sum()))


def _disc(radius: int) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)), dtype=np.uint8)


def _grown(mask: Bools, radius: int) -> Bools:
    return np.asarray(cv2.dilate(mask.astype(np.uint8), _disc(radius)) > 0)


def _shrunk(mask: Bools, radius: int) -> Bools:
    return np.asarray(cv2.erode(mask.astype(np.uint8), _disc(radius), borderValue=0) > 0)


def _moved(mask: Bools, dx: int, dy: int) -> Bools:
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    rows, columns = rows + dy, columns + dx
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    out = np.zeros_like(mask)
    out[rows[inside], columns[inside]] = True
    return out


def _radius(mask: Bools, rng: np.random.Generator) -> int:
    return max(1, round(_side(mask) * float(rng.uniform(0.12, 0.25))))


def _shift(mask: Bools, rng: np.random.Generator) -> Bools:
    far, angle = max(1.0, _side(mask) * rng.uniform(0.25, 0.5)), rng.uniform(0, 2 * np.pi)
    return _moved(mask, round(far * np.cos(angle)), round(far * np.sin(angle)))


def _blob(shape: tuple[int, int], x: float, y: float, area: float) -> Bools:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.asarray((rows - y) ** 2 + (columns - x) ** 2 <= area / np.pi)


def _hole(mask: Bools, rng: np.random.Generator) -> Bools | None:
    within = _shrunk(mask, 1)
    rows, columns = np.nonzero(within)
    if len(rows) < 4:
        return None
    at = rng.integers(len(rows))
    gone = within & _blob(mask.shape, columns[at], rows[at], mask.sum() * rng.uniform(0.1, 0.25))
    return mask & ~gone if gone.sum() >= max(4, 0.08 * mask.sum()) else None


def _fragment(mask: Bools, rng: np.random.Generator) -> Bools | None:
    rows, columns = np.nonzero(mask)
    for _ in range(_TRIES):
        far, angle = _side(mask) * rng.uniform(1, 2), rng.uniform(0, 2 * np.pi)
        x, y = columns.mean() + far * np.cos(angle), rows.mean() + far * np.sin(angle)
        blob = _blob(mask.shape, x, y, mask.sum() * rng.uniform(0.1, 0.3))
        if blob.sum() >= max(4, 0.08 * mask.sum()) and not (blob & _grown(mask, 1)).any():
            return mask | blob
    return None


def _halves(mask: Bools, rng: np.random.Generator) -> tuple[Bools, Bools] | None:
    rows, columns = np.nonzero(mask)
    for _ in range(_TRIES):
        angle, at = rng.uniform(0, np.pi), rng.uniform(-0.2, 0.2) * _side(mask)
        side = (columns - columns.mean()) * np.cos(angle) + (rows - rows.mean()) * np.sin(angle) > at
        if 0.25 <= side.mean() <= 0.75 and len(rows) >= 16:
            one = np.zeros_like(mask)
            one[rows[side], columns[side]] = True
            return one, mask & ~one
    return None


def _elsewhere(mask: Bools, masks: Sequence[Bools], rng: np.random.Generator) -> Bools | None:
    taken = _grown(np.logical_or.reduce(masks), 1)
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    for _ in range(_TRIES):
        dy = int(rng.integers(-rows.min(), height - rows.max()))
        dx = int(rng.integers(-columns.min(), width - columns.max()))
        place = _moved(mask, dx, dy)
        if not (place & taken).any():
            return place
    return None


_CHANGES: dict[str, Callable[[Bools, np.random.Generator], Bools | None]] = {
    "dilated": lambda mask, rng: _grown(mask, _radius(mask, rng)),
    "eroded": lambda mask, rng: _shrunk(mask, _radius(mask, rng)),
    "shifted": _shift,
    "hole": _hole,
    "fragment": _fragment,
}
