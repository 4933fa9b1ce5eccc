"""What serving costs: the same model on the same pictures, in a plain loop and through ``POST /predict``, in one run.

    python benchmarks/serving.py [--model embedded] [--seconds 6] [--concurrency 1 8 32]

The load comes from a process of its own, so that the client's work does not slow the server's event loop; on a machine
with few cores they still share them. Every picture is sent once, so the server's cache of detections is never hit.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import multiprocessing
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import requests
import uvicorn
from PIL import Image

from bridge.images import decode
from ml_backend.app import create_app, listen
from ml_backend.inference import ModelSource
from ml_backend.logs import json_logger
from ml_backend.models.catalogue import describe_model, load_predictor
from ml_backend.server_settings import ServerSettings

CONFIG = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">{}</RectangleLabels></View>'
)


@dataclass(frozen=True, slots=True)
class Load:
    """One measurement: answers per second, and milliseconds of the middle and the slowest hundredth."""

    rate: float
    p50: float
    p99: float
    failed: int


def pictures(number: int, seed: int = 0) -> list[bytes]:
    """JPEG files of 640 x 480 with smooth shapes on noise, about 100 kB each, no two alike."""
    rng = np.random.default_rng(seed)
    files = []
    for _ in range(number):
        coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC), np.int16)
        noisy = np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)
        out = io.BytesIO()
        Image.fromarray(noisy).save(out, "JPEG", quality=85)
        files.append(out.getvalue())
    return files


def direct_loop(predictor: Any, files: list[bytes], seconds: float) -> float:
    """Images per second of decoding and predicting one after the other.

    In a thread of its own, as in the server: OpenMP's threads spin while they wait, and on a busy machine those of
    the main thread can cost ten times the work itself (``OMP_WAIT_POLICY=PASSIVE`` cures that).
    """
    rates: list[float] = []

    def loop() -> None:
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            predictor.predict([decode(files[done % len(files)], "picture")])
            done += 1
        rates.append(done / (time.perf_counter() - began))

    thread = threading.Thread(target=loop)
    thread.start()
    thread.join()
    return rates[0]


def bodies(files: list[bytes], labels: list[str]) -> list[bytes]:
    config = CONFIG.format("".join(f'<Label value="{label}"/>' for label in labels))
    return [
        json.dumps(
            {
                "tasks": [{"id": i, "data": {"image": "data:image/jpeg;base64," + base64.b64encode(f).decode()}}],
                "label_config": config,
                "project": "1.1",
                "params": {"context": None},
            }
        ).encode()
        for i, f in enumerate(files)
    ]


def press(url: str, seed: int, number: int, labels: list[str], concurrency: int, seconds: float, pipe: Any) -> None:
    """Send distinct pictures with ``concurrency`` threads for ``seconds``; runs in a process of its own."""
    sent = bodies(pictures(number, seed), labels)
    turn, times, failed = count(), [], [0]
    pipe.send("ready")
    pipe.recv()
    until = time.perf_counter() + seconds

    def one_after_another(_: int) -> None:
        with requests.Session() as session:
            while time.perf_counter() < until and (i := next(turn)) < len(sent):
                began = time.perf_counter()
                answer = session.post(
                    f"{url}/predict", data=sent[i], headers={"Content-Type": "application/json"}, timeout=60
                )
                times.append(time.perf_counter() - began)
                failed[0] += answer.status_code != 200

    began = time.perf_counter()
    with ThreadPoolExecutor(concurrency) as pool:
        list(pool.map(one_after_another, range(concurrency)))
    spent = time.perf_counter() - began
    ordered = sorted(times)
    pipe.send(
        Load(
            rate=len(times) / spent,
            p50=statistics.median(ordered) * 1000,
            p99=ordered[int(len(ordered) * 0.99)] * 1000,
            failed=failed[0],
        )
    )


def measure(url: str, seed: int, labels: list[str], concurrency: int, seconds: float, expected: float) -> Load:
    """One load from a fresh process, with enough pictures that none is sent twice."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    number = int(expected * seconds * 2) + 2 * concurrency
    process = multiprocessing.get_context("spawn").Process(
        target=press, args=(url, seed, number, labels, concurrency, seconds, there)
    )
    process.start()
    here.recv()
    here.send("go")
    load: Load = here.recv()
    process.join()
    return load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--max-batch", type=int, default=8)
    options = parser.parse_args()

    predictor = load_predictor(options.model, device=options.device)
    files = pictures(32)
    direct_loop(predictor, files, 1.0)
    before = direct_loop(predictor, files, options.seconds)
    source = ModelSource(describe_model(options.model).name, lambda: predictor)
    log = json_logger(io.StringIO(), level=30)
    app = create_app(ServerSettings(max_batch=options.max_batch), source, log=log)
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    loads = {n: measure(url, 100 + n, list(predictor.classes), n, options.seconds, before) for n in options.concurrency}
    metrics = requests.get(f"{url}/metrics", timeout=10).text
    cached = [line for line in metrics.splitlines() if line.startswith('labelbridge_images_total{outcome="cached"}')]
    server.should_exit = True
    thread.join()
    after = direct_loop(predictor, files, options.seconds)

    direct = (before + after) / 2
    print(f"model {predictor.name}; pictures of {sum(map(len, files)) / len(files) / 1000:.0f} kB")
    print(f"direct loop: {before:.1f} images/s before, {after:.1f} after")
    print("concurrency  requests/s  of the loop   p50 ms   p99 ms  failed")
    for n, load in loads.items():
        print(
            f"{n:11d}  {load.rate:10.1f}  {load.rate / direct:10.2f}x {load.p50:8.0f} {load.p99:8.0f} {load.failed:7d}"
        )
    print(f"answers from the cache: {cached[0].split()[-1] if cached else 0}")


if __name__ == "__main__":
    main()
