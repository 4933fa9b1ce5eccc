"""Image files in and out: bytes to RGB pixels, sizes from headers, small crops for reports.

Everything that is not a usable image ends as :class:`~bridge.errors.ImageError`, whatever Pillow raised. Pillow's
process-wide switches (``MAX_IMAGE_PIXELS``, ``LOAD_TRUNCATED_IMAGES``) are left as they are.
"""

from __future__ import annotations

import base64
import io
import math
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from bridge.core.annotations import Xyxy
from bridge.errors import ImageError

#: Largest image that is decoded unless the caller says otherwise. A 100-megapixel camera frame fits: decoding it peaks
#: at 1.1 GB (11 bytes per pixel; 20 for WebP). Pillow itself refuses more than 178,956,970 pixels, whatever the limit.
MAX_PIXELS = 120_000_000

#: A side no longer than this. An image of one row takes a few kilobytes as a file, and as memory gigabytes wherever
#: somebody works column by column.
MAX_SIDE = 100_000

_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")

#: File name endings (lower case) of the formats above: what counts as an image when a folder is listed.
SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".mpo", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)

_EXIF_ORIENTATION = 0x0112
# warnings.catch_warnings swaps state of the whole process: two threads inside it at once could leave the wrong filters.
_WARNINGS = threading.Lock()


