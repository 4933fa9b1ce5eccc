"""What the protocol itself costs: a model that answers at once, ours beside the best case of a label-studio-ml server.

    python benchmarks/protocol_overhead.py [--seconds 5] [--rounds 3] [--concurrency 1 8 32]

Needs ``wrk`` (apt-get install wrk) and the dependency group ``bench``. Bodies are those that Label Studio sends, of
one task and of fifty. Contenders take turns; the figures are medians of the rounds. On few cores the load
generator takes its part of them, so processor time per request is the figure to trust.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import Contender, free_port, python, running

CONFIG = (
    '<View><Image name="image" value="$image"/>'
    '<RectangleLabels name="label" toName="image"><Label value="cat"/></RectangleLabels></View>'
)
PEERS = Path(__file__).parent / "peers"


@dataclass(frozen=True, slots=True)
class Round:
    """Requests per second, slowest hundredth in ms, processor microseconds of the server per request."""

    rate: float
    p99: float
    cpu: float


def task(number: int) -> dict[str, Any]:
    """A task with the keys that Label Studio sends."""
    return {
        "id": number,
        "data": {"image": f"/data/local-files/?d=img/i{number:03d}.jpg"},
        "meta": {},
        "created_at": "2026-11-20T16:12:58.074163Z",
        "updated_at": "2026-11-20T16:12:58.074163Z",
        "is_labeled": False,
        "overlap": 1,
        "inner_id": number,
        "total_annotations": 0,
        "cancelled_annotations": 0,
        "total_predictions": 0,
        "comment_count": 0,
        "unresolved_comment_count": 0,
        "last_comment_updated_at": None,
        "project": 6,
        "updated_by": None,
        "file_upload": None,
        "comment_authors": [],
        "annotations": [],
        "predictions": [],
    }


def body(tasks: int) -> str:
    return json.dumps(
        {
            "tasks": [task(i) for i in range(tasks)],
            "project": "6.1795191177",
            "label_config": CONFIG,
            "params": {"login": None, "password": None, "context": None},
        }
    )


def press(contender: Contender, script: Path, concurrency: int, seconds: float) -> Round:
    before = contender.cpu_seconds()
    out = subprocess.run(
        ["wrk", "-t1", f"-c{concurrency}", f"-d{seconds:g}s", "--latency", "-s", script, f"{contender.url}/predict"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    cpu = contender.cpu_seconds() - before
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(f"{contender.name} did not answer everything:\n{out}")
    number = int(re.search(r"(\d+) requests in", out)[1])  # type: ignore[index]
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])  # type: ignore[index]
    amount, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)\b", out).groups()  # type: ignore[union-attr]
    return Round(rate, float(amount) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit], cpu / number * 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    options = parser.parse_args()
    if not shutil.which("wrk"):
        raise SystemExit("wrk is not installed: apt-get install wrk")
    theirs, ours = free_port(), free_port()
    gunicorn = python("-m", "gunicorn", "-w1", "--threads=8", f"--bind=127.0.0.1:{theirs}", f"--chdir={PEERS}")
    with (
        tempfile.TemporaryDirectory() as folder,
        running("label-studio-ml, best case", [*gunicorn, "fixed_flask:app"], theirs) as peer,
        running("labelbridge", python(PEERS / "fixed_labelbridge.py", ours), ours, "/readyz") as own,
    ):
        for tasks in (1, 50):
            script = Path(folder) / f"{tasks}.lua"
            script.write_text(
                'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
                f"wrk.body = [==[{body(tasks)}]==]\n"
            )
            for contender in (peer, own):
                press(contender, script, 8, 1)
            for concurrency in options.concurrency:
                rounds: dict[str, list[Round]] = {peer.name: [], own.name: []}
                for _ in range(options.rounds):
                    for contender in (peer, own):
                        rounds[contender.name].append(press(contender, script, concurrency, options.seconds))
                report(tasks, concurrency, rounds)


def report(tasks: int, concurrency: int, rounds: dict[str, list[Round]]) -> None:
    print(f"{tasks} task(s), concurrency {concurrency}")
    medians = []
    for name, found in rounds.items():
        rate, p99, cpu = (statistics.median(getattr(r, key) for r in found) for key in ("rate", "p99", "cpu"))
        medians.append((rate, cpu))
        print(f"  {name:28} {rate:8.0f} requests/s   p99 {p99:7.1f} ms   {cpu:7.0f} us of processor per request")
    (their_rate, their_cpu), (our_rate, our_cpu) = medians
    print(f"  ratio {our_rate / their_rate:.2f} in requests/s, {their_cpu / our_cpu:.2f} in processor time")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
