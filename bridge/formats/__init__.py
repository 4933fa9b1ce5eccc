"""File formats for boxes, behind one protocol: COCO JSON, Pascal VOC XML, YOLO text.

A Format MUST stream: it MUST NOT hold more than one page of parsed records where the format allows it (one COCO file
has to be parsed as a whole). It MUST convert the format's own geometry (COCO ``x, y, width, height``; VOC one-based
inclusive corners; YOLO normalised centre and size) to half-open pixels, and MUST give every object an id that is stable
while the file is unchanged. It MUST report what is wrong with one object or one file as a ``Problem`` in the record of
its item and go on; it MUST raise ``DataError`` only when nothing can be read at all. It MUST NOT follow XML entities,
nor paths that lead out of the dataset folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from bridge.core.annotations import Item, LabelSet, Record


class Format(Protocol):
    """One dataset on disk, opened for reading."""

    @property
    def labels(self) -> LabelSet:
        """The class names, in the format's own order."""

    def __len__(self) -> int:
        """Number of items."""

    def records(self, start: int, stop: int) -> list[Record]:
        """Records of items ``start`` to ``stop`` (excluded) in a stable order."""

    def position(self, item_id: str) -> int | None:
        """Where the item with this id is in the order of :meth:`records`; None when there is none."""

    def image_path(self, item: Item) -> Path:
        """Where the image of ``item`` is; raises ``ImageError`` when the file does not exist."""