def decode(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """Decode an image file to (H, W, 3) uint8 RGB, turned upright by its EXIF orientation.

    Transparent pixels are laid over white. Of an animation the first frame counts. Grey images of 16 bits keep their
    upper 8, as browsers show them; images of 32-bit integers or floats, which have no customary range, are stretched
    from their smallest to their largest finite value.

    Args:
        data: the whole file.
        name: how messages call the image.
        max_pixels: width times height; larger images are refused by their header, before any pixel is decoded.

    Raises:
        ImageError: not an image, broken, cut short, or larger than ``max_pixels``.
    """
    pixels, orientation = _decoded(data, name, max_pixels)
    return np.ascontiguousarray(_upright(pixels, orientation))


def decode_small(data: bytes, name: str, side: int, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """Like :func:`decode`, and several times as fast for a large JPEG.

    That comes out at a half, a quarter or an eighth of its size, the smallest that leaves both sides ``side`` pixels.
    """
    pixels, orientation = _decoded(data, name, max_pixels, side)
    return np.ascontiguousarray(_upright(pixels, orientation))


def size_of(data: bytes, name: str = "the image") -> tuple[int, int]:
    """``(width, height)`` in pixels of the upright image, from the header only.

    Raises:
        ImageError: the header is that of no image. A file that is cut short behind its header passes.
    """
    with _opened(io.BytesIO(data), name, empty=not data) as (image, orientation):
        return _upright_size(image, orientation)


def size_of_file(path: Path, name: str = "") -> tuple[int, int]:
    """Like :func:`size_of`, reading no more of the file than its header.

    Raises:
        ImageError: the file cannot be opened, or is no image.
    """
    name = name or path.name
    try:
        with path.open("rb") as file, _opened(file, name, empty=path.stat().st_size == 0) as (image, orientation):
            return _upright_size(image, orientation)
    except OSError as error:
        raise ImageError(f"{name} cannot be read: {error.strerror or error}") from error


def crop_window(size: tuple[int, int], xyxy: Xyxy, margin: float, aspect: float) -> tuple[int, int, int, int]:
    """The part of an image to show around a box, as half-open whole pixels ``x1, y1, x2, y2``.

    The window is the box with ``margin`` times its longer side added all round, widened to ``aspect`` (width divided by
    height), then moved inside the image. It is never empty, never leaves the image, and is narrower than ``aspect``
    asks only where the image ends.

    Args:
        size: ``(width, height)`` of the image.
        xyxy: the box, finite; it may lie partly or wholly outside the image.
    """
    width, height = size
    x1, y1, x2, y2 = xyxy
    pad = margin * max(x2 - x1, y2 - y1, 1.0)
    wide, high = max(x2 - x1, 0.0) + 2 * pad, max(y2 - y1, 0.0) + 2 * pad
    wide, high = max(wide, high * aspect), max(high, wide / aspect)
    left, right = _span((x1 + x2) / 2, wide, width)
    top, bottom = _span((y1 + y2) / 2, high, height)
    return left, top, right, bottom


def crop_jpeg(array: npt.NDArray[np.uint8], window: tuple[int, int, int, int], side: int) -> bytes:
    """The window of an (H, W, 3) uint8 RGB image as a JPEG whose longer side is at most ``side`` pixels."""
    x1, y1, x2, y2 = window
    image = Image.fromarray(np.ascontiguousarray(array[y1:y2, x1:x2]))
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=82, optimize=True)
    return out.getvalue()


def to_data_uri(jpeg: bytes) -> str:
    """A JPEG file as a ``data:`` address that a page can show without loading anything."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def _span(centre: float, length: float, limit: int) -> tuple[int, int]:
    """Whole pixels ``[start, stop)`` of about ``length`` around ``centre``, inside ``[0, limit)``."""
    whole = max(1, min(limit, math.ceil(length)))
    start = min(max(math.floor(centre - whole / 2), 0), limit - whole)
    return start, start + whole


def _decoded(data: bytes, name: str, max_pixels: int, side: int | None = None) -> tuple[npt.NDArray[np.uint8], int]:
    """Pixels as stored, and the orientation still to be undone: a function of its own, so that Pillow's copy of the
    pixels is freed before another one is made."""
    with _opened(io.BytesIO(data), name, empty=not data) as (image, orientation):
        width, height = image.size
        if width * height > max_pixels:
            raise _too_large(name, f"{width} x {height} pixels ({width * height / 1e6:.1f} megapixels)", max_pixels)
        if max(width, height) > MAX_SIDE:
            raise ImageError(
                f"{name} has {width} x {height} pixels",
                expected=f"no side longer than {MAX_SIDE:,} pixels",
                todo="Cut the image into pieces",
            )
        try:
            if side is not None:
                image.draft(None, (side, side))  # the mode is kept
            return np.array(_to_rgb(image)), orientation
        except Exception as error:  # Pillow raises whatever its decoders meet: OSError, SyntaxError, struct.error, ...
            raise ImageError(
                f"{name} cannot be decoded: {error}",
                expected="a complete image file",
                todo="Open it in an image viewer; if it is broken there too, replace the file",
            ) from error


def _upright(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3) pixels turned as EXIF orientation 1 to 8 asks, as a view."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return pixels[rows, columns]


def _upright_size(image: Image.Image, orientation: int) -> tuple[int, int]:
    width, height = image.size
    return (height, width) if orientation >= 5 else (width, height)


@contextmanager
def _opened(file: BinaryIO, name: str, *, empty: bool) -> Iterator[tuple[Image.Image, int]]:
    """The image with its header read, and the orientation (1 to 8) that is still to be undone."""
    if empty:
        raise ImageError(f"{name} is an empty file (0 bytes)", todo="Copy the image again")
    try:
        with _WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.init()
            image = Image.open(file, formats=[kind for kind in _FORMATS if kind in Image.OPEN])
            orientation = _orientation(image)
    except Image.DecompressionBombError as error:
        raise _too_large(name, "more pixels than Pillow opens", 2 * (Image.MAX_IMAGE_PIXELS or 0)) from error
    except Exception as error:
        raise ImageError(
            f"{name} is not an image that can be read",
            expected="a JPEG, PNG, WebP, AVIF, TIFF, BMP, GIF, PPM or JPEG 2000 file",
            todo="Open it in an image viewer; convert or replace the file",
        ) from error
    with image:
        yield image, orientation


def _orientation(image: Image.Image) -> int:
    """EXIF orientation from what the header holds; 1 where it is absent or nonsense."""
    if image.format == "TIFF":
        return 1  # Pillow turns TIFF upright itself, in the size as in the pixels.
    try:
        # The method of the base class: PNG's own would decode the pixels first.
        value = Image.Image.getexif(image).get(_EXIF_ORIENTATION, 1)
    except Exception:  # broken EXIF is common, and no reason to refuse the pixels
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        return Image.fromarray(_stretched(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        over_white = Image.new("RGB", image.size, "white")
        over_white.paste(with_alpha, mask=with_alpha.getchannel("A"))
        return over_white
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")


def _stretched(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """(H, W) numbers of any range to uint8; what is not finite becomes black."""
    numbers = values.astype(np.float32)
    finite = np.isfinite(numbers)
    if not finite.any():
        return np.zeros(numbers.shape, np.uint8)
    low, high = float(numbers[finite].min()), float(numbers[finite].max())
    scaled = (np.where(finite, numbers, low) - low) * (255.0 / (high - low) if high > low else 0.0)
    return np.rint(scaled).astype(np.uint8)


def _too_large(name: str, found: str, limit: int) -> ImageError:
    return ImageError(
        f"{name} has {found}",
        expected=f"at most {limit / 1e6:.1f} megapixels (the setting max_image_pixels)",
        todo="Make the image smaller, or raise max_image_pixels where 20 bytes of memory per pixel are free",
    )
