"""A drawn still life: two things of no simple shape on a wooden table, and which pixels are theirs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from bridge.scenes.textures import grain, noise, wood

Bools = npt.NDArray[np.bool_]

WIDTH, HEIGHT = 640, 480


@dataclass(frozen=True)
class StillLife:
    """``image``: (480, 640, 3) uint8. ``moon`` on the left, ``star`` on the right: (480, 640) bool, far apart."""

    image: npt.NDArray[np.uint8]
    moon: Bools
    star: Bools


def draw(seed: int = 3) -> StillLife:
    """The picture of this seed: shaded, with shadows, a little blurred, with the noise of a sensor."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    # A crescent: an ellipse that lacks a bite. It fills about half of its box, as the star does.
    moon = np.maximum(np.hypot((x - 190) / 0.8, y - 245) - 140, 95 - np.hypot((x - 262) / 0.9, y - 215))
    angle = np.arctan2(y - 235, x - 470) + 0.3
    star = np.hypot(x - 470, y - 235) - (82 + 36 * np.cos(5 * angle))
    picture = wood(rng, HEIGHT, WIDTH) * 0.85
    for distance, colour in ((moon, (0.10, 0.48, 0.20)), (star, (0.16, 0.25, 0.66))):
        shadow = np.clip(1 - np.roll(distance, (7, 6), (0, 1)) / 12, 0, 1)
        picture *= 1 - 0.35 * shadow
        light = 0.75 + 0.5 * (x / WIDTH) - 0.2 * (y / HEIGHT) + 0.10 * noise(rng, HEIGHT, WIDTH, 9, 9)
        light += 0.04 * grain(rng, HEIGHT, WIDTH) + 0.5 * np.exp(-(((distance + 30) / 9) ** 2))
        cover = np.clip(0.5 - distance, 0, 1)
        picture = picture * (1 - cover) + np.asarray(colour, np.float32)[:, None, None] * light * cover
    noisy = picture + 0.012 * rng.standard_normal(picture.shape)
    pixels = (np.clip(noisy, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    soft = Image.fromarray(np.ascontiguousarray(pixels)).filter(ImageFilter.GaussianBlur(0.7))
    return StillLife(np.asarray(soft), moon < 0, star < 0)
