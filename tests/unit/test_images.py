"""bridge.images: every kind of file becomes upright RGB, or an ImageError that names it."""

from __future__ import annotations

import contextlib
import io
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from bridge import images
from bridge.errors import ImageError
from bridge.images import crop_jpeg, crop_window, decode, size_of, size_of_file, to_data_uri


def file_of(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def picture(width: int = 40, height: int = 24) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([columns * 6 % 256, rows * 10 % 256, (rows + columns) % 256], 2).astype(np.uint8))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP", "JPEG2000"])
def test_lossless_files_come_back_exactly(kind: str) -> None:
    data = file_of(picture(), kind, **({"lossless": True} if kind == "WEBP" else {}))
    array = decode(data, "a")
    assert array.dtype == np.uint8
    assert array.flags.writeable
    assert array.flags.c_contiguous
    np.testing.assert_array_equal(array, np.asarray(picture()))
    assert size_of(data) == (40, 24)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_undone_and_the_header_agrees(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = file_of(picture(), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    np.testing.assert_array_equal(decode(data, "a"), expected)
    assert size_of(data) == (expected.shape[1], expected.shape[0])
    assert size_of(data) == ((24, 40) if orientation >= 5 else (40, 24))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_nonsense_orientation_is_ignored(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = file_of(picture(), "JPEG", exif=exif)
    assert decode(data, "a").shape == (24, 40, 3)
    assert size_of(data) == (40, 24)


def test_broken_exif_does_not_stop_the_pixels() -> None:
    data = file_of(picture(), "JPEG", exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff" + b"\x12\x01\x03\x00\xff" * 9)
    assert decode(data, "a").shape == (24, 40, 3)
    assert size_of(data) == (40, 24)


def test_16_bit_grey_keeps_its_upper_bits() -> None:
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    for kind in ("PNG", "TIFF"):
        array = decode(file_of(Image.fromarray(values), kind), "a")
        assert array[0, :, 0].tolist() == [0, 0, 1, 128, 255]
        assert (array == array[:, :, :1]).all()


def test_wide_numbers_are_stretched_and_what_is_not_finite_is_black() -> None:
    floats = np.array([[np.nan, -1.0, 0.0, 1.0, np.inf]], np.float32)
    assert decode(file_of(Image.fromarray(floats), "TIFF"), "a")[0, :, 1].tolist() == [0, 0, 128, 255, 0]
    flat = np.full((2, 2), 7.5, np.float32)
    assert decode(file_of(Image.fromarray(flat), "TIFF"), "a").tolist() == np.zeros((2, 2, 3)).tolist()
    nothing = np.full((1, 2), np.nan, np.float32)
    assert decode(file_of(Image.fromarray(nothing), "TIFF"), "a").max() == 0


def test_grey_bits_palette_and_cmyk_become_rgb() -> None:
    assert decode(file_of(Image.new("L", (2, 1), 77), "PNG"), "a").tolist() == [[[77] * 3] * 2]
    assert decode(file_of(Image.new("1", (1, 1), 1), "PNG"), "a").tolist() == [[[255] * 3]]
    palette = Image.new("P", (1, 1), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert decode(file_of(palette, "PNG"), "a").tolist() == [[[10, 20, 30]]]
    cmyk = decode(file_of(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100), "a")[4, 4]
    assert cmyk[0] > 240
    assert cmyk[1:].max() < 15


def test_transparency_lies_over_white() -> None:
    half = file_of(Image.new("RGBA", (1, 1), (0, 0, 0, 127)), "PNG")
    assert decode(half, "a")[0, 0, 0] == pytest.approx(128, abs=1)
    gone = file_of(Image.new("RGBA", (1, 1), (9, 9, 9, 0)), "WEBP", lossless=True, exact=True)
    assert decode(gone, "a").tolist() == [[[255] * 3]]
    grey = file_of(Image.new("LA", (1, 1), (0, 0)), "PNG")
    assert decode(grey, "a").tolist() == [[[255] * 3]]
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    data = file_of(palette, "PNG", transparency=b"\x00\xff")
    assert decode(data, "a").tolist() == [[[255] * 3, [40, 50, 60]]]


def test_of_an_animation_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        extra = {"lossless": True} if kind == "WEBP" else {}
        data = file_of(frames[0], kind, save_all=True, append_images=frames[1:], **extra)
        assert decode(data, "a")[0, 0].tolist() == [255, 0, 0], kind


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"not an image", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"<svg/>", b"%PDF-1.4\n"]
)
def test_what_is_no_image_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"cells/7\.jpg"):
        decode(data, "cells/7.jpg")
    with pytest.raises(ImageError):
        size_of(data)


def test_an_empty_file_is_called_empty() -> None:
    with pytest.raises(ImageError, match="0 bytes"):
        decode(b"", "x.png")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"])
def test_a_file_cut_anywhere_gives_an_image_error_or_pixels(kind: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = file_of(noise, kind)
    refused = 0
    for part in range(1, 20):
        try:
            assert decode(data[: len(data) * part // 20], "a").shape == (64, 64, 3)
        except ImageError:
            refused += 1
    assert refused >= 15


def test_flipped_bytes_never_raise_anything_else() -> None:
    random = np.random.default_rng(1)
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "GIF"):
        data = np.frombuffer(file_of(picture(), kind), np.uint8)
        for _ in range(60):
            broken = data.copy()
            broken[random.integers(0, len(data), 4)] = random.integers(0, 256, 4)
            for read in (lambda raw: decode(raw, "a", max_pixels=1_000_000), size_of):
                with contextlib.suppress(ImageError):
                    read(broken.tobytes())


def png_header(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    signature = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13)
    return signature + header + struct.pack(">I", zlib.crc32(header)) + b"\x00\x00\x00\x00IDAT"


def test_the_limit_is_checked_by_the_header_alone() -> None:
    bomb = png_header(20_000, 20_000)
    with pytest.raises(ImageError, match="max_image_pixels"):
        decode(bomb, "bomb.png")
    below_pillows_own = png_header(12_000, 11_000)
    with pytest.raises(ImageError, match=r"132\.0 megapixels.*at most 120\.0 megapixels"):
        decode(below_pillows_own, "big.png")
    assert size_of(below_pillows_own) == (12_000, 11_000)


def test_the_limit_is_on_pixels_and_inclusive() -> None:
    data = file_of(picture(), "PNG")
    assert decode(data, "a", max_pixels=960).shape == (24, 40, 3)
    with pytest.raises(ImageError, match="40 x 24"):
        decode(data, "a", max_pixels=959)


@pytest.mark.parametrize("size", [(images.MAX_SIDE + 1, 1), (1, images.MAX_SIDE + 1)])
def test_an_image_of_one_endless_row_is_refused(size: tuple[int, int]) -> None:
    data = file_of(Image.new("1", size), "PNG")
    assert len(data) < 1000
    with pytest.raises(ImageError, match="no side longer than 100,000 pixels"):
        decode(data, "a.png")
    assert decode(file_of(Image.new("1", (images.MAX_SIDE, 1)), "PNG"), "a.png").shape == (1, images.MAX_SIDE, 3)


@pytest.mark.parametrize(
    "data",
    [
        b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (r) file\n",
        b"%PDF-1.4\n",
        b"8BPS\x00\x01" + bytes(40),
        b"#define a_width 8\n#define a_height 8\nstatic char a_bits[] = {0};",
    ],
    ids=["svg", "eps", "pdf", "psd", "xbm"],
)
def test_formats_that_run_or_load_something_are_no_images(data: bytes) -> None:
    with pytest.raises(ImageError, match="not an image"):
        decode(data, "a.png")


def test_a_100_megapixel_frame_is_within_the_default() -> None:
    assert images.MAX_PIXELS >= 11_648 * 8_736


def test_pillows_switches_stay_as_they_were() -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    decode(file_of(picture(), "PNG"), "a")
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


def test_threads_decode_at_once() -> None:
    data = file_of(picture(), "JPEG")
    expected = decode(data, "a")
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                np.testing.assert_array_equal(decode(data, "a"), expected)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_size_of_a_file_reads_the_header(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png_header(7, 5))
    assert size_of_file(path) == (7, 5)
    with pytest.raises(ImageError, match=r"b\.png"):
        size_of_file(tmp_path / "b.png")
    (tmp_path / "c.png").touch()
    with pytest.raises(ImageError, match=r"c\.png is an empty file"):
        size_of_file(tmp_path / "c.png")


@pytest.mark.parametrize(
    ("xyxy", "expected"),
    [
        ((40.0, 30.0, 60.0, 50.0), (30, 25, 70, 55)),
        ((0.0, 0.0, 20.0, 20.0), (0, 0, 40, 30)),
        ((190.0, 90.0, 230.0, 130.0), (120, 40, 200, 100)),
        ((-500.0, -500.0, -400.0, -400.0), (0, 0, 200, 100)),
        ((50.0, 50.0, 50.0, 50.0), (49, 49, 50, 50)),
    ],
)
def test_the_window_surrounds_the_box_and_stays_inside(
    xyxy: tuple[float, float, float, float], expected: tuple[int, int, int, int]
) -> None:
    assert crop_window((200, 100), xyxy, 0.25, 4 / 3) == expected


def test_a_crop_is_a_small_jpeg() -> None:
    array = np.zeros((200, 400, 3), np.uint8)
    array[:, 200:] = (200, 100, 50)
    jpeg = crop_jpeg(array, (100, 50, 300, 150), 64)
    assert size_of(jpeg) == (64, 32)
    assert size_of(crop_jpeg(array, (100, 50, 110, 60), 64)) == (10, 10)
    crop = decode(jpeg, "a").astype(int)
    assert np.abs(crop[16, 48] - (200, 100, 50)).max() < 8
    assert crop[16, 16].max() < 8
    assert to_data_uri(b"\xff\xd8") == "data:image/jpeg;base64,/9g="


def test_a_large_jpeg_is_decoded_small_and_other_files_as_they_are() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    large = Image.fromarray(pixels).resize((600, 400), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind, size in (("JPEG", (75, 50, 3)), ("PNG", (600, 400, 3))):
        out = io.BytesIO()
        large.save(out, kind, exif=exif)
        small = images.decode_small(out.getvalue(), "a", 48)
        assert small.shape == size
        reduced = Image.fromarray(images.decode(out.getvalue(), "a")).resize(small.shape[1::-1], Image.Resampling.BOX)
        assert np.abs(np.asarray(reduced, float) - small).mean() < 4
    with pytest.raises(ImageError, match="megapixels"):
        images.decode_small(out.getvalue(), "a", 48, max_pixels=100)
