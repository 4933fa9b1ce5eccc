"""People at work in a real Label Studio, at random: annotators, reviewers, and whoever adds and deletes tasks.

They use the REST calls that Label Studio's own pages make. Each operation is one thing that a person does.
"""

from __future__ import annotations

import copy
import json
import random
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import requests
from chaos.ledger import Answer, Ledger, Objects, Row
from chaos.pictures import LABELS, Drawn, Picture, careless, make_picture, moved, other
from chaos.tool_proxy import Answer as Reply
from chaos.tool_proxy import Request
from fakes import colour_detector
from fakes.pictures import HEIGHT, WIDTH
from live import CONFIG

from bridge.demo.label_studio_server import LabelStudioServer
from bridge.dialects.label_studio import box_from_value, box_region, parse_label_config
from bridge.store import StoredFinding
from bridge.tools.hooks import LABEL_STUDIO, PATHS, TOKEN_HEADER
from bridge.tools.label_studio_client import task_filter

_FEWEST, _MOST = 16, 36
_NOTHING_TO_DO_S = 0.05
_RELOAD_S = 1.5
_WITHDRAWING_S = 9.0
_ANNOTATION = re.compile(r"/api/annotations/(\d+)/")
_DRAFTS = re.compile(r"/api/tasks/(\d+)/drafts")
_CONTROL = parse_label_config(CONFIG).control_for("rectanglelabels")


