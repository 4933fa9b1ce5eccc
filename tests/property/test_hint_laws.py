"""Any order and any doubling of webhooks leaves the same hints."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.service.group_commit import GroupCommit
from bridge.service.receiver import HOOKS
from bridge.store import Hint, Store

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
numbers = st.integers(1, 4)
moments = st.integers(0, 3).map(lambda s: (AT - timedelta(seconds=s)).isoformat())


@st.composite
def label_studio_bodies(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    action = draw(st.sampled_from(["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED", "TASKS_CREATED"]))
    row = {"id": draw(numbers), "updated_at": draw(moments)}
    return "label-studio", {
        "action": action,
        "annotation": row,
        "annotations": [row],
        "tasks": [row],
        "project": {"id": draw(numbers)},
    }


@st.composite
def cvat_bodies(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    noun = draw(st.sampled_from(["job", "task", "issue", "comment"]))
    row = {"id": draw(numbers), "updated_date": draw(moments), "job": draw(numbers), "project_id": draw(numbers)}
    return "cvat", {"event": f"{draw(st.sampled_from(['create', 'update', 'delete']))}:{noun}", noun: row}


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[Hint], list[Hint], int]:
    """Different webhooks as hints; the same in another order and doubled; and how many of those come at a time."""
    sent = draw(st.lists(label_studio_bodies() | cvat_bodies(), min_size=1, max_size=12))
    hints = list({hint.digest: hint for hint in map(hint_of, sent)}.values())
    doubled = draw(st.permutations(hints + draw(st.lists(st.sampled_from(hints), max_size=12))))
    return hints, doubled, draw(st.integers(1, 5))


def hint_of(sent: tuple[str, dict[str, Any]]) -> Hint:
    tool, body = sent
    hook = next(hook for hook in HOOKS if hook.tool == tool)
    told = hook.read(body, "")
    assert told is not None
    digest = hashlib.sha256(json.dumps(body).encode()).hexdigest()
    moment = told.moment.isoformat() if told.moment else None
    return Hint(tool, told.places, told.event, moment, digest, AT.isoformat())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(f"sqlite:///{tmp_path_factory.mktemp('hints')}/labelbridge.db")


def left(store: Store) -> set[tuple[object, ...]]:
    found = store.waiting_hints(100)
    assert len({w.hint.digest for w in found}) == len(found)
    store.forget_hints((AT + timedelta(days=1)).isoformat())
    return {(h.tool, h.places, h.event, h.moment, h.digest) for h in (w.hint for w in found)}


@settings(max_examples=40, deadline=None)
@given(deliveries())
def test_order_and_doubling_change_nothing(store: Store, told: tuple[list[Hint], list[Hint], int]) -> None:
    hints, doubled, size = told
    assert all(store.put_hints(hints))
    once = left(store)

    async def send() -> list[bool]:
        commit = GroupCommit(store, lambda: None, lambda: AT, keep=timedelta(days=8))
        new: list[bool] = []
        for group in batches(doubled, size):
            new += await asyncio.gather(*map(commit.put, group))
        await commit.close()
        return new

    assert sum(asyncio.run(send())) == len(hints)
    assert left(store) == once


def batches(hints: Sequence[Hint], size: int) -> list[Sequence[Hint]]:
    return [hints[at : at + size] for at in range(0, len(hints), size)]
