"""Durable journeys: killed at any point, the same command goes on where it stopped.

Each journey runs as one DBOS workflow whose steps are checkpointed in a small SQLite file of its own, in
``<home>/workflows``, named after what the journey does to which target. The file is there only while the journey is
under way or interrupted, and is locked while a process runs it. A step that was finished is never run again; the one
that was cut off is run again from its start, so a step MUST find out what its first attempt already wrote.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from bridge.core.annotations import digest
from bridge.errors import Busy, LabelbridgeError, StoreError
from bridge.store.engine import explained

T = TypeVar("T")


class Step(Protocol):
    """Runs ``work`` once, remembers what it returned, and returns that again after a crash."""

    def __call__(self, name: str, work: Callable[[], T]) -> T: ...


class Runner(Protocol):
    """Runs journeys; see :meth:`Durable.run`."""

    def run(self, name: str, options: object, journey: Callable[[Step], T]) -> T: ...


@dataclass(frozen=True, slots=True)
class Inline:
    """Runs a journey as a part of one that is durable already: its steps are steps of that one."""

    step: Step

    def run(self, name: str, options: object, journey: Callable[[Step], T]) -> T:  # noqa: ARG002 - see Runner
        return journey(self.step)


@dataclass(frozen=True, slots=True)
class Durable:
    """Runs journeys. ``folder`` holds one file per unfinished journey.

    ``version`` is the program's: a journey that another version left unfinished is started from its beginning, which
    is safe (steps find what is there) and only slower.
    """

    folder: Path
    version: str

    def run(self, name: str, options: object, journey: Callable[[Step], T]) -> T:
        """Run ``journey(step)``, or resume it if an earlier process died in it.

        Args:
            name: readable part of the file's name, as in ``prelabel ls:project/7``.
            options: JSON-able; another set of options is another journey.
            journey: must call its steps in the same order whenever their results are the same, and must do
                everything that has an effect inside steps. Results of steps and of the journey must be picklable.

        Raises:
            Busy: another process is running the same journey.
            LabelbridgeError: whatever a step raised; running again starts over, finding what is done.
        """
        key = f"{re.sub(r'[^a-zA-Z0-9]+', '-', name).strip('-')[:60]}-{digest([name, options], 8)}"
        with self._locked(key, name):
            return _run(self.folder / f"{key}.db", key, f"{self.version}:{key}", journey)

    def unfinished(self) -> list[str]:
        """File names of journeys that were interrupted."""
        return sorted(path.stem for path in self.folder.glob("*.db")) if self.folder.is_dir() else []

    @contextmanager
    def _locked(self, key: str, name: str) -> Iterator[None]:
        try:
            make_own(self.folder)
            lock = (self.folder / f"{key}.lock").open("w")
        except OSError as error:
            raise StoreError(
                f"cannot write to {self.folder}: {error.strerror}",
                todo="Check the folder's owner and the free disk space, or set LABELBRIDGE_HOME to another folder",
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(
                    f"another process is running {name!r} with the same options",
                    todo="Wait until it ends, or stop it and run this command again",
                ) from None
            yield
            # Removed while still locked, so that nobody can lock a name that is about to vanish unseen.
            Path(lock.name).unlink(missing_ok=True)


def make_own(folder: Path) -> None:
    """Make a folder for checkpoints, unless it is there. They are pickles: whoever can put one into it has their code
    run by whoever takes the journey up.

    Raises:
        StoreError: somebody else owns the folder or may write to it.
        OSError: it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.stat()
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StoreError(
            f"others may write to {folder}, whose files are trusted like programs",
            expected="a folder of this user's own, with mode 0700",
            todo="Look at what is in it, remove it, and run the command again; or set LABELBRIDGE_HOME",
        )


class Stopped(BaseException):
    """Leaves a journey whose process was told to stop, so that it stays unfinished rather than failed."""


def _run(database: Path, executor: str, version: str, journey: Callable[[Step], T]) -> T:
    from dbos import DBOS

    configure_dbos(f"sqlite:///{database}", executor, version)

    stopped = threading.Event()

    def step(name: str, work: Callable[[], Any]) -> Any:
        if stopped.is_set():
            raise Stopped
        return DBOS.run_step({"name": name}, work)

    @DBOS.workflow(name="journey", max_recovery_attempts=None)
    def run_journey() -> Any:
        return journey(step)

    finished = False
    try:
        DBOS.launch()
        pending = DBOS.list_workflows(status=["PENDING", "ENQUEUED"], app_version=version)
        handle = DBOS.retrieve_workflow(pending[0].workflow_id) if pending else DBOS.start_workflow(run_journey)
        result: T = handle.get_result(polling_interval_sec=0.05)
        finished = True
        return result
    except LabelbridgeError:
        finished = True
        raise
    except SQLAlchemyError as error:
        # The journey stays unfinished: it goes on when there is space again, or whatever else it was.
        raise explained(error, str(database)) from error
    finally:
        # After Ctrl-C the step under way ends by itself, and no further one starts.
        stopped.set()
        DBOS.destroy(destroy_registry=True)
        if finished:
            for suffix in ("", "-wal", "-shm", "-journal"):
                with suppress(FileNotFoundError):
                    database.with_name(database.name + suffix).unlink()


def configure_dbos(url: str, executor: str, version: str) -> None:
    """Make the process's one DBOS: it keeps its checkpoints in the database at ``url``. To be launched by the caller.

    DBOS takes 0.3 s to import, so only those who run journeys do.
    """
    from dbos import DBOS

    _quiet_dbos()
    DBOS(
        config={
            "name": "labelbridge",
            "system_database_url": url,
            "executor_id": executor,
            "application_version": version,
            "enable_otlp": False,
            "log_level": "CRITICAL",
            "run_migrations": True,
        }
    )
    _quiet_dbos()


def _quiet_dbos() -> None:
    """DBOS greets and counts its workflows on the console; our own output says what a person needs."""
    logging.getLogger("dbos").setLevel(logging.CRITICAL)
