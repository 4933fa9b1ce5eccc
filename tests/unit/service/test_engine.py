"""Journeys of the standing service survive kill -9: the next process goes on where the last one stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.errors import DataError
from bridge.flows.durable import Step
from bridge.service.engine import Engine

PROGRAM = """
import os, signal, sys, threading
from pathlib import Path
from bridge.service.engine import Engine

folder, version, die_at = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

def work(journey, target, step):
    total = 0
    for k in range(4):
        def body(k=k):
            with (folder / f"log {target}").open("a") as log:
                log.write(str(k))
            if f"{target}{k}" == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return k
        total += step(f"step {k}", body)
    return f"{journey} of {target}: {total}"

engine = Engine(f"sqlite:///{folder / 'journeys.db'}", version, work)
engine.start()
outcomes = {}
def run(target):
    outcomes[target] = engine.run("count", target)
threads = [threading.Thread(target=run, args=(t,)) for t in "ab"]
[t.start() for t in threads]
[t.join() for t in threads]
engine.stop()
print(outcomes["a"], outcomes["b"], sep="; ")
"""


def run_program(folder: Path, version: str = "1", die_at: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, str(folder), version, die_at]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def cut_off(folder: Path, version: str = "1") -> set[str]:
    engine = Engine(f"sqlite:///{folder / 'journeys.db'}", version, lambda *_: "")
    engine.start()
    try:
        return engine.cut_off(("count", "other"), "b")
    finally:
        engine.stop()


def test_a_killed_journey_goes_on_in_the_next_process(tmp_path: Path) -> None:
    assert run_program(tmp_path, die_at="b2").returncode == -signal.SIGKILL
    assert cut_off(tmp_path) == {"count"}
    assert cut_off(tmp_path, version="2") == set()
    again = run_program(tmp_path)
    assert again.stdout.strip() == "count of a: 6; count of b: 6", again.stderr
    # Only the step that was under way is run again. Of "a", nobody knows how far it was.
    assert (tmp_path / "log b").read_text() == "01223"
    assert cut_off(tmp_path) == set()
    assert set((tmp_path / "log a").read_text()) == set("0123")


def test_another_version_starts_from_the_beginning(tmp_path: Path) -> None:
    assert run_program(tmp_path, die_at="b1").returncode == -signal.SIGKILL
    assert run_program(tmp_path, version="2").stdout.strip() == "count of a: 6; count of b: 6"
    assert (tmp_path / "log b").read_text() == "010123"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    calls: list[str] = []

    def work(journey: str, target: str, step: Step) -> str:
        def fail_first() -> int:
            calls.append(journey)
            if len(calls) == 1:
                raise DataError("no luck", todo="Try again")
            return len(calls)

        return f"attempt {step('only', fail_first)}"

    engine = Engine(f"sqlite:///{tmp_path / 'journeys.db'}", "1", work)
    engine.start()
    yield engine
    engine.stop()


def test_a_failed_journey_is_told_and_starts_over(engine: Engine) -> None:
    with pytest.raises(DataError, match="no luck"):
        engine.run("score", "a")
    assert engine.run("score", "a") == "attempt 2"


def test_what_nobody_expected_says_where_it_came_from(tmp_path: Path) -> None:
    def work(journey: str, target: str, step: Step) -> str:
        return str(step("only", lambda: {}["nowhere"]))

    engine = Engine(f"sqlite:///{tmp_path / 'journeys.db'}", "1", work)
    engine.start()
    try:
        with pytest.raises(KeyError) as caught:
            engine.run("score", "a")
    finally:
        engine.stop()
    assert '{}["nowhere"]' in "".join(traceback.format_exception(caught.value))


def test_a_journey_may_be_run_again_and_beside_others(engine: Engine) -> None:
    with pytest.raises(DataError):
        engine.run("score", "a")
    outcomes: list[str] = []
    threads = [
        threading.Thread(target=lambda t=target: outcomes.append(engine.run("score", t)))  # type: ignore[misc]
        for target in ("a", "b", "c")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(outcomes) == ["attempt 2", "attempt 3", "attempt 4"]
