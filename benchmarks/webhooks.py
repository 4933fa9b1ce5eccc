"""A burst of webhooks: how long answers take, and whether each event is stored exactly once, while a CPU is busy.

    python benchmarks/webhooks.py [--events 10000] [--connections 32] [--load process|thread|none]

The receiver, the sender and the load are processes of their own (``--load thread``: the load is a thread inside the
receiver's process, which shares its interpreter). Nine in ten events are new, half of them Label Studio's, half CVAT's;
one in twenty is sent a second time, one in twenty is forged. Each is sent over a connection of its own, as the tools do
it; ``--connections`` are open at any moment. A time is from opening the connection to the end of the answer.

Beside it, the same burst on a receiver that does the same and commits each event by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import multiprocessing
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import uvicorn
import uvloop
from processes import free_port, python, running
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bridge.core.geometry import iou_matrix
from bridge.service.receiver import HOOKS, make_receiver
from bridge.store import Hint, Store
from bridge.tools.hooks import PATHS

SECRET = "a-secret-of-the-benchmark"
SECRETS = {hook.tool: SECRET for hook in HOOKS}
LIMIT_MS = 100.0


def now() -> datetime:
    return datetime.now(UTC)


# --- the receivers --------------------------------------------------------------------------------------------------


def one_by_one(store: Store) -> Starlette:
    """What one would write first: check, read, commit, answer."""

    def door(hook: Any) -> Any:
        async def answer(request: Request) -> JSONResponse:
            body = await request.body()
            if not hook.is_genuine(request.headers, SECRET, body):
                return JSONResponse({"outcome": "forged"}, 401)
            told, digest = hook.read(json.loads(body), ""), hashlib.sha256(body).hexdigest()
            hint = Hint(hook.tool, told.places, told.event, str(told.moment), digest, now().isoformat())
            (new,) = await run_in_threadpool(store.put_hints, [hint])
            return JSONResponse({"outcome": "accepted" if new else "duplicate"})

        return answer

    async def health(_request: Request) -> JSONResponse:
        return JSONResponse({})

    doors = [Route(PATHS[hook.tool], door(hook), methods=["POST"]) for hook in HOOKS]
    return Starlette(routes=[*doors, Route("/health", health)])


def serve(kind: str, port: int, database: str, load: str) -> None:
    store = Store.open(f"sqlite:///{database}")
    app = one_by_one(store) if kind == "one by one" else make_receiver(store, SECRETS, lambda: None, now)
    if load == "thread":
        threading.Thread(target=work, daemon=True).start()
    uvicorn.run(app, port=port, log_config=None, access_log=False, backlog=2048)


def work() -> None:
    """What scoring is like: numpy over the boxes of an image, and Python over what comes out."""
    draw = np.random.default_rng(0)
    while True:
        boxes = np.sort(draw.uniform(0, 500, (2, 60, 2, 2)), axis=2).reshape(2, 60, 4)
        found = iou_matrix(boxes[0], boxes[1])
        pairs = {(i, j): float(value) for i, row in enumerate(found) for j, value in enumerate(row) if value > 0.1}
        sorted(pairs, key=lambda pair: -pairs[pair])


@contextmanager
def working(load: str) -> Iterator[None]:
    processes = [multiprocessing.Process(target=work, daemon=True)] if load == "process" else []
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()


# --- the sender -----------------------------------------------------------------------------------------------------


def label_studio(number: int, secret: str) -> tuple[str, bytes, str]:
    """Five kilobytes, most of them the project, as Label Studio sends them."""
    at = (now() - timedelta(seconds=number % 100)).isoformat()
    region = {"id": "r", "type": "rectanglelabels", "value": {"x": 1, "y": 2, "width": 3, "height": 4}}
    annotation = {"id": number, "task": number, "updated_at": at, "result": [region]}
    project = {"id": 7, "token": "x" * 40, "label_config": "<View>" + "<Label/>" * 300 + "</View>"}
    project |= {f"field_{index}": index for index in range(50)}
    body = {"action": "ANNOTATION_CREATED", "annotation": annotation, "project": project, "task": {"id": number}}
    return PATHS["label-studio"], json.dumps(body).encode(), f"X-Labelbridge-Token: {secret}"


def cvat(number: int, secret: str) -> tuple[str, bytes, str]:
    at = (now() - timedelta(seconds=number % 100)).isoformat()
    job = {"id": number + 1, "task_id": number // 10 + 1, "project_id": 3, "updated_date": at, "mode": "x" * 1000}
    body = json.dumps({"event": "update:job", "job": job, "before_update": {"updated_date": at}}).encode()
    return PATHS["cvat"], body, "X-Signature-256: sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def burst(events: int) -> tuple[list[bytes], Counter[str]]:
    """Requests in the order in which they are sent, and what should become of them."""
    draw, expected = random.Random(0), Counter[str]()
    requests: list[bytes] = []
    genuine: list[bytes] = []
    for number in range(events):
        chance, make = draw.random(), (label_studio, cvat)[number % 2]
        if chance < 0.05 and genuine:
            requests.append(draw.choice(genuine))
            expected["duplicate"] += 1
            continue
        forged = chance > 0.95
        path, body, header = make(number, "another-secret-than-that" if forged else SECRET)
        lines = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\n{header}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        requests.append(lines.encode() + body)
        expected["forged" if forged else "accepted"] += 1
        if not forged:
            genuine.append(requests[-1])
    return requests, expected


async def send(port: int, requests: Sequence[bytes], connections: int) -> tuple[list[float], Counter[str]]:
    """Milliseconds of each answer, and what became of the events."""
    times, fates, waiting = list[float](), Counter[str](), iter(requests)

    async def sender() -> None:
        for request in waiting:
            began = time.perf_counter()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            answer = await reader.read(-1)
            times.append((time.perf_counter() - began) * 1000)
            fates[json.loads(answer.partition(b"\r\n\r\n")[2])["outcome"]] += 1
            writer.close()

    await asyncio.gather(*(sender() for _ in range(connections)))
    return times, fates


def measure(kind: str, events: int, connections: int, load: str) -> float:
    """Print a line about one burst on a fresh receiver; the p99 in milliseconds."""
    requests, expected = burst(events)
    with tempfile.TemporaryDirectory() as folder:
        database, port = f"{folder}/labelbridge.db", free_port()
        Store.open(f"sqlite:///{database}").close()
        command = [*python(__file__), "--serve", kind, str(port), database, load]
        with running(kind, command, port), working(load):
            uvloop.run(send(port, burst(200)[0], connections))  # the first ones pay for what is made once
            with Store.open(f"sqlite:///{database}") as store:
                store.forget_hints((now() + timedelta(days=1)).isoformat())
                began = time.perf_counter()
                times, fates = uvloop.run(send(port, requests, connections))
                seconds = time.perf_counter() - began
                deadline = time.monotonic() + 60
                while len(stored := store.waiting_hints(events)) < expected["accepted"] and time.monotonic() < deadline:
                    time.sleep(0.1)  # those that were answered before they were stored
    p50, p99, most = np.percentile(times, [50, 99, 100])
    late = sum(one > LIMIT_MS for one in times)
    once = len({waiting.hint.digest for waiting in stored}) == len(stored) == expected["accepted"]
    print(
        f"{kind:<12} p50 {p50:6.1f}  p99 {p99:6.1f}  max {most:6.1f} ms  over {LIMIT_MS:.0f} ms: {late}  "
        f"{events / seconds:,.0f} events/s"
    )
    print(f"{'':<12} {dict(sorted(fates.items()))}; sent {dict(sorted(expected.items()))}")
    print(f"{'':<12} stored: {len(stored)}, each exactly once: {'yes' if once else 'NO'}")
    return float(p99)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--load", choices=["process", "thread", "none"], default="process")
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        kind, port, database, load = given.serve
        serve(kind, int(port), database, load)
        return
    print(f"{given.events} events, {given.connections} connections at a time, load: {given.load}")
    ours, other = (measure(kind, given.events, given.connections, given.load) for kind in ("groups", "one by one"))
    print(f"p99 of one by one: {other / ours:.1f} times that of groups")


if __name__ == "__main__":
    main()
