"""A store on SQLite, and on PostgreSQL too where its programs are installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from bridge.core.annotations import Annotation, Box, Item, LabelSet, Prediction, Record, Submission
from bridge.core.findings import ErrorType, Finding, Fix
from bridge.store import Run, Store

TARGET = "ls:project/7"
START = "2026-11-20T10:00:00+00:00"


def _postgres_program(name: str) -> str | None:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL server of our own, without the database's name."""
    initdb, pg_ctl = _postgres_program("initdb"), _postgres_program("pg_ctl")
    if not initdb or not pg_ctl:
        pytest.skip("PostgreSQL is not installed")
    # PostgreSQL refuses to run as root, and its socket's path must be short.
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    with tempfile.TemporaryDirectory(prefix="lbpg") as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, user)
        as_user: dict[str, Any] = {"user": user} if os.geteuid() == 0 else {}
        run: Callable[..., object] = lambda *words: subprocess.run(  # noqa: E731
            words, check=True, stdout=subprocess.DEVNULL, cwd=folder, timeout=120, **as_user
        )
        run(initdb, "-D", f"{folder}/data", "-A", "trust", "-U", "tester", "--no-sync", "-E", "UTF8", "--locale=C")
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
        run(pg_ctl, "-D", f"{folder}/data", "-l", f"{folder}/log", "-w", "-o", options, "start")
        try:
            yield f"postgresql://tester@/%s?host={folder}"
        finally:
            run(pg_ctl, "-D", f"{folder}/data", "-m", "immediate", "-w", "stop")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/home/labelbridge.db"
        return
    server: str = request.getfixturevalue("postgres")
    admin = create_engine((server % "postgres").replace("postgresql:", "postgresql+psycopg:"))
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        db.execute(text("CREATE DATABASE labelbridge"))
        yield server % "labelbridge"
        db.execute(text("DROP DATABASE labelbridge WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store.open(url) as opened:
        yield opened


@pytest.fixture
def begin() -> Callable[..., Run]:
    """Starts a run: ``begin(store, "r1")``."""

    def start(store: Store, run_id: str, **changes: Any) -> Run:
        words: dict[str, Any] = {
            "target": TARGET,
            "title": "Parts",
            "kind": "review",
            "model": "parts-1",
            "scorer": "evidence-1",
            "labels": LabelSet(("bolt", "nut")),
            "started_at": START,
            "options": {"min_score": 0.5},
        }
        return store.start_run(run_id, **{**words, **changes})

    return start


@pytest.fixture
def make_finding() -> Callable[..., Finding]:
    def make(number: int, score: float = 0.9, **changes: Any) -> Finding:
        words: dict[str, Any] = {
            "id": f"{number:016x}",
            "target": TARGET,
            "item_id": str(number % 10),
            "item_name": f"{number % 10}.jpg",
            "submission_id": "s",
            "annotation_ids": (f"a{number}",),
            "error": ErrorType.WRONG_CLASS,
            "label": "bolt",
            "score": score,
            "reason": "The model sees a nut.",
            "fix": Fix("relabel", "nut", Box(1.0, 2.0, 3.5, 4.0)),
            "scorer": "evidence-1",
            "current_shape": Box(1.0, 2.0, 3.5, 4.0),
            "revisions": ("0123456789abcdef",),
            "evidence": {"confidence": 0.93},
        }
        return Finding(**{**words, **changes})

    return make


@pytest.fixture
def make_records() -> Callable[..., list[Record]]:
    def make(start: int, stop: int, label: str = "nut", confidence: float | None = None) -> list[Record]:
        records = []
        for i in range(start, stop):
            box = Box(1.0, 2.0, 3.0 + i, 4.5)
            submission = Submission(f"s{i}", "ann", (Annotation(f"a{i}", label, box),))
            predictions = () if confidence is None else (Prediction("nut", box, confidence, "parts-1"),)
            records.append(Record(Item(str(i), f"{i}.jpg", f"/{i}.jpg", 10, 20), (submission,), predictions))
        return records

    return make
