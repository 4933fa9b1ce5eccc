"""How surely copies of a picture are found, beside the perceptual hashes that others use, and at what cost.

``python benchmarks/quality/duplicates.py FOLDER [--images 200] [--speed 100000]``

FOLDER holds image files, all different. Each is copied in one way at a time (smaller, JPEG, brighter, cropped, several
at once), and all images and copies are compared with one another. Recall is the share of copies that were found; false
pairs are those of different pictures. Peers: the 64-bit difference hash (Krawetz 2013) and the 64-bit DCT hash (Zauner
2010) as ImageHash computes them, two images being one picture where at most 10 bits differ, the customary cut. Pairs
that FOLDER itself has twice are counted as false ones and listed, so that they can be looked at.

``--features`` compares instead what the thumbnails do not find (larger crops, mirrored, turned and recoloured copies)
by the pooled features of the embedded detector, in standard deviations over the images: the mean over the places of its
first two feature maps, to the third power (GeM, as image retrieval pools them). Two images are one picture where the
cosine is above a cut that is set with hindsight, so that 1 image in 20 has a false pair.

``--speed`` prints the CPU time and the memory for so many made-up thumbnails, of which one in twenty is a copy.
"""

from __future__ import annotations

import argparse
import io
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageOps
from scipy.fft import dct

from bridge.core.fingerprints import thumbnail
from bridge.core.near_duplicates import find_alike
from bridge.formats.paths import image_files

Pairs = set[tuple[int, int]]

_BITS = 10


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return Image.open(out).convert("RGB")


def _crop(image: Image.Image, part: float, rng: np.random.Generator) -> Image.Image:
    """Cut off ``part`` of the width and the height, somewhere."""
    width, height = image.size
    left, top = rng.uniform(0, part, 2)
    box = (left * width, top * height, (1 - part + left) * width, (1 - part + top) * height)
    return image.crop(tuple(map(round, box)))


def _half(image: Image.Image) -> Image.Image:
    return image.resize((max(1, image.width // 2), max(1, image.height // 2)), Image.Resampling.LANCZOS)


COPIES: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "JPEG, quality 20": lambda image, _: _jpeg(image, 20),
    "half the size": lambda image, _: _half(image),
    "brighter by 40 %": lambda image, _: ImageEnhance.Brightness(image).enhance(1.4),
    "cropped by 3 %": lambda image, rng: _crop(image, 0.03, rng),
    "cropped by 5 %": lambda image, rng: _crop(image, 0.05, rng),
    "cropped by 8 %": lambda image, rng: _crop(image, 0.08, rng),
    "half, brighter, cropped by 5 %, JPEG 40": lambda image, rng: _jpeg(
        _half(_crop(ImageEnhance.Brightness(image).enhance(1.2), 0.05, rng)), 40
    ),
}


def found_here(images: list[Image.Image]) -> Pairs:
    """Pairs of one node, and of two that are alike."""
    alike = find_alike(np.stack([thumbnail(np.asarray(image)) for image in images]))
    together = set(zip(alike.first.tolist(), alike.second.tolist(), strict=True))
    nodes = alike.node.tolist()
    return {
        (i, j)
        for j in range(len(nodes))
        for i in range(j)
        if nodes[i] >= 0 and (nodes[i] == nodes[j] or (min(nodes[i], nodes[j]), max(nodes[i], nodes[j])) in together)
    }


def difference_hash(image: Image.Image) -> npt.NDArray[np.bool_]:
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.LANCZOS), np.float64)
    return (grey[:, 1:] > grey[:, :-1]).ravel()


def dct_hash(image: Image.Image) -> npt.NDArray[np.bool_]:
    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), np.float64)
    low = dct(dct(grey, axis=0), axis=1)[:8, :8]
    return (low > np.median(low)).ravel()


def found_by_bits(images: list[Image.Image], hash_of: Callable[[Image.Image], npt.NDArray[np.bool_]]) -> Pairs:
    bits = np.stack([hash_of(image) for image in images]).astype(np.int64)
    differ = bits @ (1 - bits).T + (1 - bits) @ bits.T
    return {(i, j) for i, j in np.argwhere(np.triu(differ <= _BITS, 1)).tolist()}


def _gamma(image: Image.Image, power: float) -> Image.Image:
    return Image.fromarray((255 * (np.asarray(image) / 255.0) ** power).astype(np.uint8))


HARD_COPIES: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "cropped by 8 %": lambda image, rng: _crop(image, 0.08, rng),
    "cropped by 15 %": lambda image, rng: _crop(image, 0.15, rng),
    "cropped by 25 %": lambda image, rng: _crop(image, 0.25, rng),
    "mirrored": lambda image, _: ImageOps.mirror(image),
    "turned by 180 degrees": lambda image, _: image.transpose(Image.Transpose.ROTATE_180),
    "grey": lambda image, _: image.convert("L").convert("RGB"),
    "gamma 2": lambda image, _: _gamma(image, 2.0),
    "contrast of 30 %": lambda image, _: ImageEnhance.Contrast(image).enhance(0.3),
}


