"""Servers as processes of their own, and the processor time they take."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Contender:
    """A server that runs."""

    name: str
    url: str
    pid: int

    def cpu_seconds(self) -> float:
        """Processor seconds of it and its children so far."""
        return sum(_cpu_of(pid) for pid in _family(self.pid))

    def settle(self) -> None:
        """Wait until it is idle: some servers go on with requests whose clients have left."""
        before = self.cpu_seconds()
        while True:
            time.sleep(0.5)
            now = self.cpu_seconds()
            if now - before < 0.1:
                return
            before = now


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(name: str, command: Sequence[str], port: int, health: str = "/health") -> Iterator[Contender]:
    """Start ``command``, wait until it answers ``health`` with 200, and end it afterwards."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [".", os.environ.get("PYTHONPATH")]))}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url + health, process)
        yield Contender(name, url, process.pid)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def python(*arguments: object) -> list[str]:
    return [sys.executable, *map(str, arguments)]


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit(f"{process.args} ended with {process.returncode} before it answered")
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"{url} did not answer within two minutes")


def _family(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += _family(int(child))
    return found


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
