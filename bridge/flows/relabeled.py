"""Which objects show an accepted fix, and which finding it came from.

The tools have no safe place for it: what a fix changes in them is the fix and nothing else. So it is worked out from
the findings, whenever work is read that should carry it: into snapshots and into exports.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bridge.core.annotations import Annotation, Record, Relabeled
from bridge.core.findings import State
from bridge.flows.fixed import fixed_object, order_of
from bridge.store import Store, StoredFinding


@dataclass(frozen=True, slots=True)
class AcceptedFixes:
    """The fixes that are written, by item; ``models`` are those of the runs that found one without naming a model."""

    by_item: Mapping[str, Sequence[StoredFinding]]
    models: Mapping[str, str]

    @classmethod
    def of(cls, store: Store, target: str) -> AcceptedFixes:
        by_item: defaultdict[str, list[StoredFinding]] = defaultdict(list)
        models: dict[str, str] = {}
        for stored in store.findings(target=target, states=(State.APPLIED, State.VERIFIED)):
            by_item[stored.finding.item_id].append(stored)
            if not stored.finding.evidence.get("model") and stored.last_run not in models:
                models[stored.last_run] = store.run(stored.last_run).model
        return cls(by_item, models)

    def mark(self, record: Record) -> Record:
        """The record with ``relabeled`` at the objects that show a fix."""
        found: defaultdict[str, list[Relabeled]] = defaultdict(list)
        for stored in sorted(self.by_item.get(record.item.id, ()), key=lambda s: s.finding.id):
            shown = fixed_object(order_of(stored), record)
            if shown is not None:
                found[shown.id].append(self._told(stored))
        if not found:
            return record

        def marked(annotation: Annotation) -> Annotation:
            return replace(annotation, relabeled=tuple(found.get(annotation.id, ())))

        submissions = (replace(s, annotations=tuple(map(marked, s.annotations))) for s in record.submissions)
        return replace(record, submissions=tuple(submissions))

    def _told(self, stored: StoredFinding) -> Relabeled:
        finding, verdict = stored.finding, stored.verdict
        return Relabeled(
            finding=finding.id,
            run=stored.last_run,
            model=str(finding.evidence.get("model") or self.models[stored.last_run]),
            scorer=finding.scorer,
            accepted_by=verdict.reviewer if verdict else "",
            accepted_at=verdict.decided_at if verdict else "",
        )
