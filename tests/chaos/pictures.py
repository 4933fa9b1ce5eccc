"""Drawn pictures of cats and dogs, and what careless people submit for them."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass

from fakes.pictures import HEIGHT, WIDTH, draw
from PIL import Image

from bridge.core.annotations import Box

Drawn = tuple[str, Box]
LABELS = ("cat", "dog")
_CELL = 40


@dataclass(frozen=True, slots=True)
class Picture:
    """``shows`` is what the model sees in it, without a mistake."""

    number: int
    shows: tuple[Drawn, ...]

    @property
    def name(self) -> str:
        return f"photo {self.number}.png"

    def file(self) -> bytes:
        out = io.BytesIO()
        Image.fromarray(draw(self.shows, backdrop=self.number)).save(out, "PNG")
        return out.getvalue()


def make_picture(number: int) -> Picture:
    """Two to four objects in cells of their own, so that none touches another. The same number shows the same."""
    rng = random.Random(f"picture {number}")
    cells = rng.sample(range((WIDTH // _CELL) * (HEIGHT // _CELL)), rng.randint(2, 4))
    return Picture(number, tuple((rng.choice(LABELS), _box_in(cell, rng)) for cell in cells))


def careless(picture: Picture, rng: random.Random) -> list[Drawn]:
    """A picture's objects with a mistake in about every fourth, and sometimes one that is not there."""
    drawn: list[Drawn] = []
    for label, box in picture.shows:
        luck = rng.random()
        if luck < 0.08:
            continue
        if luck < 0.16:
            label = other(label)
        elif luck < 0.24:
            box = Box(max(box.x1 - 9, 0), max(box.y1 - 7, 0), min(box.x2 + 8, WIDTH), min(box.y2 + 9, HEIGHT))
        drawn.append((label, _by_hand(box, rng)))
    if rng.random() < 0.15:
        drawn.append((rng.choice(LABELS), _box_in(rng.randrange(12), rng)))
    return drawn


def other(label: str) -> str:
    return LABELS[1 - LABELS.index(label)]


def moved(box: Box, rng: random.Random) -> Box:
    """The box some pixels away; still inside the picture."""
    dx, dy = rng.choice((-6, -4, 4, 6)), rng.choice((-5, 5))
    x1, y1 = min(max(box.x1 + dx, 0), WIDTH - 8), min(max(box.y1 + dy, 0), HEIGHT - 8)
    return Box(x1, y1, min(x1 + box.x2 - box.x1, WIDTH), min(y1 + box.y2 - box.y1, HEIGHT))


def _by_hand(box: Box, rng: random.Random) -> Box:
    x1, y1, x2, y2 = (n + rng.uniform(-1, 1) for n in box.xyxy)
    return Box(max(x1, 0), max(y1, 0), min(x2, WIDTH), min(y2, HEIGHT))


def _box_in(cell: int, rng: random.Random) -> Box:
    left, top = cell % (WIDTH // _CELL) * _CELL, cell // (WIDTH // _CELL) * _CELL
    x1, y1 = left + rng.randint(3, 9), top + rng.randint(3, 9)
    return Box(x1, y1, x1 + rng.randint(18, 28), y1 + rng.randint(18, 28))
