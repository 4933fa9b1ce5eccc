"""Snapshots: the records a run scored, frozen in chunks; a chunk's content is its address."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, exists, select

from bridge.core.annotations import Record, digest, record_from_dict, record_to_dict, snapshot_hash
from bridge.errors import DataError, StoreError
from bridge.store import runs
from bridge.store.engine import upsert
from bridge.store.tables import chunks, run_chunks
from bridge.store.texts import dump

#: zlib's own default: the levels above cost twice the time for 2 % less.
_LEVEL = 6


@dataclass(frozen=True, slots=True)
class Packed:
    """A chunk ready to be written.

    Attributes:
        content: SHA-256 (hex) of the JSON before compression.
        body: the compressed JSON.
        annotations: the snapshot hash of these records alone, which predictions do not enter.
    """

    content: str
    body: bytes
    annotations: str


def pack(records: Sequence[Record]) -> Packed:
    """Records as one compressed text."""
    raw = dump([record_to_dict(record) for record in records]).encode()
    return Packed(hashlib.sha256(raw).hexdigest(), zlib.compress(raw, _LEVEL), snapshot_hash(records))


def unpack(body: bytes, content: str, name: str) -> list[Record]:
    """Inverse of :func:`pack`; ``name`` is for the error."""
    try:
        raw = zlib.decompress(body)
    except zlib.error:
        raw = b""
    if hashlib.sha256(raw).hexdigest() != content:
        raise StoreError(f"{name} is damaged in the store", todo="Put a backup in its place, or run the review again")
    return [record_from_dict(data) for data in json.loads(raw)]


def put(db: Connection, run_id: str, position: int, chunk: Packed) -> bool:
    run = runs.get(db, run_id)
    here = (run_chunks.c.run_id == run_id) & (run_chunks.c.position == position)
    known = db.execute(select(run_chunks.c.chunk, run_chunks.c.annotations).where(here)).one_or_none()
    if known is not None and known.chunk == chunk.content:
        return False
    if run.snapshot is not None and (known is None or known.annotations != chunk.annotations):
        raise DataError(
            f"the snapshot of run {run_id} is sealed, and chunk {position} would change its annotations",
            todo="Start a new run",
        )
    row = {"run_id": run_id, "position": position, "chunk": chunk.content, "annotations": chunk.annotations}
    upsert(db, chunks, [{"hash": chunk.content, "body": chunk.body}], ["hash"], [])
    upsert(db, run_chunks, [row], ["run_id", "position"], ["chunk", "annotations"])
    if known is not None:
        unused = ~exists().where(run_chunks.c.chunk == known.chunk)
        db.execute(delete(chunks).where((chunks.c.hash == known.chunk) & unused))
    return True


def layout(db: Connection, run_id: str) -> list[str]:
    """The annotations' hash of each chunk by position, which are checked to be 0, 1, 2, ..."""
    runs.get(db, run_id)
    here = run_chunks.c.run_id == run_id
    query = select(run_chunks.c.position, run_chunks.c.annotations).where(here).order_by(run_chunks.c.position)
    found = db.execute(query).all()
    for expected, row in enumerate(found):
        if row.position != expected:
            raise StoreError(f"chunk {expected} of run {run_id} is missing", todo="Run the review again")
    return [row.annotations for row in found]


def find(db: Connection, run_id: str, position: int) -> tuple[bytes, str] | None:
    """The compressed body of a chunk and the hash its content must have; None where there is no such chunk."""
    query = (
        select(chunks.c.body, chunks.c.hash)
        .join(run_chunks, run_chunks.c.chunk == chunks.c.hash)
        .where((run_chunks.c.run_id == run_id) & (run_chunks.c.position == position))
    )
    row = db.execute(query).one_or_none()
    return None if row is None else (row.body, row.hash)


def seal(
    db: Connection, run_id: str, snapshot: str, annotators: Mapping[str, Any], layout_read: Sequence[str], by: str
) -> str:
    """Keep the hash, provided that the chunks are still those it was computed from."""
    if layout(db, run_id) != layout_read:
        raise StoreError(f"the snapshot of run {run_id} changed while it was sealed", todo="Run the review again")
    return runs.seal(db, run_id, snapshot, annotators, by)


def hash_of(pieces: Iterable[Sequence[Record]]) -> tuple[str, dict[str, Any]]:
    """The snapshot's hash, and for each annotator known by name how much is theirs and the SHA-256 of it."""
    counts: Counter[str] = Counter()
    works: defaultdict[str, Any] = defaultdict(hashlib.sha256)

    def records() -> Iterator[Record]:
        for record in (record for piece in pieces for record in piece):
            if any(s.annotator for s in record.submissions):
                data = record_to_dict(record)
                for submission in data["submissions"]:
                    counts[submission[1]] += 1
                    works[submission[1]].update(digest([data["item"], submission], 64).encode())
            yield record

    value = snapshot_hash(records())
    return value, {who: {"submissions": counts[who], "sha256": works[who].hexdigest()} for who in sorted(counts) if who}
