"""Throughput through Label Studio's dialect, beside the best direct loop and a naive Flask server, in one run.

    python benchmarks/serving.py IMAGES [--builder ssdlite320_mobilenet_v3_large] [--seconds 6] [--rounds 3]

IMAGES is a folder of JPEG files. The network has random weights: the same file for all. Every request carries one image
that was never sent before (the same files with other trailing bytes), so no cache of answers is hit. Contenders take
turns; figures are medians of the rounds. Needs ``wrk`` (apt-get install wrk) and the dependency group ``bench``.

The direct loops decode and predict in one process, without any server: for each runtime, one image after the other, and
eight at a time while a second thread decodes the next eight. The best of them is what the server is held against.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import multiprocessing
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import Contender, free_port, python, running

CLASSES = [f"class{i}" for i in range(1, 91)]
PEERS = Path(__file__).parent / "peers"
CONFIG = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
    + "".join(f'<Label value="{name}"/>' for name in CLASSES)
    + "</RectangleLabels></View>"
)


@dataclass(frozen=True, slots=True)
class Rate:
    """Images per second, processor seconds per image, milliseconds of the middle and the slowest hundredth."""

    images: float
    cpu: float
    p50: float = 0.0
    p99: float = 0.0


def save_weights(builder: str, path: Path) -> None:
    import torch
    from torchvision.models import get_model

    torch.manual_seed(0)
    network = get_model(builder, weights=None, weights_backbone=None, num_classes=len(CLASSES) + 1)
    torch.save(network.state_dict(), path)


def new_images(files: list[bytes]) -> Iterator[bytes]:
    """The files over and over, each time with other bytes behind the picture's end, which decoders pass over."""
    stamp = time.time_ns()
    for number in itertools.count():
        yield files[number % len(files)] + b"%d.%d" % (stamp, number)


def write_bodies(files: list[bytes], number: int, folder: Path) -> Path:
    """A script for wrk that sends ``number`` different bodies."""
    for i, data in enumerate(itertools.islice(new_images(files), number)):
        image = "data:image/jpeg;base64," + base64.b64encode(data).decode()
        (folder / f"{i}.json").write_text(
            json.dumps(
                {
                    "tasks": [{"id": i, "data": {"image": image}}],
                    "project": "1.1",
                    "label_config": CONFIG,
                    "params": {"context": None},
                }
            )
        )
    script = folder / "send.lua"
    script.write_text(
        f"""
        local bodies, sent = {{}}, 0
        wrk.method = "POST"
        wrk.headers["Content-Type"] = "application/json"
        function init()
          for i = 0, {number - 1} do
            local file = io.open("{folder}/" .. i .. ".json", "rb")
            bodies[i] = file:read("*a")
            file:close()
          end
        end
        function request()
          local body = bodies[sent % {number}]
          sent = sent + 1
          return wrk.format(nil, "/predict", nil, body)
        end
        """
    )
    return script


def press(contender: Contender, files: list[bytes], concurrency: int, seconds: float, expected: float) -> Rate:
    with tempfile.TemporaryDirectory() as folder:
        script = write_bodies(files, int(expected * seconds * 1.6) + 2 * concurrency, Path(folder))
        before = contender.cpu_seconds()
        command = ["wrk", "-t1", f"-c{concurrency}", f"-d{seconds:g}s", "--timeout=60s", "--latency", "-s", script]
        out = subprocess.run([*command, contender.url], capture_output=True, text=True, check=True).stdout
        cpu = contender.cpu_seconds() - before
    contender.settle()
    if "Non-2xx" in out:
        raise SystemExit(f"{contender.name} did not answer everything:\n{out}")
    number = int(re.search(r"(\d+) requests in", out)[1])  # type: ignore[index]
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])  # type: ignore[index]
    return Rate(rate, cpu / max(number, 1), _percentile(out, 50), _percentile(out, 99))