class LabelStudioPeople:
    """Use :meth:`step` again and again.

    Attributes:
        done: operations by name.
        target: the project, as the product calls it.
    """

    def __init__(self, server: LabelStudioServer, seed: int, ledger: Ledger) -> None:
        self._server, self._rng, self.ledger = server, random.Random(f"people {seed}"), ledger
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Token {server.legacy_token}"
        self.done: Counter[str] = Counter()
        self.project = int(self._call("POST", "/api/projects/", {"title": "Pets", "label_config": CONFIG})["id"])
        self.target = f"ls:project/{self.project}"
        self._folder = server.files_root / f"chaos{self.project}"
        self._folder.mkdir(parents=True)
        storage = {"project": self.project, "path": str(self._folder), "use_blob_urls": True, "title": "pictures"}
        self._call("POST", "/api/storages/localfiles", storage)
        self.items: dict[int, Picture] = {}
        self._pictures = 0
        self._open: list[Row] = []
        self._looked_at = 0.0
        self._review = 0
        for _ in range(_FEWEST + 4):
            self._add_item()

    def step(self) -> None:
        """One thing that somebody does; for what is not possible yet people wait a moment."""
        ways: list[tuple[Callable[[], bool], int]] = [
            (self.submit, 22),
            (self.edit, 16),
            (self.delete_submission, 4),
            (self.add_item, 5),
            (self.delete_item, 3),
            (self.answer, 34),
            (self.change_answer, 6),
            (self.edit_judged, 10),
        ]
        while True:
            (way,) = self._rng.choices([w for w, _ in ways], [n for _, n in ways])
            if way():
                self.done[way.__name__] += 1
                return
            time.sleep(_NOTHING_TO_DO_S)

    @contextmanager
    def hooked(self, url: str, secret: str) -> Iterator[None]:
        """Label Studio tells of everything that happens in the project."""
        body = {"project": self.project, "url": url + PATHS[LABEL_STUDIO], "headers": {TOKEN_HEADER: secret}}
        hook = self._call("POST", "/api/webhooks/", body | {"send_for_all_actions": True, "send_payload": True})
        yield
        self._call("DELETE", f"/api/webhooks/{hook['id']}/")

    # --- annotators -------------------------------------------------------------------------------------------------

    def submit(self) -> bool:
        busy = Counter(self.ledger.item_of[s] for s in self.ledger.now)
        free = [task for task in self.items if busy[str(task)] < 2]
        if not free:
            return False
        task = self._rng.choice(free)
        result = [_region(drawn) for drawn in careless(self.items[task], self._rng)]
        with self.ledger.lock:
            made = self._call("POST", f"/api/tasks/{task}/annotations/", {"result": result})
            self.ledger.put(str(made["id"]), str(task), _objects(made["result"]))
        return True

    def edit(self) -> bool:
        free = [s for s in self.ledger.now if not self.ledger.keep_out(s)]
        return bool(free) and self._edit(self._rng.choice(free))

    def edit_judged(self) -> bool:
        """Somebody changes an object after a reviewer has accepted a fix of it."""
        for answer in reversed(self.ledger.answers[-60:]):
            if answer.decision == "reject" or answer.shown is None:
                continue
            place = _place(answer.shown, self.ledger)
            if place and not self.ledger.keep_out(place[0]) and self._rng.random() < 0.3:
                return self._edit(*place)
        return False

    def _edit(self, submission: str, region: str = "") -> bool:
        with self.ledger.lock:
            path = f"/api/annotations/{submission}/"
            result = self._call("GET", path)["result"]
            self._change(result, region)
            stored = self._call("PATCH", path, {"result": result})["result"]
            self.ledger.put(submission, self.ledger.item_of[submission], _objects(stored))
        return True

    def _change(self, result: list[Row], region: str) -> None:
        chosen = [r for r in result if r["id"] == region] or result
        way = self._rng.choice(("move", "relabel", "move", "delete", "draw"))
        if not chosen or way == "draw":
            picture = make_picture(self._rng.randrange(10**6))
            result.append(_region(picture.shows[0]))
            return
        one = self._rng.choice(chosen)
        if way == "delete":
            result.remove(one)
        elif way == "relabel":
            one["value"]["rectanglelabels"] = [other(one["value"]["rectanglelabels"][0])]
        else:
            box = moved(box_from_value(one["value"], WIDTH, HEIGHT), self._rng)
            one["value"] = {**one["value"], **_region((LABELS[0], box))["value"]} | {
                "rectanglelabels": one["value"]["rectanglelabels"]
            }

    def delete_submission(self) -> bool:
        if not self.ledger.now:
            return False
        submission = self._rng.choice(list(self.ledger.now))
        with self.ledger.lock:
            self._call("DELETE", f"/api/annotations/{submission}/")
            self.ledger.drop(submission)
        return True

    # --- whoever brings tasks ---------------------------------------------------------------------------------------

    def add_item(self) -> bool:
        if len(self.items) >= _MOST:
            return False
        self._add_item()
        return True

    def _add_item(self) -> None:
        picture = make_picture(self._pictures)
        self._pictures += 1
        (self._folder / picture.name).write_bytes(picture.file())
        body = [{"data": {"image": f"/data/local-files/?d={self._folder.name}/{picture.name}"}}]
        made = self._call("POST", f"/api/projects/{self.project}/import?return_task_ids=true", body)
        self.items[int(made["task_ids"][0])] = picture
        self.ledger.gone_items.discard(str(made["task_ids"][0]))  # SQLite gives ids out again

    def delete_item(self) -> bool:
        if len(self.items) <= _FEWEST:
            return False
        task = self._rng.choice(list(self.items))
        with self.ledger.lock:
            self._call("DELETE", f"/api/tasks/{task}/")
            del self.items[task]
            self.ledger.drop_item(str(task))
        return True

    # --- reviewers --------------------------------------------------------------------------------------------------

    def answer(self) -> bool:
        self._look()
        if not self._open:
            return False
        task = self._open.pop(self._rng.randrange(len(self._open)))
        if self.ledger.keep_out(_review(task["id"]), _WITHDRAWING_S):
            return False
        decision = self._rng.choices(("accept", "reject", "edit"), (5, 2, 3))[0]
        said, result = self._said(task, decision)
        made = self._call("POST", f"/api/tasks/{task['id']}/annotations/", {"result": result}, gone=(404,))
        if made:
            self.ledger.answers.append(_signed(said, f"ls:annotation/{made['id']}"))
        return True

    def change_answer(self) -> bool:
        """A reviewer thinks again about one of the latest answers."""
        if not self.ledger.answers:
            return False
        last = self._rng.choice(self.ledger.answers[-40:])
        number = last.source.rpartition("/")[2]
        held = self._call("GET", f"/api/annotations/{number}/", gone=(404,))
        task = held and self._call("GET", f"/api/tasks/{held['task']}/", gone=(404,))
        if not task or self.ledger.keep_out(_review(task["id"]), _WITHDRAWING_S):
            return False
        said, result = self._said(task, self._rng.choice(("accept", "reject", "edit")))
        if self._call("PATCH", f"/api/annotations/{number}/", {"result": result}, gone=(404,)):
            self.ledger.answers.append(_signed(said, last.source))
        return True

    def _look(self) -> None:
        """Open the list of review tasks, now and then."""
        if self._open or time.monotonic() - self._looked_at < _RELOAD_S:
            return
        self._looked_at = time.monotonic()
        self._review = self._review or next(iter(self.review_projects()), 0)
        if self._review:
            unanswered = task_filter("total_annotations", "equal", "Number", 0)
            self._open = [t for t in self.tasks(self._review, unanswered) if t["predictions"]]

    def _said(self, task: Row, decision: str) -> tuple[Answer, list[Row]]:
        """What the reviewer submits, and how it reads."""
        result = copy.deepcopy(task["predictions"][0]["result"])
        suggestion = next((r for r in result if r["from_name"] == "suggestion"), None)
        current = next((r for r in result if r["from_name"] == "current"), None)
        if suggestion is None and decision == "edit":
            decision = "accept"
        if suggestion is not None and decision == "edit":
            box = moved(box_from_value(suggestion["value"], WIDTH, HEIGHT), self._rng)
            suggestion["value"] |= {k: v for k, v in _region((LABELS[0], box))["value"].items() if k in _SIDES}
        choice = {"id": "v1", "from_name": "verdict", "to_name": "image", "type": "choices", "origin": "manual"}
        result.append({**choice, "value": {"choices": ["reject" if decision == "reject" else "accept"]}})
        finding = str(task["data"]["lb_finding"])
        shown, wanted = (None if r is None else drawn_of(r) for r in (current, suggestion))
        return Answer(time.time(), finding, "", decision, shown, wanted), result

    # --- looking ----------------------------------------------------------------------------------------------------

    def review_projects(self) -> list[int]:
        """Those that say that they review this project."""
        rows = self._call("GET", "/api/projects/?page_size=100&include=id,description")["results"]
        return [int(r["id"]) for r in rows if f"labelbridge-review-of: {self.target} " in str(r.get("description"))]

    def tasks(self, project: int, *conditions: Row) -> list[Row]:
        """All tasks of a project that meet all conditions, with all that is in them."""
        found: list[Row] = []
        wanted = quote(json.dumps({"filters": {"conjunction": "and", "items": conditions}}))
        for page in range(1, 1000):
            query = f"project={project}&page={page}&page_size=200&fields=all&query={wanted}"
            # A page that was announced is gone when tasks left the list meanwhile.
            answer = self._call("GET", f"/api/tasks/?{query}", gone=(404,) if page > 1 else ())
            found += answer["tasks"] if answer else []
            if not answer or len(found) >= answer["total"]:
                break
        return found

    def submissions(self) -> dict[str, Objects]:
        """What Label Studio holds now."""
        return {str(a["id"]): _objects(a["result"]) for t in self.tasks(self.project) for a in t["annotations"]}

    def asked(self) -> Counter[str]:
        """See :class:`chaos.truth.Tool`."""
        return Counter(t["data"]["lb_finding"] for p in self.review_projects() for t in self.tasks(p))

    def waiting(self) -> set[str]:
        """See :class:`chaos.truth.Tool`."""
        tasks = (t for p in self.review_projects() for t in self.tasks(p))
        return {t["data"]["lb_finding"] for t in tasks if not t["annotations"]}

    def flaws(self) -> Iterator[str]:
        """See :class:`chaos.truth.Tool`."""
        for task in self.tasks(self.project):
            models = [p["model_version"] for p in task["predictions"]]
            if models != [colour_detector.NAME]:
                yield f"Task {task['id']} holds predictions of {models}."
        for task in (t for p in self.review_projects() for t in self.tasks(p)):
            if len(task["predictions"]) != 1:
                yield f"Review task {task['id']} shows {len(task['predictions'])} suggestions."
        if len(self.review_projects()) > 1:
            yield f"There are {len(self.review_projects())} review projects."

    def drawn(self, row: Row) -> tuple[str, list[float]]:
        """See :class:`chaos.truth.Tool`."""
        return drawn_of(row)

    def object_of(self, annotation_id: str) -> str:
        """See :class:`chaos.truth.Tool`."""
        return annotation_id.partition(":")[2]

    def submission_of(self, finding: StoredFinding) -> str:
        """See :class:`chaos.truth.Tool`."""
        return finding.finding.submission_id

    def is_as_shown(self, answer: Answer, row: Row) -> bool:
        """See :class:`chaos.truth.Tool`."""
        return answer.shown is not None and _alike(drawn_of(row), answer.shown)

    def wanted(self, answer: Answer, stored: StoredFinding) -> tuple[str, list[float]] | None:
        """See :class:`chaos.truth.Tool`."""
        return answer.wanted

    def untouched(self, before: Row, after: Row) -> bool:
        """See :class:`chaos.truth.Tool`."""
        return _rest(before) == _rest(after)

    def watch(self, request: Request, forward: Callable[[], Reply]) -> Reply:
        """Write down what the product reads and writes of people's work."""
        asked = _DRAFTS.match(request.path)
        if asked:  # what nobody has begun is about to be taken out of the review
            self.ledger.read_at[_review(asked[1])] = time.monotonic()
        found = _ANNOTATION.match(request.path)
        submission = found[1] if found else ""
        if request.method != "PATCH":
            if submission in self.ledger.now:
                self.ledger.read_at[submission] = time.monotonic()
            return forward()
        with self.ledger.lock:
            reply = forward()
            if reply[0] == 200 and submission in self.ledger.now:
                item, objects = self.ledger.item_of[submission], _objects(json.loads(reply[2])["result"])
                self.ledger.put(submission, item, objects, by_product=True)
            self.ledger.read_at.pop(submission, None)
            return reply

    def _call(self, method: str, path: str, body: Any = None, gone: tuple[int, ...] = ()) -> Any:
        for _ in range(5):
            answer = self._session.request(method, f"{self._server.url}{path}", json=body, timeout=120)
            # Label Studio fails to list tasks of which one is deleted just then; a person would load the page again.
            if method != "GET" or answer.status_code != 500:
                break
        if answer.status_code in gone:
            return None
        if answer.status_code >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer.json() if answer.content else {}


