"""The inference thread, the pixel budget and the cache on their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_kit import SquareFinder

from bridge.errors import LabelbridgeError, ModelError, PluginError
from ml_backend.budget import Budget
from ml_backend.inference import InferenceThread, ModelSource, State
from ml_backend.lru import Lru
from ml_backend.models import Detections


class Watched(InferenceThread):
    """With records of what it tells."""

    def __init__(self, load: Any, coming: Any = lambda: 0, max_batch: int = 4, max_wait_s: float = 0.0) -> None:
        self.batches: list[int] = []
        self.states: list[State] = []
        super().__init__(
            ModelSource(SquareFinder.name, load),
            max_batch=max_batch,
            max_wait_s=max_wait_s,
            coming=coming,
            on_batch=lambda images, _seconds: self.batches.append(images),
            on_state=lambda state, _error: self.states.append(state),
        )


def image(width: int) -> np.ndarray:
    pixels = np.zeros((10, 60, 3), np.uint8)
    pixels[2:5, :width, 0] = 254
    return pixels


def test_images_queued_while_loading_are_answered_in_one_go() -> None:
    gate = threading.Event()

    def load() -> SquareFinder:
        gate.wait(10)
        return SquareFinder()

    thread = Watched(load)
    thread.start()
    answers = [thread.submit(image(w)) for w in range(1, 7)]
    assert thread.waiting == 6
    gate.set()
    assert [a.result(10).xyxy[0, 2] for a in answers] == [1, 2, 3, 4, 5, 6]
    thread.close()
    assert thread.batches == [4, 2]
    assert thread.states == [State.READY, State.CLOSED]


def test_a_batch_waits_for_images_on_their_way_but_not_for_nothing() -> None:
    on_their_way = [1]
    thread = Watched(SquareFinder, coming=lambda: on_their_way[0], max_wait_s=5.0)
    thread.start()
    first = thread.submit(image(3))
    with pytest.raises(TimeoutError):
        first.result(0.2)
    on_their_way[0] = 0
    second = thread.submit(image(4))
    assert (first.result(2).xyxy[0, 2], second.result(2).xyxy[0, 2]) == (3, 4)
    thread.close()
    assert thread.batches == [2]


def test_a_closed_thread_finishes_what_it_has_and_refuses_the_rest() -> None:
    gate = threading.Event()
    gate.set()
    model = SquareFinder(gate)
    thread = Watched(lambda: model)
    thread.start()
    thread.submit(image(1)).result(10)
    gate.clear()
    waiting = [thread.submit(image(w)) for w in (1, 2)]
    closer = threading.Thread(target=thread.close)
    closer.start()
    gate.set()
    closer.join(10)
    assert [a.result(1).xyxy[0, 2] for a in waiting] == [1, 2]
    with pytest.raises(ModelError, match="shutting down"):
        thread.submit(image(1)).result(1)
    assert thread.state is State.CLOSED


def test_closing_in_the_middle_of_loading_fails_those_who_wait_and_ends_the_thread() -> None:
    gate = threading.Event()

    def load() -> SquareFinder:
        gate.wait(10)
        return SquareFinder()

    thread = Watched(load)
    thread.start()
    waiting = thread.submit(image(1))
    thread.close(timeout=0.05)
    with pytest.raises(ModelError, match="shutting down"):
        waiting.result(1)
    gate.set()
    thread._thread.join(5)
    assert not thread._thread.is_alive()
    assert thread.state is State.CLOSED


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ModelError("no weights"), ModelError, "no weights"),
        (KeyError("x"), ModelError, "could not be loaded: KeyError"),
    ],
)
def test_a_model_that_cannot_be_loaded_fails_all(error: Exception, kind: type[Exception], words: str) -> None:
    def load() -> SquareFinder:
        raise error

    thread = Watched(load)
    early = thread.submit(image(1))
    thread.start()
    with pytest.raises(kind, match=words):
        early.result(10)
    with pytest.raises(kind, match=words):
        thread.submit(image(1)).result(10)
    assert thread.state is State.FAILED
    thread.close()
    assert thread.state is State.FAILED


def test_a_model_that_answers_too_little_breaks_its_contract() -> None:
    class Short(SquareFinder):
        def predict(self, images: Sequence[Any]) -> list[Detections]:
            return super().predict(images)[1:]

    thread = Watched(Short)
    thread.start()
    with pytest.raises(PluginError, match="gave 0 answers for 1 images"):
        thread.submit(image(1)).result(10)
    thread.close()


def test_an_answer_nobody_waits_for_any_more_is_not_computed() -> None:
    gate = threading.Event()
    gate.set()
    model = SquareFinder(gate)
    thread = Watched(lambda: model, max_batch=1)
    thread.start()
    thread.submit(image(1)).result(10)
    model.batches.clear()
    gate.clear()
    running = thread.submit(image(1))
    dropped, kept = thread.submit(image(2)), thread.submit(image(3))
    assert dropped.cancel()
    gate.set()
    assert running.result(10) is not None
    assert kept.result(10).xyxy[0, 2] == 3
    thread.close()
    assert sum(model.batches) == 2


def test_errors_of_the_model_are_library_errors() -> None:
    cursed = image(1)
    cursed[0, 0, 2] = 255
    thread = Watched(SquareFinder)
    thread.start()
    with pytest.raises(LabelbridgeError, match="could not be run: ValueError: this picture is cursed"):
        thread.submit(cursed).result(10)
    thread.close()


# ---- budget


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=20), st.integers(1, 10), st.sets(st.integers(0, 19)))
def test_budget_is_never_exceeded_is_fair_and_ends_whole(amounts: list[int], total: int, dropped: set[int]) -> None:
    async def scenario() -> None:
        budget = Budget(total)
        held = 0
        order: list[int] = []

        async def take(i: int, amount: int) -> None:
            nonlocal held
            async with budget.share(amount):
                order.append(i)
                held += min(amount, total)
                assert held <= total
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                held -= min(amount, total)

        tasks = [asyncio.create_task(take(i, a)) for i, a in enumerate(amounts)]
        await asyncio.sleep(0)
        for i in dropped:
            if i < len(tasks):
                tasks[i].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert order == sorted(order)
        assert {i for i in range(len(amounts)) if i not in dropped} <= set(order)
        async with budget.share(total):
            pass

    asyncio.run(asyncio.wait_for(scenario(), 5))


def test_lru_forgets_what_was_used_longest_ago() -> None:
    cache: Lru[str, int] = Lru(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)
    cache.put("a", 9)
    assert cache.get("a") == 9
    assert len(cache) == 2