def measure_features(files: list[Path]) -> None:
    originals = [Image.open(file).convert("RGB") for file in files]
    count, pool = len(originals), _pooling()
    own = pool(originals)
    print(f"{count} images; recall of copies here, and by features with {count // 20} false pairs; nearest by features")
    for how, copy in HARD_COPIES.items():
        rng = np.random.default_rng(0)
        copies = [copy(image, rng) for image in originals]
        pairs = found_here(originals + copies)
        here = np.mean([(k, k + count) in pairs for k in range(count)])
        both = (np.concatenate([own, pool(copies)]) - own.mean(axis=0)) / (own.std(axis=0) + 1e-6)
        both /= np.linalg.norm(both, axis=1, keepdims=True)
        alike = both @ both.T
        across, same = alike[:count, count:], np.diag(alike[:count, count:])
        upper = np.triu_indices(count, 1)
        apart = [alike[:count, :count][upper], alike[count:, count:][upper], across[~np.eye(count, dtype=bool)]]
        cut = np.sort(np.concatenate(apart))[-1 - count // 20]
        nearest = np.mean(across.argmax(axis=1) == np.arange(count))
        print(f"{how:24s} {here:8.2f} {np.mean(same > cut):8.2f} {nearest:8.2f}", flush=True)


def _pooling() -> Callable[[list[Image.Image]], npt.NDArray[np.float64]]:
    """(N, D) features of images by the embedded detector."""
    import torch

    from ml_backend.models import torchvision_detector as detector
    from ml_backend.models.catalogue import EMBEDDED_MANIFEST
    from ml_backend.models.manifest import read_manifest
    from ml_backend.models.weights import parse_state, read_bytes

    manifest = read_manifest(EMBEDDED_MANIFEST)
    state = parse_state(read_bytes(manifest.weights), manifest.weights)
    built, _ = detector.build_from_state(manifest.builder, state, manifest.classes, manifest.builder_args, "it")
    network: Any = built.eval()

    def pool(images: list[Image.Image]) -> npt.NDArray[np.float64]:
        rows = []
        with torch.inference_mode():
            for image in images:
                pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
                maps = list(network.backbone(network.transform([pixels])[0].tensors).values())[:2]
                pooled = [(m.clamp(min=1e-6) ** 3).mean(dim=(2, 3)).ravel() ** (1 / 3) for m in maps]
                rows.append(torch.cat(pooled).numpy())
        return np.stack(rows).astype(np.float64)

    return pool


METHODS: dict[str, Callable[[list[Image.Image]], Pairs]] = {
    "here": found_here,
    "difference hash": lambda images: found_by_bits(images, difference_hash),
    "DCT hash": lambda images: found_by_bits(images, dct_hash),
}


def measure(files: list[Path]) -> None:
    originals = [Image.open(file).convert("RGB") for file in files]
    count = len(originals)
    print(f"{count} images; recall of copies, and false pairs among {count * (count - 1) * 2:,}")
    print(f"{'':42s}" + "".join(f"{name:>22s}" for name in METHODS))
    twice: dict[str, Pairs] = {}
    for how, copy in COPIES.items():
        rng = np.random.default_rng(0)
        images = originals + [copy(image, rng) for image in originals]
        line = f"{how:42s}"
        for name, find in METHODS.items():
            pairs = find(images)
            hits = sum((k, k + count) in pairs for k in range(count))
            line += f"{hits / count:12.3f} {len(pairs) - hits:9,d}"
            twice[name] = {(i, j) for i, j in pairs if j < count}
        print(line)
    for i, j in sorted(twice["here"]):
        print(f"one picture, it seems: {files[i].name} and {files[j].name}")


def measure_speed(count: int) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (count - count // 20, 16, 16)).astype(np.uint8)
    noise = rng.integers(-6, 7, (count // 20, 16, 16))
    copies = (pictures[: count // 20] + noise).clip(0, 255).astype(np.uint8)
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    alike = find_alike(np.concatenate([pictures, copies]))
    alike.centres()
    after = resource.getrusage(resource.RUSAGE_SELF)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{count:,} thumbnails: {len(alike.first):,} pairs of {len(copies):,} in {spent:.1f} CPU seconds")
    print(f"({time.perf_counter() - began:.1f} s), at most {after.ru_maxrss / 2**20:.2f} GB of memory")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=200, help="at most so many, the first by name")
    parser.add_argument("--features", action="store_true", help="what the embedded detector's features would add")
    parser.add_argument("--speed", type=int, default=0, metavar="N", help="also time N made-up thumbnails")
    options = parser.parse_args()
    files = image_files(options.folder)[: options.images]
    if options.features:
        measure_features(files)
        return
    measure(files)
    if options.speed:
        measure_speed(options.speed)


if __name__ == "__main__":
    main()
