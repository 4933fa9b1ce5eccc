"""One at a time: who changes a target holds it, so that no two processes push or sync it together."""

from __future__ import annotations

import fcntl
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, text

from bridge.errors import Busy, StoreError

_POLL_S = 0.1


@contextmanager
def exclusive(engine: Engine, target: str, wait_s: float) -> Iterator[None]:
    """Hold ``target`` until the block ends, or the process does, however it ends.

    On SQLite a lock on a file beside the database, on PostgreSQL an advisory lock: both hold for all that share it.

    Raises:
        Busy: somebody else holds it, ``wait_s`` seconds long.
    """
    held = _held_by_database if engine.dialect.name == "postgresql" else _held_by_file
    deadline = time.monotonic() + wait_s
    while True:
        with held(engine, target) as got:
            if got:
                yield
                return
        if time.monotonic() >= deadline:
            raise Busy(
                f"another process is working on {target}",
                todo="Wait until it ends, or stop it and run this command again",
            )
        time.sleep(_POLL_S)


@contextmanager
def _held_by_file(engine: Engine, target: str) -> Iterator[bool]:
    # Never removed: a name that vanishes while another waits for it could be locked twice.
    path = Path(f"{engine.url.database}.locks") / f"{_digest(target).hex()[:16]}.lock"
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        lock = path.open("w")
    except OSError as error:
        raise StoreError(
            f"{path} cannot be locked: {error.strerror}",
            todo="Correct the folder's owner and mode, or free some disk space",
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def _held_by_database(engine: Engine, target: str) -> Iterator[bool]:
    key = int.from_bytes(_digest(target)[:8], signed=True)
    # The lock is the session's, so this connection is kept until the block ends, and outside any transaction.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        got = bool(db.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}).scalar())
        try:
            yield got
        finally:
            if got:
                db.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})


def _digest(target: str) -> bytes:
    return hashlib.sha256(target.encode()).digest()
