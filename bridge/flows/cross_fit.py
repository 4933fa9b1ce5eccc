"""Out-of-sample predictions as a source: each image judged by a model that has not learnt from its labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bridge.core.annotations import Record
from bridge.core.provenance import Provenance
from bridge.flows.failures import Failure
from bridge.flows.probing import boxes_to_ask
from bridge.flows.sources import ModelPredictions
from bridge.flows.training_record import CrossFit, rounded


@dataclass(frozen=True, slots=True)
class CrossFitPredictions:
    """The predictions of a cross-fit training.

    An image keeps them when its annotations change later: no model that predicted it ever saw it. So do boxes keep what
    that model said about them; one that was drawn or moved since has no answer. Images that are newer than the training
    are out of sample for its final model, which predicts those.

    Attributes:
        threshold: fainter predictions are left out.
        final: runs the training's final model.
    """

    training: CrossFit
    threshold: float
    final: ModelPredictions

    @property
    def model(self) -> str:
        return self.training.name

    @property
    def key(self) -> list[Any]:
        return ["cross-fit", self.training.folder.name, self.training.name, self.threshold]

    def provenance(self, model: str) -> Provenance | None:
        return self.training.provenance if model == self.model else self.final.provenance(model)

    def attach(self, records: Sequence[Record]) -> tuple[list[Record], list[Failure]]:
        new, failures = self.final.attach([r for r in records if self.training.of(r.item) is None])
        by_id = {record.item.id: record for record in new}
        return [by_id.get(record.item.id) or self._known(record) for record in records], failures

    def _known(self, record: Record) -> Record:
        seen = self.training.of(record.item)
        assert seen is not None
        return replace(
            record,
            item=replace(record.item, width=seen.item.width, height=seen.item.height),
            predictions=tuple(p for p in seen.predictions if p.confidence >= self.threshold),
            predicted_by=(self.training.name,),
            samples=("out",),
            thumbnail=seen.thumbnail,
            probes=tuple(
                replace(known, box=box)
                for box in boxes_to_ask(record, self.training.labels)
                if (known := seen.probes.get(rounded(box))) is not None
            ),
        )
