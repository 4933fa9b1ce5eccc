"""The models that were trained from this data folder, known by the name that stands beside their predictions."""

from __future__ import annotations

import json
import re
from pathlib import Path

from bridge.core.provenance import Provenance
from bridge.flows.training_record import MANIFEST, RECORD, read_record

#: What serving in tiles, and masks for a detector's boxes, add to a detector's name.
_ADDED = re.compile(r"(-tile\d+)?(\+.*)?$")


class TrainedModels:
    """The finished trainings under ``folder``, each read once, when a model of that name is asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, Provenance | None] = {}

    def provenance(self, name: str) -> Provenance | None:
        """What the model of this name comes from; None where it was not trained from this data folder.

        Raises:
            StoreError: the record of a training is damaged.
        """
        plain = _ADDED.sub("", name)
        if plain not in self._known:
            self._known[plain] = self._read(plain)
        return self._known[plain]

    def _read(self, name: str) -> Provenance | None:
        for path in sorted(self._folder.glob(f"*/{RECORD}")):
            record = read_record(path.parent)
            if record is not None and record["model"] == name:
                return manifest_provenance(path.with_name(MANIFEST))
        return None


def manifest_provenance(path: Path) -> Provenance | None:
    """What the model of a manifest comes from; None where labelbridge did not train it, or it cannot be read."""
    try:
        return Provenance.from_manifest(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return None