def direct(loop: str, accelerator: str, builder: str, weights: Path, folder: Path, seconds: float, pipe: Any) -> None:
    """One direct loop, in a process of its own."""
    from bridge.images import decode
    from ml_backend.models.catalogue import ModelSpec, load

    spec = ModelSpec(
        builder, weights=weights, classes=tuple(CLASSES), device="cpu", score_threshold=0.05, accelerator=accelerator
    )
    model: Any = load(spec)
    images = new_images([p.read_bytes() for p in sorted(folder.glob("*.jp*g"))])
    decoded: Callable[[int], list[Any]] = lambda n: [decode(next(images), "image") for _ in range(n)]  # noqa: E731
    size = 1 if loop == "one by one" else 8
    model.predict(decoded(size))
    pipe.send("ready")
    while pipe.recv() == "go":
        began, cpu, done = time.perf_counter(), time.process_time(), 0
        if loop == "eight, decoding ahead":
            with ThreadPoolExecutor(1) as ahead:
                following = ahead.submit(decoded, size)
                while time.perf_counter() - began < seconds:
                    batch, following = following.result(), ahead.submit(decoded, size)
                    model.predict(batch)
                    done += size
        else:
            while time.perf_counter() - began < seconds:
                model.predict(decoded(size))
                done += size
        pipe.send(Rate(done / (time.perf_counter() - began), (time.process_time() - cpu) / done))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("images", type=Path)
    parser.add_argument("--builder", default="ssdlite320_mobilenet_v3_large")
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=32)
    options = parser.parse_args()
    if not shutil.which("wrk"):
        raise SystemExit("wrk is not installed: apt-get install wrk")
    # As the command itself does: OpenMP's threads must not spin while others work. The same for all contenders.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    files = [p.read_bytes() for p in sorted(options.images.glob("*.jp*g"))]
    if not files:
        raise SystemExit(f"no JPEG files in {options.images}")
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pth"
        save_weights(options.builder, weights)
        compare(options, files, weights)


def compare(options: argparse.Namespace, files: list[bytes], weights: Path) -> None:
    loops = [(loop, runtime) for runtime in ("torch", "auto") for loop in ("one by one", "eight, decoding ahead")]
    context = multiprocessing.get_context("spawn")
    ends = []
    for loop, runtime in loops:
        here, there = context.Pipe()
        arguments = (loop, runtime, options.builder, weights, options.images, options.seconds, there)
        context.Process(target=direct, args=arguments, daemon=True).start()
        here.recv()
        ends.append((f"direct loop: {runtime}, {loop}", here))
    theirs, ours = free_port(), free_port()
    names = ",".join(CLASSES)
    app = f"naive_flask:make_app('{options.builder}', '{weights}', '{names}')"
    flask = python(
        "-m", "gunicorn", "--chdir", PEERS, "--workers", 1, "--threads", 8, "--bind", f"127.0.0.1:{theirs}", app
    )
    serve = python("-m", "bridge", "serve", "--port", ours, "--interactor", "none", "--detector", options.builder)
    serve += ["--weights", str(weights), "--classes", names]
    found: dict[str, list[Rate]] = {}
    with running("naive Flask", flask, theirs) as naive, running("labelbridge", serve, ours, "/readyz") as own:
        for contender in (naive, own):
            press(contender, files, 4, 3, 60)
        for _ in range(options.rounds):
            for name, end in ends:
                end.send("go")
                found.setdefault(name, []).append(end.recv())
            best = max(rates[-1].images for name, rates in found.items() if name.startswith("direct"))
            for contender in (naive, own):
                rate = press(contender, files, options.concurrency, options.seconds, best)
                found.setdefault(contender.name, []).append(rate)
    for _, end in ends:
        end.send("stop")
    report(options, {name: _median(rates) for name, rates in found.items()})


def report(options: argparse.Namespace, found: dict[str, Rate]) -> None:
    print(f"{options.builder}, concurrency {options.concurrency}")
    for name, rate in found.items():
        latency = f"   p50 {rate.p50:6.0f} ms   p99 {rate.p99:6.0f} ms" if rate.p99 else ""
        print(f"  {name:45} {rate.images:6.1f} images/s   {rate.cpu * 1000:6.1f} ms of processor per image{latency}")
    loops = [rate for name, rate in found.items() if name.startswith("direct")]
    best, leanest = max(r.images for r in loops), min(r.cpu for r in loops)
    own, naive = found["labelbridge"], found["naive Flask"]
    print(f"  server : best direct loop   {own.images / best:.2f} in images/s")
    print(f"  server : leanest loop       {own.cpu / leanest:.2f} in processor time per image")
    print(f"  server : naive Flask        {own.images / naive.images:.1f} in images/s")


def _median(rates: list[Rate]) -> Rate:
    return Rate(*(statistics.median(getattr(r, key) for r in rates) for key in ("images", "cpu", "p50", "p99")))


def _percentile(out: str, percent: int) -> float:
    amount, unit = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s|m)\b", out).groups()  # type: ignore[union-attr]
    return float(amount) * {"us": 1e-3, "ms": 1, "s": 1e3, "m": 6e4}[unit]


if __name__ == "__main__":
    main()
