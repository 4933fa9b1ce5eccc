"""Several models: loaded when first needed, unloaded when memory is short, tried again when loading failed."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from serving_kit import SquareFinder

from bridge.core.masks import MaskCrop
from bridge.errors import ConfigError, LabelbridgeError, ModelError, NotFound
from bridge.logs import json_logger
from ml_backend import fleet as fleet_module
from ml_backend.entry import ModelEntry
from ml_backend.fleet import Fleet
from ml_backend.inference import InferenceThread, State
from ml_backend.metrics import Metrics
from ml_backend.models import Prompt, Segment
from ml_backend.models.catalogue import ModelCard


class Heavy(SquareFinder):
    """A detector that says what its weights take."""

    def __init__(self, name: str, nbytes: int, gate: threading.Event | None = None) -> None:
        super().__init__(gate)
        self.name = name
        self.nbytes = nbytes


class Stamp:
    """An interactor that answers every prompt with the pixel under the middle of its box."""

    name = "s"

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        return image[..., 0].copy()

    def prompt(self, preprocessed: Any, prompts: Any) -> list[Segment | None]:
        found: list[Segment | None] = []
        for prompt in prompts:
            x1, y1, x2, y2 = prompt.box
            found.append(Segment(MaskCrop(int(x1 + x2) // 2, int(y1 + y2) // 2, np.ones((1, 1), bool)), 0.5))
        return found


def entry(name: str, load: Callable[[], Any], role: Any = "rectangle") -> ModelEntry:
    return ModelEntry(name, ModelCard(name, role, ("cat", "dog")), load)


def heavy(name: str, nbytes: int, gate: threading.Event | None = None) -> ModelEntry:
    return entry(name, lambda: Heavy(name, nbytes, gate))


def make(*entries: ModelEntry, max_bytes: int = 1000, on_failure: Any = None) -> tuple[Fleet, io.StringIO]:
    log = io.StringIO()

    def new_detector(one: ModelEntry, on_state: Any) -> InferenceThread:
        return InferenceThread(
            one.source, max_batch=4, max_wait_s=0, coming=lambda: 0, on_batch=lambda *_: None, on_state=on_state
        )

    made = Fleet(
        entries,
        new_detector=new_detector,
        max_bytes=max_bytes,
        metrics=Metrics(),
        log=json_logger(log),
        on_failure=on_failure,
    )
    return made, log


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(400):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen within 4 s")


IMAGE = np.zeros((20, 30, 3), np.uint8)


def test_only_the_first_models_are_loaded_at_the_start() -> None:
    async def main() -> None:
        fleet, _ = make(heavy("a", 1), heavy("b", 1))
        fleet.start(["a"])
        await until(lambda: fleet.state is State.READY)
        assert fleet.state_of("b") is State.IDLE
        assert fleet.detector("b").submit(IMAGE).result(5) is not None
        assert fleet.state_of("b") is State.READY
        fleet.close(5)

    asyncio.run(main())


def test_beyond_the_budget_the_model_used_longest_ago_is_unloaded_and_comes_back() -> None:
    async def main() -> None:
        fleet, log = make(heavy("a", 400), heavy("b", 400), heavy("c", 400))
        fleet.start(["a"])
        for name in ("a", "b", "a", "c"):
            fleet.detector(name).submit(IMAGE).result(5)
            await asyncio.sleep(0.05)
        await until(lambda: fleet.state_of("b") is State.IDLE)
        assert fleet.state_of("a") is State.READY
        assert '"event":"model_unloaded"' in log.getvalue()
        assert fleet.detector("b").submit(IMAGE).result(5) is not None
        fleet.close(5)

    asyncio.run(main())


def test_a_model_that_works_is_not_unloaded() -> None:
    async def main() -> None:
        gate = threading.Event()
        gate.set()
        fleet, _ = make(heavy("a", 900, gate), heavy("b", 900))
        fleet.start(["a"])
        await until(lambda: fleet.state is State.READY)
        gate.clear()
        answer = fleet.detector("a").submit(IMAGE)
        fleet.detector("b").submit(IMAGE).result(5)
        await asyncio.sleep(0.1)
        assert fleet.state_of("a") is State.READY
        gate.set()
        assert answer.result(5) is not None
        fleet.close(5)

    asyncio.run(main())


def test_a_model_that_failed_to_load_is_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        tries: list[float] = []

        def load() -> Heavy:
            tries.append(time.monotonic())
            if len(tries) == 1:
                raise ModelError("the disk was full")
            return Heavy("a", 1)

        told: list[LabelbridgeError] = []
        fleet, _ = make(entry("a", load), heavy("b", 1), on_failure=told.append)
        fleet.start(["b"])
        with pytest.raises(ModelError, match="the disk was full"):
            fleet.detector("a").submit(IMAGE).result(5)
        with pytest.raises(ModelError, match="the disk was full"):
            fleet.detector("a").submit(IMAGE).result(5)
        assert len(tries) == 1
        assert told == []
        monkeypatch.setattr(fleet_module, "_RETRY_S", 0.0)
        await asyncio.sleep(0.01)
        assert fleet.detector("a").submit(IMAGE).result(5) is not None
        fleet.close(5)

    asyncio.run(main())


def test_whoever_runs_the_server_is_told_of_a_default_model_that_fails() -> None:
    async def main() -> None:
        def load() -> Heavy:
            raise ModelError("damaged")

        told: list[LabelbridgeError] = []
        fleet, _ = make(entry("a", load), on_failure=told.append)
        fleet.start(["a"])
        await until(lambda: bool(told))
        assert fleet.state is State.FAILED
        fleet.close(5)

    asyncio.run(main())


def test_interactive_models_answer_prompts_and_are_no_detectors() -> None:
    async def main() -> None:
        fleet, _ = make(heavy("a", 1), entry("s", Stamp, "interactor"))
        fleet.start(["a", "s"])
        engine = fleet.interactor("s")
        made = engine.preprocess(IMAGE).result(5)
        (segment,) = engine.prompt(made, [Prompt(box=(2, 2, 6, 8))]).result(5)
        assert segment is not None
        assert segment.mask.xyxy == (4, 5, 5, 6)
        with pytest.raises(NotFound, match="finds nothing on its own"):
            fleet.detector("s")
        with pytest.raises(NotFound, match="takes no prompts"):
            fleet.interactor("a")
        with pytest.raises(NotFound, match="there is no model 'x'"):
            fleet.detector("x")
        fleet.close(5)
        with pytest.raises(ModelError, match="shutting down"):
            engine.preprocess(IMAGE).result(5)

    asyncio.run(main())


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 65, "é"])
def test_ids_that_no_url_takes_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="a model cannot be called"):
        heavy(name, 1)
