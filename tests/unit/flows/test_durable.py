"""Journeys survive kill -9, and never run a finished step again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from bridge.errors import Busy, DataError, StoreError
from bridge.flows.durable import Durable, Step

PROGRAM = """
import os, signal, sys
from pathlib import Path
from bridge.flows.durable import Durable

folder, die_at, where = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]

def work(k):
    def body():
        with (folder / "log").open("a") as log:
            log.write(f"{k}\\n")
        if k == die_at and where == "inside":
            os.kill(os.getpid(), signal.SIGKILL)
        return k * 10
    return body

def journey(step):
    total = 0
    for k in range(5):
        total += step(f"step {k}", work(k))
        if k == die_at and where == "after":
            os.kill(os.getpid(), signal.SIGKILL)
    return total

print(Durable(folder / "workflows", "1").run("count to five", {}, journey))
"""


def run_program(folder: Path, die_at: int, where: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(folder), str(die_at), where],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("die_at", "where", "log"),
    [(0, "after", "01234"), (2, "inside", "012234"), (4, "after", "01234")],
)
def test_killed_journey_resumes_at_the_step_it_died_in(tmp_path: Path, die_at: int, where: str, log: str) -> None:
    killed = run_program(tmp_path, die_at, where)
    assert killed.returncode == -signal.SIGKILL
    assert Durable(tmp_path / "workflows", "1").unfinished()

    again = run_program(tmp_path, -1, "nowhere")

    assert again.stdout.strip() == "100", again.stderr
    assert (tmp_path / "log").read_text().replace("\n", "") == log
    assert Durable(tmp_path / "workflows", "1").unfinished() == []


def test_failed_journey_starts_over(tmp_path: Path) -> None:
    durable = Durable(tmp_path, "1")
    calls: list[str] = []

    def journey(step: Step) -> int:
        step("first", lambda: calls.append("first"))
        if len(calls) == 1:
            step("second", fail)
        return len(calls)

    def fail() -> None:
        raise DataError("broken", todo="Mend it")

    with pytest.raises(DataError, match="Mend it"):
        durable.run("fails once", {}, journey)
    assert durable.run("fails once", {}, journey) == 2


def test_other_options_are_another_journey(tmp_path: Path) -> None:
    durable = Durable(tmp_path, "1")
    assert durable.run("j", {"a": 1}, lambda step: step("s", lambda: 1)) == 1
    assert durable.run("j", {"a": 2}, lambda step: step("s", lambda: 2)) == 2


def test_same_journey_twice_at_once_is_refused(tmp_path: Path) -> None:
    durable = Durable(tmp_path, "1")

    def outer(step: Step) -> None:
        with pytest.raises(Busy, match="Wait until it ends"):
            durable.run("j", {}, lambda inner: None)

    durable.run("j", {}, outer)


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_checkpoints_that_others_could_have_written_are_not_read(tmp_path: Path, mode: int) -> None:
    killed = run_program(tmp_path, 2, "after")
    assert killed.returncode == -signal.SIGKILL
    (tmp_path / "workflows").chmod(mode)
    again = run_program(tmp_path, -1, "nowhere")
    assert "StoreError" in again.stderr
    assert "others may write to" in again.stderr
    assert (tmp_path / "log").read_text().split() == ["0", "1", "2"]


def test_a_folder_of_another_user_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(StoreError, match="others may write to"):
        Durable(tmp_path, "1").run("j", {}, lambda step: step("s", lambda: 1))


def test_the_folder_is_for_nobody_else(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "workflows"
    modes: list[int] = []
    Durable(folder, "1").run("j", {}, lambda step: step("s", lambda: modes.append(folder.stat().st_mode & 0o777)))
    assert modes == [0o700]


def test_leaves_no_files_behind(tmp_path: Path) -> None:
    Durable(tmp_path, "1").run("j", {}, lambda step: step("s", lambda: 1))
    assert list(tmp_path.iterdir()) == []
