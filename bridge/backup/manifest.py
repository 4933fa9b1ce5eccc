"""What an archive holds, and how to tell that it still does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bridge.errors import DataError
from bridge.store import Mark

#: Raised whenever an older program could not read what this one writes.
FORMAT = 1
NAME, STORE, HOME = "manifest.json", "store.db", "home/"
#: Bytes; each file takes some two hundred.
LARGEST = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Member:
    """``size`` in bytes, ``sha256`` of the content in hex."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The last member of an archive.

    Attributes:
        version: of the program that made it.
        made_at: ISO 8601.
        database: ``sqlite`` where the store is in the archive, else ``postgresql``.
        head: where the audit log ended.
        files: the other members by name.
    """

    version: str
    made_at: str
    database: str
    head: Mark
    files: Mapping[str, Member]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "head": str(self.head), "format": FORMAT}

    @classmethod
    def from_bytes(cls, text: bytes) -> Manifest:
        """What :meth:`to_dict` gave, from JSON. Raises ``DataError``."""
        try:
            data = json.loads(text)
            if data.pop("format") != FORMAT:
                raise DataError("a newer labelbridge made this archive", todo="Upgrade labelbridge")
            files = {str(name): Member(**member) for name, member in data.pop("files").items()}
            return cls(**data | {"head": Mark.parse(data["head"]), "files": files})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DataError(f"the archive's {NAME} cannot be read: {error}", todo="Take another backup") from error
