"""People at work in the fake CVAT, at random: annotators, reviewers, and whoever adds and deletes tasks.

A submission is here the shapes of a job that was completed once. Each operation is one thing that a person does.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import requests
from chaos.ledger import Answer, Ledger, Objects, Row
from chaos.pictures import Drawn, Picture, careless, make_picture, moved, other
from chaos.tool_proxy import Answer as Reply
from chaos.tool_proxy import Request
from fakes.cvat_server import FakeCvat

from bridge.core.annotations import Box, revision_of
from bridge.store import StoredFinding
from bridge.tools.hooks import CVAT, PATHS, SIGNATURE_HEADER

_FEWEST, _MOST, _FRAMES = 10, 24, 3
_NOTHING_TO_DO_S = 0.05
_RELOAD_S = 1.0
_ANNOTATIONS = re.compile(r"/api/jobs/(\d+)/annotations(?:\?|$)")
_MARK = re.compile(r"\[labelbridge ([0-9a-f]{16})(?: (shape:\d+) ([0-9a-f]{16})| new )?")
_WITHDRAWN = "[labelbridge withdrawn]"
_CHANGING = ("id", "label_id", "points", "source", "attributes")


class CvatPeople:
    """Use :meth:`step` again and again.

    Attributes:
        done: operations by name.
        target: the project, as the product calls it.
    """

    def __init__(self, server: FakeCvat, seed: int, ledger: Ledger) -> None:
        self._server, self._rng, self.ledger = server, random.Random(f"people {seed}"), ledger
        self._session = requests.Session()
        self._mia = server.add_user("mia", is_superuser=True)
        self.token = server.login_token(self._mia)
        self._session.headers["Authorization"] = f"Token {self.token}"
        self.done: Counter[str] = Counter()
        self._project = server.add_project("Pets", [{"name": "cat"}, {"name": "dog"}], self._mia)
        self.target = f"cvat:project/{self._project}"
        self._labels = {name: server.label(name, project=self._project).id for name in ("cat", "dog")}
        self._names = {number: name for name, number in self._labels.items()}
        self._jobs: dict[int, tuple[int, list[Picture]]] = {}
        self._pictures = 0
        self._open: list[Row] = []
        self._looked_at = 0.0
        self._hook = ("", "")
        self._corrected: set[int] = set()
        for _ in range(_FEWEST + 2):
            self._add_item()

    def step(self) -> None:
        """One thing that somebody does; for what is not possible yet people wait a moment."""
        ways: list[tuple[Callable[[], bool], int]] = [
            (self.submit, 18),
            (self.edit, 12),
            (self.take_up, 2),
            (self.add_item, 3),
            (self.delete_item, 1),
            (self.answer, 45),
            (self.correct_and_resolve, 8),
            (self.change_answer, 6),
            (self.edit_judged, 4),
        ]
        while True:
            (way,) = self._rng.choices([w for w, _ in ways], [n for _, n in ways])
            if way():
                self.done[way.__name__] += 1
                return
            time.sleep(_NOTHING_TO_DO_S)

    @contextmanager
    def hooked(self, url: str, secret: str) -> Iterator[None]:
        """The fake delivers no webhooks, so people bring them: what CVAT would have sent after each operation."""
        self._hook = (f"{url}{PATHS[CVAT]}?place={self.target}", secret)
        yield
        self._hook = ("", "")

    def _tell(self, event: str, subject: Row) -> None:
        url, secret = self._hook
        if url:
            body = json.dumps({"event": event, event.partition(":")[2]: subject}).encode()
            signature = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
            requests.post(url, body, headers={SIGNATURE_HEADER: signature}, timeout=10)

    # --- annotators -------------------------------------------------------------------------------------------------

    def submit(self) -> bool:
        """Somebody does a job anew, without the suggestions, or completes what was taken up again."""
        free = [j for j in self._jobs if self._state(j) != ("annotation", "completed") and self._is_theirs(j)]
        if not free:
            return False
        job = self._rng.choice(free)
        with self.ledger.lock:
            if self.ledger.keep_out(str(job)):
                return False
            if str(job) not in self.ledger.now:
                held = self._shapes(job)
                if held:
                    self._patch(job, "delete", held)
                drawn = [(n, d) for n, p in enumerate(self._jobs[job][1]) for d in careless(p, self._rng)]
                self._patch(job, "create", [self._shape(frame, one) for frame, one in drawn])
                self._note(job)
            self._tell("update:job", self._call("PATCH", f"/api/jobs/{job}", {"state": "completed"}))
        return True

    def take_up(self) -> bool:
        """Somebody goes on with a job that was completed."""
        free = [j for j in self._jobs if self._state(j) == ("annotation", "completed")]
        if not free:
            return False
        row = self._call("PATCH", f"/api/jobs/{self._rng.choice(free)}", {"state": "in progress"})
        self._tell("update:job", row)
        return True

    def edit(self) -> bool:
        free = [s for s in self.ledger.now if not self.ledger.keep_out(s)]
        return bool(free) and self._edit(int(self._rng.choice(free)))

    def edit_judged(self) -> bool:
        """Somebody changes an object after a reviewer has accepted a fix of it."""
        for answer in reversed(self.ledger.answers[-60:]):
            place = self._place(answer)
            if answer.decision == "accept" and place and not self.ledger.keep_out(str(place[0])):
                return self._edit(*place)
        return False

    def _edit(self, job: int, shape: str = "") -> bool:
        with self.ledger.lock:
            # What a correction meant is read from the object, so nobody puts it back as it was before that is read.
            shapes = [s for s in self._shapes(job) if int(s["id"]) not in self._corrected]
            chosen = [s for s in shapes if str(s["id"]) == shape] or shapes
            way = self._rng.choice(("move", "relabel", "move", "delete", "draw"))
            if not chosen or way == "draw":
                one = make_picture(self._rng.randrange(10**6)).shows[0]
                self._patch(job, "create", [self._shape(self._rng.randrange(_FRAMES), one)])
            else:
                self._change(job, self._rng.choice(chosen), way)
            self._note(job)
        self._tell("update:job", self._call("GET", f"/api/jobs/{job}"))
        return True

    def _change(self, job: int, shape: Row, way: str) -> None:
        if way == "relabel":
            shape["label_id"] = self._labels[other(self._names[shape["label_id"]])]
        elif way == "move":
            shape["points"] = list(moved(Box(*shape["points"]), self._rng).xyxy)
        self._patch(job, "delete" if way == "delete" else "update", [shape])

    # --- whoever brings tasks ---------------------------------------------------------------------------------------

    def add_item(self) -> bool:
        if len(self._jobs) >= _MOST:
            return False
        self._add_item()
        return True

    def _add_item(self) -> None:
        pictures = [make_picture(self._pictures + n) for n in range(_FRAMES)]
        self._pictures += _FRAMES
        with self._server.lock:
            files = [(p.name, p.file()) for p in pictures]
            task = self._server.add_task("Photos", files, owner=self._mia, project=self._project)
            (job,) = self._server.jobs_of(task)
        self._jobs[job.id] = (task, pictures)
        self._tell("create:task", {"id": task, "project_id": self._project})

    def delete_item(self) -> bool:
        if len(self._jobs) <= _FEWEST:
            return False
        job = self._rng.choice(list(self._jobs))
        task, _ = self._jobs.pop(job)
        with self.ledger.lock:
            self._call("DELETE", f"/api/tasks/{task}")
            self.ledger.drop_item(str(task))
        self._tell("delete:task", {"id": task, "project_id": self._project})
        return True

    # --- reviewers --------------------------------------------------------------------------------------------------

    def answer(self) -> bool:
        issue = self._next()
        if issue is None:
            return False
        self._say(issue, self._rng.choices(("accept", "reject"), (7, 3))[0])
        return True

    def correct_and_resolve(self) -> bool:
        """A reviewer changes the object that an issue is about, and resolves the issue without a word."""
        issue = self._next()
        if issue is None:
            return False
        _, shape, revision = issue["mark"]
        job = int(issue["job"])
        decision = "reject"
        with self.ledger.lock:
            mine = [s for s in self._shapes(job) if shape and f"shape:{s['id']}" == shape]
            if self.ledger.keep_out(str(job)) or (shape and not mine) or not self._awaits_an_answer(issue):
                return False
            if mine:
                self._corrected.add(int(mine[0]["id"]))
                self._change(job, mine[0], self._rng.choice(("move", "relabel", "delete")))
                self._note(job)
                now = next((s for s in self._shapes(job) if s["id"] == mine[0]["id"]), None)
                # Somebody else may have changed it before: put back as it was asked about, it is as it should be.
                is_back = now and revision_of(self._names[now["label_id"]], Box(*now["points"])) == revision
                decision = "reject" if is_back else "edit"
            self._tell("update:issue", self._call("PATCH", f"/api/issues/{issue['id']}", {"resolved": True}))
        said = Answer(time.time(), issue["mark"][0], f"issue {issue['id']}", decision, place=self._item(job))
        self.ledger.answers.append(said)
        return True

    def change_answer(self) -> bool:
        """A reviewer thinks again about one of the latest answers."""
        said = [a for a in self.ledger.answers[-40:] if "comment" in a.source]
        if not said:
            return False
        last = self._rng.choice(said)
        number = int(last.source.split(",")[0].removeprefix("issue "))
        issue = self._call("GET", f"/api/issues/{number}", gone=(404,))
        if not issue or int(issue["job"]) not in self._jobs:
            return False
        issue["mark"] = (last.finding, *(last.shown or ("", "")))
        self._say(issue, self._rng.choice(("accept", "no")))
        return True

    def _awaits_an_answer(self, issue: Row) -> bool:
        """Whether an issue on the list, which is some seconds old, still does: it may have been withdrawn since."""
        now = self._call("GET", f"/api/issues/{issue['id']}")
        said = self._rows(f"/api/comments?issue_id={issue['id']}&sort=id")
        return not now["resolved"] and _WITHDRAWN not in said[-1]["message"]

    def _say(self, issue: Row, word: str) -> None:
        finding, shape, revision = issue["mark"]
        made = self._call("POST", "/api/comments", {"issue": issue["id"], "message": word}, gone=(400, 404))
        if made:
            self._tell("create:comment", made)
            source = f"issue {issue['id']}, comment {made['id']}"
            decision = "reject" if word == "no" else word
            shown = (shape, revision) if shape else None
            place = self._item(int(issue["job"]))
            self.ledger.answers.append(Answer(time.time(), finding, source, decision, shown, place=place))

    def _next(self) -> Row | None:
        """An issue that nobody has answered; the list is opened anew now and then."""
        if not self._open and time.monotonic() - self._looked_at > _RELOAD_S:
            self._looked_at = time.monotonic()
            answered = {a.source.split(",")[0] for a in self.ledger.answers}
            self._open = [i for i in self._issues() if f"issue {i['id']}" not in answered]
        here = [i for i in self._open if int(i["job"]) in self._jobs]
        if not here:
            self._open = []
            return None
        issue = self._rng.choice(here)
        self._open.remove(issue)
        return issue

    # --- looking ----------------------------------------------------------------------------------------------------

    def _issues(self) -> list[Row]:
        """Every issue of ours, with its mark: finding, object and revision."""
        comments = self._rows("/api/comments")
        first: dict[int, Row] = {}
        for comment in sorted(comments, key=lambda c: int(c["id"])):
            first.setdefault(int(comment["issue"]), comment)
        found = []
        for issue in self._rows("/api/issues"):
            asks = first.get(int(issue["id"]))  # none where it was made just now
            mark = _MARK.search(asks["message"]) if asks else None
            if mark:
                found.append({**issue, "mark": (mark[1], mark[2] or "", mark[3] or "")})
        return found

    def submissions(self) -> dict[str, Objects]:
        """See :class:`chaos.truth.Tool`."""
        return {str(job): _objects(self._shapes(job)) for job in self._jobs if str(job) in self.ledger.now}

    def asked(self) -> Counter[str]:
        """See :class:`chaos.truth.Tool`."""
        return Counter(issue["mark"][0] for issue in self._issues())

    def waiting(self) -> set[str]:
        """See :class:`chaos.truth.Tool`."""
        return {issue["mark"][0] for issue in self._issues() if not issue["resolved"]}

    def flaws(self) -> Iterator[str]:
        """See :class:`chaos.truth.Tool`."""
        for job, (_, pictures) in self._jobs.items():
            if str(job) not in self.ledger.now:
                suggested = Counter(s["frame"] for s in self._shapes(job))
                for frame, picture in enumerate(pictures):
                    if suggested[frame] != len(picture.shows):
                        yield f"Frame {frame} of job {job} has {suggested[frame]} suggestions of {len(picture.shows)}."

    def drawn(self, row: Row) -> tuple[str, list[float]]:
        """See :class:`chaos.truth.Tool`."""
        return self._names[row["label_id"]], row["points"]

    def object_of(self, annotation_id: str) -> str:
        """See :class:`chaos.truth.Tool`."""
        return annotation_id.removeprefix("shape:")

    def submission_of(self, finding: StoredFinding) -> str:
        """See :class:`chaos.truth.Tool`."""
        return finding.finding.submission_id.partition("/")[0]

    def is_as_shown(self, answer: Answer, row: Row) -> bool:
        """See :class:`chaos.truth.Tool`."""
        label, points = self.drawn(row)
        return answer.shown is not None and revision_of(label, Box(*points)) == answer.shown[1]

    def wanted(self, answer: Answer, stored: StoredFinding) -> tuple[str, list[float]] | None:
        """See :class:`chaos.truth.Tool`."""
        fix, finding = stored.finding.fix, stored.finding
        shape = fix.shape or finding.current_shape
        if fix.action in ("delete", "none") or not isinstance(shape, Box):
            return None
        return fix.label or finding.label, list(shape.xyxy)

    def untouched(self, before: Row, after: Row) -> bool:
        """See :class:`chaos.truth.Tool`."""
        return all(before[name] == after[name] for name in before.keys() | after.keys() if name not in _CHANGING)

    def watch(self, request: Request, forward: Callable[[], Reply]) -> Reply:
        """Write down what the product reads and writes of people's work."""
        found = _ANNOTATIONS.match(request.path)
        if found is None:
            return forward()
        if request.method == "GET":
            self.ledger.read_at[found[1]] = time.monotonic()
            return forward()
        with self.ledger.lock:
            reply = forward()
            if reply[0] == 200 and found[1] in self.ledger.now:
                self._note(int(found[1]), by_product=True)
            if json.loads(request.body or b"{}").get("shapes") and "action=create" in request.path:
                self.ledger.read_at.pop(found[1], None)
            return reply

    # --- calls ------------------------------------------------------------------------------------------------------

    def _state(self, job: int) -> tuple[str, str]:
        found = self._server.state.jobs[job]
        return found.stage, found.state

    def _item(self, job: int) -> str:
        return str(self._jobs[job][0])

    def _is_theirs(self, job: int) -> bool:
        return self._state(job)[0] == "annotation"

    def _place(self, answer: Answer) -> tuple[int, str] | None:
        """Where the object of an answer is: job and shape."""
        shape = self.object_of(answer.shown[0]) if answer.shown else ""
        return next(((int(s), shape) for s, objects in self.ledger.now.items() if shape in objects), None)

    def _note(self, job: int, *, by_product: bool = False) -> None:
        objects = _objects(self._shapes(job))
        self.ledger.put(str(job), str(self._jobs[job][0]), objects, by_product=by_product)

    def _shape(self, frame: int, drawn: Drawn) -> Row:
        label, box = drawn
        fields: Row = {"type": "rectangle", "frame": frame, "label_id": self._labels[label], "points": list(box.xyxy)}
        return {**fields, "z_order": 3, "group": 2, "occluded": True, "attributes": []}

    def _shapes(self, job: int) -> list[Row]:
        shapes: list[Row] = self._call("GET", f"/api/jobs/{job}/annotations")["shapes"]
        return shapes

    def _patch(self, job: int, action: str, shapes: list[Row]) -> None:
        body = {"version": 0, "tags": [], "tracks": [], "shapes": shapes}
        self._call("PATCH", f"/api/jobs/{job}/annotations?action={action}", body)

    def _rows(self, path: str) -> list[Row]:
        rows: list[Row] = self._call("GET", f"{path}{'&' if '?' in path else '?'}page_size=100000")["results"]
        return rows

    def _call(self, method: str, path: str, body: Any = None, gone: tuple[int, ...] = ()) -> Any:
        answer = self._session.request(method, f"{self._server.url}{path}", json=body, timeout=60)
        if answer.status_code in gone:
            return None
        if answer.status_code >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer.json() if answer.content else {}


def _objects(shapes: list[Row]) -> Objects:
    """By id; the order of attributes changes from one reading to the next."""
    return {str(s["id"]): {**s, "attributes": sorted(s["attributes"], key=str)} for s in shapes}
