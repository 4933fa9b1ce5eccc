"""Where a training stands after each epoch, in a file that is there whole or not at all."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bridge.core.training import Epoch
from bridge.errors import StoreError


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Attributes:
    key: of the fit that it belongs to.
    history: the epochs that are done.
    best: the number of the best of them, by AP; of the last one where no AP is known.
    network, average, kept: tensors of the network, of its running average, and of that average after ``best``.
    optimiser: its state dict.
    """

    key: str
    history: tuple[Epoch, ...]
    best: int
    network: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    kept: Mapping[str, Tensor]
    optimiser: Mapping[str, Any]

    def write(self, path: Path) -> None:
        """Write it in place of the one before.

        Raises:
            StoreError: the folder cannot be written.
        """
        data = {name: getattr(self, name) for name in ("key", "best", "network", "average", "kept", "optimiser")}
        buffer = io.BytesIO()
        torch.save({**data, "history": [asdict(epoch) for epoch in self.history]}, buffer)
        replace_file(path, buffer.getbuffer())

    @classmethod
    def read(cls, path: Path, key: str) -> Checkpoint | None:
        """The checkpoint in a file; None where there is none, a damaged one, or one of another fit."""
        try:
            data = torch.load(path, map_location="cpu", weights_only=True)
            history = tuple(Epoch(**epoch) for epoch in data.pop("history"))
            found = cls(history=history, **data)
        except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, TypeError):
            return None
        return found if found.key == key else None


def replace_file(path: Path, data: bytes | memoryview) -> None:
    """Write a file so that a reader, or a crash, meets the old content or the new one.

    Raises:
        StoreError: it cannot be written.
    """
    new = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}",
            todo="Check the folder's owner and the free disk space",
        ) from error
