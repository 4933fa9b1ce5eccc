"""What a model said in an earlier run, about items that are as they were then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bridge.core.annotations import Record
from bridge.store import Store


def recalled(store: Store, run_id: str, position: int, records: Sequence[Record]) -> dict[str, Record]:
    """Records of a page with what the run ``run_id`` knows of them, by item id; those that have changed are left out.

    A record has changed when its image has another address, or the work of its annotators is not the same: a model may
    have been asked about it. Items that were added or removed since move others to a neighbouring page, so that is
    where they are looked for; one that has moved further is left out too, which costs only time.
    """
    found: dict[str, Record] = {}
    wanted = {record.item.id: record for record in records}
    for near in (position, position - 1, position + 1):
        if len(found) == len(wanted):
            break
        for old in store.chunk(run_id, near):
            record = wanted.get(old.item.id)
            if record is not None and old.predicted_by and _is_unchanged(old, record):
                found[old.item.id] = _with_answers(record, old)
    return found


def _is_unchanged(old: Record, record: Record) -> bool:
    return old.item.image == record.item.image and old.submissions == record.submissions


def _with_answers(record: Record, old: Record) -> Record:
    return replace(
        record,
        item=replace(record.item, width=old.item.width, height=old.item.height),
        predictions=old.predictions,
        predicted_by=old.predicted_by,
        samples=old.samples,
        thumbnail=old.thumbnail,
        probes=old.probes,
        notes=old.notes,
    )