_SIDES = ("x", "y", "width", "height")


def _review(task: int | str) -> str:
    return f"review task {task}"


def _region(drawn: Drawn) -> Row:
    label, box = drawn
    assert _CONTROL
    return box_region(uuid.uuid4().hex[:8], _CONTROL, label, box, WIDTH, HEIGHT)


def _objects(result: list[Row]) -> Objects:
    return {str(region["id"]): region for region in result}


def drawn_of(region: Row) -> tuple[str, list[float]]:
    """Label and box of a region, in pixels."""
    value = region["value"]
    labels = next(v for k, v in value.items() if k.endswith("labels"))
    return labels[0], list(box_from_value(value, WIDTH, HEIGHT).xyxy)


def _alike(one: tuple[str, list[float]], two: tuple[str, list[float]]) -> bool:
    return one[0] == two[0] and max(abs(a - b) for a, b in zip(one[1], two[1], strict=True)) < 0.1


def _rest(region: Row) -> Row:
    value = {k: v for k, v in region["value"].items() if k not in (*_SIDES, "rectanglelabels")}
    return {**region, "value": value, "origin": ""}


def _place(shown: tuple[str, list[float]], ledger: Ledger) -> tuple[str, str] | None:
    """Where an object like that is: submission and region."""
    for submission, objects in ledger.now.items():
        for name, region in objects.items():
            if _alike(drawn_of(region), shown):
                return submission, name
    return None


def _signed(answer: Answer, source: str) -> Answer:
    return Answer(answer.at, answer.finding, source, answer.decision, answer.shown, answer.wanted)
