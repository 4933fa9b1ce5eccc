"""Which places webhooks are wanted of is known at once, whatever the database does."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.errors import StoreError
from bridge.logs import json_logger
from bridge.service.watched import watched
from bridge.store import Store
from bridge.store.rows import ReviewPlace

TARGET = "ls:project/7"


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


def test_projects_of_reviews_are_watched_too_as_soon_as_they_are_opened(tmp_path: Path, log: io.StringIO) -> None:
    with Store.open(f"sqlite:///{tmp_path / 'x.db'}") as store:
        store.put_review(TARGET, "8", "http://ls/projects/8")
        store.put_review("cvat:task/2", "cvat:task/2", "http://cvat", "issues")
        with watched([TARGET, "cvat:task/2"], store, json_logger(log), every_s=0.01) as answer:
            assert answer() == {TARGET, "ls:project/8", "cvat:task/2"}
            store.put_review("cvat:task/2", "9", "http://ls/projects/9")
            until(lambda: "ls:project/9" in answer())


def test_a_database_that_hangs_or_fails_holds_nobody_up(
    tmp_path: Path, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(f"sqlite:///{tmp_path / 'x.db'}") as store:
        hangs, goes_on = threading.Event(), threading.Event()

        def reviews_of(_target: str) -> list[ReviewPlace]:
            if threading.current_thread() is threading.main_thread():
                return []
            hangs.set()
            goes_on.wait(10)
            raise StoreError("the database cannot be reached")

        monkeypatch.setattr(store, "reviews_of", reviews_of)
        with watched([TARGET], store, json_logger(log), every_s=0.01) as answer:
            assert hangs.wait(10)
            assert answer() == {TARGET}
            goes_on.set()
            until(lambda: "cannot be reached" in log.getvalue())
            assert answer() == {TARGET}
