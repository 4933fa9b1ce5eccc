"""Binary masks as run lengths, in three dialects.

In memory a mask is a (H, W) bool array, True where the object is; stored it is a :class:`Mask` (COCO's uncompressed
counts). The dialects:

*COCO*: lengths of alternating runs of 0 and 1, beginning with 0, column by column; optionally squeezed into a string
of printable characters (:func:`coco_string`).

*Label Studio brush*: the ``H * W * 4`` bytes of the RGBA image, row by row, as a bit stream of four run sizes (the
"rle-pack" of thi.ng/umbrella), given as a list of byte values. The mask is in the alpha byte: 0 or 255.

*CVAT*: lengths of alternating runs of 0 and 1, beginning with 0, row by row inside the object's bounding box, then the
box itself: left, top, right, bottom, both corners included.

Every decoder raises ``DataError`` for malformed input, before it allocates anything the input asks for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bridge.core.annotations import Mask
from bridge.core.masks import MaskCrop
from bridge.errors import DataError

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: More pixels than any photograph has; what claims more is damaged or hostile.
MAX_PIXELS = 1 << 28

#: Label Studio's run sizes in bits, smallest first: the only ones that it writes. A decoder takes any.
_BRUSH_SIZES = (3, 4, 8, 16)
_BRUSH_HEADER_BITS = 32 + 5 + 4 * 4
_BRUSH_VALUE_BITS = 8
#: Runs packed into bits at a time; each takes about 400 bytes meanwhile.
_BRUSH_RUNS = 65_536


def encode_coco(mask: Bools) -> Mask:
    """A (H, W) bool array as COCO run lengths."""
    height, width = mask.shape
    return Mask(height, width, tuple(_runs(mask.ravel(order="F")).tolist()))


def decode_coco(mask: Mask) -> Bools:
    """COCO run lengths as a (H, W) bool array.

    Raises:
        DataError: a length is negative, or they do not sum to ``height * width``.
    """
    _check_frame(mask.height, mask.width)
    flat = _from_runs(mask.counts, mask.height * mask.width, "the COCO run lengths")
    return flat.reshape(mask.width, mask.height).T


def coco_string(counts: Sequence[int]) -> str:
    """COCO's compressed form: from the fourth on, each length minus the one two before it, in groups of five bits."""
    values = np.array(counts, dtype=np.int64)
    values[3:] -= values[1:-2].copy()
    # A value fits into `groups` groups when it is within half of their range, the top bit being its sign.
    groups = np.ones(len(values), dtype=np.int64)
    while (short := _does_not_fit(values, groups)).any():
        groups += short
    place = np.arange(groups.sum()) - np.repeat(np.cumsum(groups) - groups, groups)
    bits = (np.repeat(values, groups) >> (5 * place)) & 0x1F
    bits[place < np.repeat(groups, groups) - 1] |= 0x20
    return bytes((bits + 48).astype(np.uint8)).decode("ascii")


def coco_counts(text: str) -> tuple[int, ...]:
    """Inverse of :func:`coco_string`.

    Raises:
        DataError: a character that cannot occur, a value that is cut off, or one beyond 2**40.
    """
    if not text:
        return ()
    codes = np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((codes & 0x20) == 0)
    starts = np.r_[0, ends[:-1] + 1]
    if codes.min() < 0 or codes.max() > 0x3F or not len(ends) or ends[-1] != len(codes) - 1:
        raise DataError("the compressed COCO mask is damaged", expected="groups of the characters '0' to 'o'")
    groups = ends - starts + 1
    if groups.max() > 8:
        raise DataError("the compressed COCO mask holds a run beyond 2**40 pixels")
    place = np.arange(len(codes)) - np.repeat(starts, groups)
    values = np.add.reduceat((codes & 0x1F) << (5 * place), starts)
    values -= np.where(codes[ends] & 0x10, np.int64(1) << (5 * groups), 0)
    # Each length was written minus the one two before it: the odd and the even ones are running sums.
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return tuple(values.tolist())


def encode_brush(mask: Bools) -> list[int]:
    """A (H, W) bool array as Label Studio's brush run lengths: bytes, each 0 to 255."""
    _check_frame(*mask.shape)
    return _pack_brush(_runs(mask.ravel()), mask.size)


