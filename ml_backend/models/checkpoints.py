"""Published checkpoints: where they are to be had, and the SHA-256 they must have before a byte is interpreted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import torch

from bridge.errors import ModelError


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Attributes:
    url: of the makers' own file.
    sha256: of that file, 64 hex digits.
    """

    url: str
    sha256: str

    @property
    def file(self) -> str:
        return self.url.rpartition("/")[2]


def find(checkpoint: Checkpoint, folder: Path) -> Path:
    """The checkpoint's file in ``folder``, downloaded where it is not there yet.

    What is downloaded gets its name when its SHA-256 is right; a file that somebody put there is checked too.

    Raises:
        ModelError: it cannot be had, or is another file; says which file to put where.
    """
    path = folder / checkpoint.file
    if not path.is_file():
        _download(checkpoint, path)
        return path
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != checkpoint.sha256:
        raise ModelError(
            f"the checkpoint {path} is not the published one: its SHA-256 is {found}",
            expected=f"SHA-256 {checkpoint.sha256}",
            todo="Delete it to have it downloaded again; give weights of your own as a path",
        )
    return path


def _download(checkpoint: Checkpoint, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(checkpoint.url, str(path), hash_prefix=checkpoint.sha256, progress=False)
    except (URLError, OSError, RuntimeError) as error:
        raise ModelError(
            f"the checkpoint {checkpoint.file} cannot be had: {error}",
            expected=f"a download from {checkpoint.url} (SHA-256 {checkpoint.sha256}), or the same file at {path}",
            todo=f"Fetch that file elsewhere and put it at {path}",
        ) from None
