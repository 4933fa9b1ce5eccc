"""How far the predictions of a run are evidence against its labels, and the words for it.

They are none where the model was trained on the labels, and none where the labels are the model's own suggestions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bridge.core.annotations import Record
from bridge.core.objects import Workload
from bridge.core.provenance import Provenance, copies, tally
from bridge.flows.sources import PredictionSource

#: Fewer copies may be chance where a detector answers whole pixels (2 in 1,000 on one set), and hardly matter.
_MANY = 0.01


@dataclass(frozen=True, slots=True)
class ModelOrigin:
    """Where one model's predictions come from.

    Attributes:
        model: its name.
        inside, outside, unknown: submitted items that it predicted: those that it was trained on, those that it was
            not, and those of which that is not known.
        trained_on, snapshot, folds: see :class:`~bridge.core.provenance.Provenance`.
    """

    model: str
    inside: int
    outside: int
    unknown: int
    trained_on: tuple[str, ...] = ()
    snapshot: str = ""
    folds: int = 0

    @property
    def items(self) -> int:
        return self.inside + self.outside + self.unknown


@dataclass(frozen=True, slots=True)
class Independence:
    """Where all predictions of a run come from; ``copies`` of the ``boxes`` that they were held against are a model's
    own, accepted as they were suggested."""

    models: tuple[ModelOrigin, ...] = ()
    boxes: int = 0
    copies: int = 0

    @classmethod
    def of(cls, records: Iterable[Record], source: PredictionSource, workload: Workload) -> Independence:
        models = []
        for model, items in tally(records).items():
            origin = source.provenance(model) or Provenance(model)
            counts = items["in"], items["out"], items["unknown"]
            models.append(ModelOrigin(model, *counts, origin.targets, origin.snapshot, origin.folds))
        return cls(tuple(models), len(workload.given), int(copies(workload).sum()))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Independence:
        """Inverse of :meth:`to_dict`; of an empty mapping, as older runs have it, nothing is known."""
        models = (ModelOrigin(**{**m, "trained_on": tuple(m["trained_on"])}) for m in data.get("models", ()))
        return cls(tuple(models), data.get("boxes", 0), data.get("copies", 0))

    def warnings(self, target: str) -> list[str]:
        """What a person must know before they trust the findings; nothing where all is well."""
        words = [
            f"IN SAMPLE: {m.inside:,} of {m.items:,} items were training images of {m.model}. It agrees with errors "
            "that it was trained on: many are not found, and the scores of findings on these items are lowered. "
            f"To avoid it: labelbridge train {target}, then labelbridge score {target} --cross-fit"
            for m in self.models
            if m.inside
        ]
        if self.copies > _MANY * self.boxes:
            words.append(
                f"{self.copies:,} of {self.boxes:,} boxes are suggestions of the model that scores them, accepted "
                "unchanged: it cannot judge its own boxes. Score with another model, or with --cross-fit."
            )
        return words

    def notes(self) -> list[str]:
        """What is not known."""
        names = [m.model for m in self.models if m.unknown]
        if not names:
            return []
        known = f"What {', '.join(names)} was trained on is not known."
        return [f"{known} If it was on these labels, it agrees with their errors."]
