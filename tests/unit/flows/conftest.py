"""A fresh desk for each test of a journey."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from fakes.memory_tool import MemoryTool
from flow_kit import Desk, Killed, MemoryDurable

from bridge.flows.durable import Durable
from bridge.flows.score import Journal
from bridge.store import Store


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    begun = datetime(2026, 11, 20, 10, tzinfo=UTC)
    minutes, numbers = itertools.count(), itertools.count(1)
    durable = MemoryDurable()
    with Store.open(f"sqlite:///{tmp_path}/labelbridge.db") as store:
        yield Desk(
            tool=MemoryTool(),
            journal=Journal(
                store=store,
                durable=cast(Durable, durable),
                now=lambda: (begun + timedelta(minutes=next(minutes))).isoformat(),
                new_id=lambda: f"run{next(numbers)}",
            ),
            durable=durable,
        )
        assert store.verify_events() == []


@pytest.fixture
def killed_in(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the process die just before the ``n``-th call of a method of the store."""

    def arm(method: str, n: int = 1) -> None:
        real = getattr(desk.store, method)
        calls = itertools.count(1)

        def dying(*words: Any, **more: Any) -> Any:
            if next(calls) == n:
                monkeypatch.setattr(desk.store, method, real)
                raise Killed
            return real(*words, **more)

        monkeypatch.setattr(desk.store, method, dying)

    return arm
