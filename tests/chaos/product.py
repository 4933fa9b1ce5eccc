"""The product as a process that is killed every few seconds, and left alone at last."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

_TICK_S = 0.02
_TESTS = Path(__file__).resolve().parent.parent


class Product(Protocol):
    """A way to run the product."""

    def command(self) -> list[str]:
        """What starts it."""

    def is_quiet(self, since: float) -> bool:
        """Whether it has seen all that people did until ``since`` (seconds of the epoch), and nothing waits."""


@dataclass
class Commands:
    """The commands in a loop, as from somebody's crontab."""

    home: Path
    target: str

    @property
    def log(self) -> Path:
        return self.home / "commands.jsonl"

    def command(self) -> list[str]:
        words = [f"prelabel {self.target}", " ".join(score_command(self.target)), f"push {self.target} --min-score 0"]
        return [sys.executable, "-m", "chaos.command_loop", str(self.log), *words, f"sync {self.target}"]

    def is_quiet(self, since: float) -> bool:
        """No command has found anything to do, twice in a row."""
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        last = [json.loads(line) for line in lines[-8:]]
        return len(last) == 8 and last[0]["begun"] > since and all(map(_is_idle, last))


def score_command(target: str) -> list[str]:
    """The command that scores: Label Studio keeps the predictions of the model, CVAT keeps none."""
    return ["score", target, *(("--detector", "colour") if target.startswith("cvat") else ())]


#: What a command tells that it has done.
_DONE = {
    "prelabel": ("written",),
    "score": ("new", "withdrawn"),
    "push": ("pushed",),
    "sync": ("verdicts", "fixes", "verified", "reopened", "withdrawn"),
}


def _is_idle(line: dict[str, Any]) -> bool:
    value = line["value"] or {}
    return not any(value.get(name) for name in _DONE[line["command"]]) and (bool(value) or line["command"] == "sync")


@dataclass
class Killer:
    """Keeps the product running, and kills it at moments drawn by chance.

    Attributes:
        every_s: seconds that it lives on average; sometimes much less, sometimes much more.
        kills: how often it was killed; ``ends`` how often it ended by itself, which a standing service never does.
    """

    product: Product
    env: dict[str, str]
    log: Path
    seed: int
    every_s: float
    kills: int = 0
    ends: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _calm: threading.Event = field(default_factory=threading.Event, init=False)
    _stopped: threading.Event = field(default_factory=threading.Event, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)

    def start(self) -> None:
        """It runs undisturbed at first."""
        self._calm.set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def trouble(self) -> None:
        """From now on it is killed."""
        self._calm.clear()

    def settle(self, patience_s: float) -> bool:
        """Let it run undisturbed until it is quiet; False when it never is."""
        self._calm.set()
        since = time.time()
        while time.time() < since + patience_s:
            if self.product.is_quiet(since):
                return True
            time.sleep(0.5)
        return False

    def stop(self) -> None:
        self._stopped.set()
        self._calm.set()
        self._kill()
        if self._thread:
            self._thread.join(10)

    def _run(self) -> None:
        chance = random.Random(f"killer {self.seed}")
        while not self._stopped.is_set():
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    self.product.command(), env=self.env, stdout=log, stderr=log, start_new_session=True
                )
            left_s = chance.expovariate(1 / self.every_s)
            while not self._stopped.is_set() and self._process.poll() is None:
                left_s -= 0 if self._calm.is_set() else _TICK_S
                if left_s < 0:
                    self._kill()
                    self.kills += 1
                    break
                time.sleep(_TICK_S)
            else:
                self.ends += not self._stopped.is_set()
                time.sleep(0.5)

    def _kill(self) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


def environment(home: Path, settings: dict[str, str], plugins: str) -> dict[str, str]:
    """Of a process of the product: no settings but these, and this checkout's code."""
    others = {k: v for k, v in os.environ.items() if not k.startswith("LABELBRIDGE_")}
    mine = {f"LABELBRIDGE_{name.upper()}": value for name, value in settings.items()}
    path = os.pathsep.join((plugins, str(_TESTS.parent), str(_TESTS)))
    return {**others, **mine, "LABELBRIDGE_HOME": str(home), "PYTHONPATH": path}
