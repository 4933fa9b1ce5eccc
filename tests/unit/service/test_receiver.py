"""The receiver of webhooks: what it takes, what it refuses and counts, and what it does when the store does not."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from hook_kit import NOW, SECRET, SECRETS, Receiver, cvat, head, label_studio, receiving, signed

from bridge.errors import StoreError
from bridge.store import Hint, Store


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without a row: making its tables takes longer than a test."""
    path = tmp_path_factory.mktemp("empty") / "labelbridge.db"
    Store.open(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def store(empty: Path, tmp_path: Path) -> Iterator[Store]:
    shutil.copy(empty, tmp_path)
    with Store.open(f"sqlite:///{tmp_path}/labelbridge.db") as opened:
        yield opened


@pytest.fixture
def receiver(store: Store) -> Iterator[Receiver]:
    with receiving(store) as running:
        yield running


def hints(store: Store) -> list[Hint]:
    return [waiting.hint for waiting in store.waiting_hints(1000)]


class TestReading:
    @pytest.mark.parametrize(
        ("action", "moment"),
        [
            ("ANNOTATION_CREATED", True),
            ("ANNOTATION_UPDATED", True),
            ("ANNOTATIONS_CREATED", True),
            ("ANNOTATIONS_DELETED", False),
            ("ANNOTATION_DELETED", False),
            ("TASKS_CREATED", True),
            ("TASKS_DELETED", False),
            ("PROJECT_UPDATED", True),
        ],
    )
    def test_label_studio(self, receiver: Receiver, store: Store, action: str, moment: bool) -> None:
        assert receiver.label_studio(label_studio(action)) == (200, "accepted")
        (hint,) = hints(store)
        assert (hint.tool, hint.event, hint.places) == ("label-studio", action, ("ls:project/7",))
        assert hint.moment == ("2026-11-20T11:59:00+00:00" if moment else None)
        assert receiver.wakes == [1]

    @pytest.mark.parametrize(
        ("event", "places"),
        [
            ("update:job", ("cvat:job/5", "cvat:task/12", "cvat:project/3")),
            ("update:task", ("cvat:task/12", "cvat:project/3")),
            ("create:task", ("cvat:task/12", "cvat:project/3")),
            ("delete:task", ("cvat:task/12", "cvat:project/3")),
            ("update:project", ("cvat:project/3",)),
            ("update:issue", ("cvat:job/5",)),
            ("create:comment", ()),
        ],
    )
    def test_cvat(self, receiver: Receiver, store: Store, event: str, places: tuple[str, ...]) -> None:
        assert receiver.cvat(cvat(event)) == (200, "accepted")
        (hint,) = hints(store)
        assert (hint.tool, hint.event, hint.places) == ("cvat", event, places)
        assert (hint.moment is None) == event.startswith("delete")

    def test_the_address_tells_where_an_issue_is(self, receiver: Receiver, store: Store) -> None:
        receiver.cvat(cvat("update:issue"), place="cvat:project/3")
        receiver.cvat(cvat("create:comment"), place="cvat:project/3")
        receiver.cvat(cvat("update:job", id=6), place="cvat:project/3")
        receiver.cvat(cvat("update:comment"), place="../../etc")
        assert [hint.places for hint in hints(store)] == [
            ("cvat:job/5", "cvat:project/3"),
            ("cvat:project/3",),
            ("cvat:job/6", "cvat:task/12", "cvat:project/3"),
            (),
        ]

    def test_a_task_without_a_project(self, receiver: Receiver, store: Store) -> None:
        receiver.cvat(cvat("update:job", project_id=None))
        assert hints(store)[0].places == ("cvat:job/5", "cvat:task/12")

    def test_nothing_of_a_body_is_kept(self, receiver: Receiver, tmp_path: Path) -> None:
        receiver.label_studio(label_studio())
        with sqlite3.connect(tmp_path / "labelbridge.db") as db:
            assert "an-invitation" not in "\n".join(db.iterdump())

    @pytest.mark.parametrize("event", ["LABEL_LINK_CREATED", "ANNOTATION_EATEN", "", None, 7, ["TASKS_CREATED"], {}])
    def test_unknown_events_are_counted_and_no_error(self, receiver: Receiver, store: Store, event: object) -> None:
        assert receiver.label_studio({**label_studio(), "action": event}) == (200, "unknown")
        assert receiver.cvat({"event": event, "membership": {}}) == (200, "unknown")
        assert (receiver.counted("label-studio", "unknown"), receiver.counted("cvat", "unknown")) == (1, 1)
        assert hints(store) == []

    def test_places_that_nobody_watches(self, store: Store) -> None:
        watched = {"ls:project/7", "cvat:task/12?state=completed"}
        with receiving(store, watched=lambda: watched) as receiver:
            assert receiver.label_studio(label_studio(project=8)) == (200, "elsewhere")
            assert receiver.label_studio(label_studio(project=7)) == (200, "accepted")
            assert receiver.cvat(cvat()) == (200, "accepted")
            assert receiver.cvat(cvat(id=6, task_id=13)) == (200, "elsewhere")
            assert receiver.cvat(cvat("create:comment")) == (200, "accepted"), "it may be anywhere"
            watched.add("ls:project/8")
            assert receiver.label_studio(label_studio(project=8)) == (200, "accepted")
            assert receiver.counted("label-studio", "elsewhere") == 1


class TestDoubles:
    def test_the_same_body_is_stored_once(self, receiver: Receiver, store: Store) -> None:
        assert [receiver.cvat(cvat())[1] for _ in range(3)] == ["accepted", "duplicate", "duplicate"]
        assert receiver.counted("cvat", "duplicate") == 2
        assert receiver.wakes == [1]
        (waiting,) = store.waiting_hints(10)
        store.take_hints([waiting.seq], NOW.isoformat())
        assert receiver.cvat(cvat()) == (200, "duplicate")
        assert store.waiting_hints(10) == []

    def test_many_at_once(self, receiver: Receiver, store: Store) -> None:
        bodies = [cvat(id=number % 40 + 1) for number in range(120)]
        with ThreadPoolExecutor(16) as pool:
            fates = [fate for _, fate in pool.map(receiver.cvat, bodies)]
        assert (fates.count("accepted"), fates.count("duplicate")) == (40, 80)
        assert len(hints(store)) == 40


class TestRefused:
    """Each is counted, and none of it is stored."""

    @pytest.fixture(autouse=True)
    def _nothing_is_stored(self, store: Store) -> Iterator[None]:
        yield
        assert hints(store) == []

    @pytest.mark.parametrize("secret", [None, "", "wrong", SECRET + "x", SECRET[:-1], SECRET.upper(), "ä" * 24])
    def test_forged_label_studio(self, receiver: Receiver, secret: str | None) -> None:
        shown = None if secret is None else secret.encode().decode("latin-1")
        assert receiver.label_studio(label_studio(), shown) == (401, "forged")
        assert receiver.counted("label-studio", "forged") == 1

    def test_forged_cvat(self, receiver: Receiver) -> None:
        raw = json.dumps(cvat()).encode()
        good = signed(raw)["X-Signature-256"]
        other = signed(raw + b" ")["X-Signature-256"]
        shown = ["", "sha256=", good[7:], good.upper(), other, good[:-1], good.replace("sha256", "sha1"), "sha256=ä"]
        for signature in shown:
            headers = {"X-Signature-256": signature.encode().decode("latin-1")}
            assert receiver.post("/hooks/cvat", raw, headers) == (401, "forged"), signature
        assert receiver.cvat(cvat(), secret="another-secret-of-16") == (401, "forged")
        # The secret of the one is no password for the other.
        assert receiver.post("/hooks/cvat", raw, {"X-Labelbridge-Token": SECRET}) == (401, "forged")
        assert receiver.counted("cvat", "forged") == len(shown) + 2

    def test_a_changed_body(self, receiver: Receiver) -> None:
        raw = json.dumps(cvat()).encode()
        assert receiver.post("/hooks/cvat", raw.replace(b"12", b"13"), signed(raw)) == (401, "forged")

    def test_replayed_after_the_window(self, receiver: Receiver) -> None:
        assert receiver.cvat(cvat(at="2026-11-13T11:59:00Z")) == (409, "stale")
        assert receiver.label_studio(label_studio(at="2025-11-20T11:59:00Z")) == (409, "stale")
        assert receiver.cvat(cvat(at="2026-11-21T12:01:00Z")) == (409, "stale"), "more than a day ahead"
        assert (receiver.counted("cvat", "stale"), receiver.counted("label-studio", "stale")) == (2, 1)

    def test_announced_more_than_sent(self, receiver: Receiver) -> None:
        raw = json.dumps(cvat()).encode()
        receiver.raw(head("/hooks/cvat", len(raw) + 10, **signed(raw)) + raw)
        assert receiver.counted("cvat", "truncated") == 1

    def test_announced_less_than_sent(self, receiver: Receiver) -> None:
        raw = json.dumps(label_studio()).encode()
        answer = receiver.raw(head("/hooks/label-studio", len(raw) - 9, X_Labelbridge_Token=SECRET) + raw)
        assert b" 400 " in answer.partition(b"\r\n")[0]
        assert receiver.counted("label-studio", "truncated") == 1
        signature = signed(raw)["X-Signature-256"]
        answer = receiver.raw(head("/hooks/cvat", len(raw) - 9, X_Signature_256=signature) + raw)
        assert b" 40" in answer.partition(b"\r\n")[0]
        # What is left of the body is not what was signed, unless the rest, which is no request, came first.
        assert receiver.counted("cvat", "truncated") + receiver.counted("cvat", "forged") == 1

    def test_oversized(self, receiver: Receiver) -> None:
        large = b" " * (2**20 + 1)
        assert receiver.post("/hooks/cvat", large, signed(large)) == (413, "oversized")
        parts = iter([b"{", b" " * 2**20, b"}"])
        streamed = requests.post(receiver.url + "/hooks/cvat", data=parts, headers=signed(b""), timeout=20)
        assert streamed.status_code == 413
        assert b" 413 " in receiver.raw(head("/hooks/label-studio", 2**40, X_Labelbridge_Token=SECRET)), "not even read"
        assert receiver.counted("cvat", "oversized") == 2

    def test_slow(self, store: Store) -> None:
        with receiving(store, body_s=0.3) as receiver:
            host, _, port = receiver.url.removeprefix("http://").partition(":")
            with socket.create_connection((host, int(port)), timeout=10) as connection:
                connection.sendall(head("/hooks/label-studio", 1000, X_Labelbridge_Token=SECRET))
                began = time.monotonic()
                answered = threading.Event()

                def drip() -> None:
                    while not answered.wait(0.05):
                        try:
                            connection.sendall(b" ")
                        except OSError:
                            return

                dripping = threading.Thread(target=drip)
                dripping.start()
                assert b" 408 " in connection.recv(65536).partition(b"\r\n")[0]
                answered.set()
                dripping.join()
            assert time.monotonic() - began < 5
            assert receiver.counted("label-studio", "slow") == 1

    @pytest.mark.parametrize(
        "body",
        [
            b"nope",
            b"[]",
            b"7",
            b"\xff\xfe",
            b'{"action": "TASKS_CREATED"}',
            b'{"action": "TASKS_CREATED", "project": 7}',
        ],
    )
    def test_unreadable(self, receiver: Receiver, body: bytes) -> None:
        assert receiver.post("/hooks/label-studio", body, {"X-Labelbridge-Token": SECRET}) == (400, "unreadable")
        assert receiver.counted("label-studio", "unreadable") == 1

    def test_an_event_without_what_it_is_about(self, receiver: Receiver) -> None:
        assert receiver.cvat({"event": "update:job", "job": 5}) == (400, "unreadable")

    def test_without_a_secret(self, store: Store) -> None:
        with receiving(store, secrets={"cvat": SECRETS["cvat"]}) as receiver:
            answer = requests.post(receiver.url + "/hooks/label-studio", json=label_studio(), timeout=20)
            assert (answer.status_code, "LABELBRIDGE_HOOKS_SECRET" in answer.json()["todo"]) == (503, True)
            assert receiver.counted("label-studio", "closed") == 1

    def test_other_methods_and_paths(self, receiver: Receiver) -> None:
        assert requests.get(receiver.url + "/hooks/cvat", timeout=20).status_code == 405
        assert requests.post(receiver.url + "/hooks/other", timeout=20).status_code == 404
        assert requests.get(receiver.url + "/health", timeout=20).json() == {"status": "UP"}


class TestStore:
    def test_a_locked_database_delays_the_hint_and_not_the_answer(self, store: Store, tmp_path: Path) -> None:
        with receiving(store, answer_s=0.1) as receiver:
            with sqlite3.connect(tmp_path / "labelbridge.db", isolation_level=None) as other:
                other.execute("BEGIN IMMEDIATE")
                began = time.monotonic()
                assert receiver.cvat(cvat()) == (503, "late")
                assert time.monotonic() - began < 5
                assert hints(store) == []
                other.execute("COMMIT")
            assert receiver.cvat(cvat(id=6)) == (200, "accepted")
            assert [hint.places[0] for hint in hints(store)] == ["cvat:job/5", "cvat:job/6"]
            assert receiver.counted("cvat", "late") == 1

    def test_a_full_queue_says_to_come_back(self, store: Store) -> None:
        class Stuck(Slot):
            def put_hints(self, given: Sequence[Hint]) -> list[bool]:
                assert self.free.wait(20)
                return store.put_hints(given)

        stuck = Stuck()
        with receiving(stuck, answer_s=0.1, capacity=2) as receiver:
            fates = [receiver.cvat(cvat(id=number)) for number in (1, 2, 3, 4)]
            assert fates == [(503, "late")] * 3 + [(503, "full")]  # the first is being written, two wait
            answer = requests.post(
                receiver.url + "/hooks/label-studio",
                json=label_studio(),
                headers={"X-Labelbridge-Token": SECRET},
                timeout=20,
            )
            assert answer.headers["retry-after"] == "1"
            stuck.free.set()
        assert [hint.places[0] for hint in hints(store)] == ["cvat:job/1", "cvat:job/2", "cvat:job/3"]

    def test_a_store_that_fails(self) -> None:
        class Broken(Slot):
            def put_hints(self, given: Sequence[Hint]) -> list[bool]:
                raise StoreError("the disk is full")

        with receiving(Broken()) as receiver:
            assert receiver.cvat(cvat()) == (503, "failed")
            assert receiver.label_studio(label_studio()) == (503, "failed")
            assert receiver.counted("cvat", "failed") == 1
            assert receiver.wakes == []

    def test_nobody_can_say_what_is_watched(self, store: Store) -> None:
        def watched() -> set[str]:
            raise StoreError("the disk reports an error")

        with receiving(store, watched=watched) as receiver:
            assert receiver.cvat(cvat()) == (503, "failed")

    def test_old_hints_are_forgotten(self, store: Store) -> None:
        old = Hint("cvat", (), "update:job", None, "0" * 64, "2026-11-12T11:00:00+00:00")
        young = Hint("cvat", (), "update:job", None, "1" * 64, "2026-11-12T13:00:00+00:00")
        store.put_hints([old, young])
        with receiving(store) as receiver:
            receiver.cvat(cvat())
        assert [hint.digest[0] for hint in hints(store)][:1] == ["1"]


class Slot:
    """A store that does nothing; ``free`` is for those that wait."""

    def __init__(self) -> None:
        self.free = threading.Event()

    def put_hints(self, given: Sequence[Hint]) -> list[bool]:
        raise NotImplementedError

    def forget_hints(self, before: str) -> int:
        return 0