def encode_brush_crop(mask: MaskCrop, height: int, width: int) -> list[int]:
    """As :func:`encode_brush`, for the mask on the whole image of ``height`` x ``width``, at the cost of its crop only.

    What lies outside of the image is cut off.
    """
    _check_frame(height, width)
    bits = mask.bits[: max(height - mask.top, 0), : max(width - mask.left, 0)]
    rows, columns = bits.shape
    framed = np.zeros((rows, columns + 2), dtype=np.bool_)
    framed[:, 1:-1] = bits
    row, column = np.divmod(np.flatnonzero(framed[:, 1:] != framed[:, :-1]), columns + 1)
    edges = (mask.top + row) * width + mask.left + column
    # Where a run ends with its row and another begins with the next row, they are one.
    joints = np.flatnonzero(edges[1:] == edges[:-1])
    edges = np.delete(edges, np.concatenate([joints, joints + 1]))
    return _pack_brush(np.diff(np.concatenate([[0], edges, [height * width]])), height * width)


def decode_brush(rle: Sequence[int], height: int, width: int) -> Bools:
    """Label Studio's brush run lengths as a (H, W) bool array: True where alpha is at least 128.

    Args:
        rle: bytes, each 0 to 255.
        height, width: ``original_height`` and ``original_width`` of the region, pixels.

    Raises:
        DataError: the stream is not one of ``height * width * 4`` bytes, ends too early, or runs over its end.
    """
    _check_frame(height, width)
    try:
        data = bytes(rle)
    except (TypeError, ValueError) as error:
        raise DataError(f"the brush mask is no list of bytes: {error}", expected="whole numbers 0 to 255") from None
    header = int.from_bytes(data[:7], "big") >> 3
    count, word, sizes = header >> 21, (header >> 16 & 0x1F) + 1, [(header >> s & 0xF) + 1 for s in (12, 8, 4, 0)]
    if len(data) < 7 or count != height * width * 4:
        raise DataError(
            f"the brush mask holds {count if len(data) >= 7 else 'no'} values",
            expected=f"{height} x {width} x 4 = {height * width * 4}",
        )
    if word != _BRUSH_VALUE_BITS:
        raise DataError(f"the brush mask has values of {word} bits", expected=f"{_BRUSH_VALUE_BITS} bits")
    rgba = _brush_bytes(data, count, sizes)
    return (rgba[3::4] >= 128).reshape(height, width)


