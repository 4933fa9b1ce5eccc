"""The store: SQLAlchemy Core tables and a hash-chained audit log; SQLite by default, PostgreSQL by URL.

:class:`Store` is the only door. It hands out the frozen rows of :mod:`bridge.store.rows` and the types of
:mod:`bridge.core`, never a database type.
"""

from __future__ import annotations

from bridge.store.chain import Mark
from bridge.store.rows import (
    AuditEvent,
    FindingHead,
    FixRecord,
    Hint,
    JudgedFinding,
    PrecisionRow,
    Push,
    PutCounts,
    ReviewPlace,
    Run,
    SampledFinding,
    StoredChange,
    StoredFinding,
    WaitingHint,
    Watch,
    WrittenFix,
)
from bridge.store.store import Store

__all__ = [
    "AuditEvent",
    "FindingHead",
    "FixRecord",
    "Hint",
    "JudgedFinding",
    "Mark",
    "PrecisionRow",
    "Push",
    "PutCounts",
    "ReviewPlace",
    "Run",
    "SampledFinding",
    "Store",
    "StoredChange",
    "StoredFinding",
    "WaitingHint",
    "Watch",
    "WrittenFix",
]