def encode_cvat(mask: Bools) -> list[int]:
    """A (H, W) bool array as CVAT's run lengths and inclusive box.

    Raises:
        DataError: the mask is empty: CVAT has no form for that.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        raise DataError("an empty mask has no CVAT form", todo="Leave the object out")
    top, bottom, left, right = int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])
    crop = mask[top : bottom + 1, left : right + 1]
    return [*_runs(crop.ravel()).tolist(), left, top, right, bottom]


def decode_cvat(points: Sequence[float], height: int, width: int) -> Bools:
    """CVAT's run lengths and inclusive box as a (H, W) bool array.

    Args:
        points: the run lengths, then left, top, right, bottom; CVAT's API gives whole numbers as floats.
        height, width: of the frame, pixels.

    Raises:
        DataError: a number is not whole, the box leaves the frame, or the runs do not fill the box.
    """
    _check_frame(height, width)
    numbers = np.array(points, dtype=np.float64)
    if (
        len(numbers) < 5
        or not (np.isfinite(numbers) & (np.abs(numbers) < 2**53) & (numbers == np.trunc(numbers))).all()
    ):
        raise DataError(
            "the CVAT mask is no list of whole numbers", expected="run lengths, then left, top, right, bottom"
        )
    *counts, left, top, right, bottom = (int(n) for n in numbers)
    if not (0 <= left <= right < width and 0 <= top <= bottom < height):
        raise DataError(
            f"the CVAT mask's box is {left}, {top}, {right}, {bottom}",
            expected=f"a box inside of {width} x {height} px",
        )
    box = (bottom - top + 1, right - left + 1)
    mask = np.zeros((height, width), dtype=np.bool_)
    runs = _from_runs(counts, box[0] * box[1], "the CVAT run lengths")
    mask[top : bottom + 1, left : right + 1] = runs.reshape(box)
    return mask


def _check_frame(height: int, width: int) -> None:
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise DataError(f"a mask cannot be {width} x {height} px", expected=f"1 to {MAX_PIXELS} pixels")


def _runs(flat: Bools) -> Ints:
    """Lengths of alternating runs, beginning with the (possibly empty) run of False."""
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    start = [0, 0] if flat.size and flat[0] else [0]
    return np.asarray(np.diff(np.concatenate([start, edges, [flat.size]])), dtype=np.int64)


def _from_runs(counts: Sequence[int], size: int, what: str) -> Bools:
    """Inverse of :func:`_runs`, after checking that the lengths fill ``size``."""
    # Python's own sum, because a hostile number must not wrap around.
    if any(n < 0 for n in counts) or sum(counts) != size:
        raise DataError(f"{what} sum to {sum(counts)} or include a negative one", expected=f"{size} pixels in all")
    lengths = np.array(counts, dtype=np.int64)
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)


def _does_not_fit(values: Ints, groups: Ints) -> Bools:
    half = np.int64(1) << (5 * groups - 1)
    return (values < -half) | (values >= half)


def _pack_brush(lengths: Ints, pixels: int) -> list[int]:
    """Lengths of alternating runs of ``pixels`` pixels in all, beginning with the (possibly empty) run of False."""
    values = np.where(np.arange(len(lengths)) % 2, 255, 0)
    lengths, values = lengths[lengths > 0] * 4, values[lengths > 0]
    # A run longer than the largest size can say becomes several.
    limit = 1 << _BRUSH_SIZES[-1]
    pieces = -(-lengths // limit)
    last = np.cumsum(pieces) - 1
    remainder = lengths - (pieces - 1) * limit
    lengths, values = np.full(pieces.sum(), limit), np.repeat(values, pieces)
    lengths[last] = remainder
    return np.packbits(_brush_bits(pixels * 4, lengths, values)).tolist()


def _brush_bits(count: int, lengths: Ints, values: Ints) -> npt.NDArray[np.uint8]:
    """The header, then one repeated run each: bit 1, two bits of size, the length minus one, the value."""
    header = count
    for bits, field in ((5, _BRUSH_VALUE_BITS - 1), *((4, size - 1) for size in _BRUSH_SIZES)):
        header = header << bits | field
    parts = [_bits_of(np.array([header]), np.array([_BRUSH_HEADER_BITS]))]
    sizes = np.array(_BRUSH_SIZES)
    for at in range(0, len(lengths), _BRUSH_RUNS):
        length, value = lengths[at : at + _BRUSH_RUNS], values[at : at + _BRUSH_RUNS]
        which = np.searchsorted(1 << sizes, length)
        code = ((4 | which) << sizes[which] | (length - 1)) << _BRUSH_VALUE_BITS | value
        parts.append(_bits_of(code, 3 + sizes[which] + _BRUSH_VALUE_BITS))
    return np.concatenate(parts)


def _bits_of(codes: Ints, widths: Ints) -> npt.NDArray[np.uint8]:
    """The lowest ``widths[k]`` bits of ``codes[k]``, highest first, one after the other."""
    ends = np.cumsum(widths)
    shift = np.repeat(ends, widths) - 1 - np.arange(ends[-1])
    return ((np.repeat(codes, widths) >> shift) & 1).astype(np.uint8)


def _brush_bytes(data: bytes, count: int, sizes: Sequence[int]) -> npt.NDArray[np.uint8]:
    """The ``count`` values of the stream behind its header."""
    # Zeros behind the end let every read take whole words; `end` tells when one went too far.
    end, padded = len(data) * 8, data + bytes(8)
    raw = np.frombuffer(padded, dtype=np.uint8)
    out = np.empty(count, dtype=np.uint8)
    done, at = 0, _BRUSH_HEADER_BITS
    while done < count:
        if at >= end:
            raise DataError(f"the brush mask ends after {done} of {count} values")
        # Flag, size, length and value take 27 bits at most, and up to 7 bits of the first byte are past.
        window = int.from_bytes(padded[at >> 3 : (at >> 3) + 5], "big") << (at & 7) & 0xFFFFFFFFFF
        size = sizes[window >> 37 & 3]
        length = (window >> (37 - size) & (1 << size) - 1) + 1
        at += 3 + size
        stop = done + length
        repeats = window >> 39
        bits = _BRUSH_VALUE_BITS * (1 if repeats else length)
        if stop > count or at + bits > end:
            raise DataError(f"the brush mask is damaged after {done} of {count} values")
        if repeats:
            out[done:stop] = window >> (37 - size - _BRUSH_VALUE_BITS) & 0xFF
        else:
            word = raw[at >> 3 : (at >> 3) + length + 1].astype(np.uint16)
            out[done:stop] = (word[:-1] << 8 | word[1:]) >> (8 - (at & 7)) & 0xFF
        done, at = stop, at + bits
    return out
