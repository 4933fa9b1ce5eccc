"""Killed at any request that writes to CVAT, run again until it ends: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import hashlib
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cvat_world import ALL_KINDS, RIGHT, Case, CvatWorld, Held
from fakes import colour_detector
from fakes.cvat_server import FakeCvat
from proxy import Act, Proxy, Request, Rule
from world import Command, finish

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ATTEMPTS = 30


@pytest.fixture
def world() -> Iterator[CvatWorld]:
    with FakeCvat("2.80") as server:
        yield CvatWorld(server, Case("2.80", "maintainer", "zoo", "project"), [ALL_KINDS, RIGHT])


@pytest.fixture
def proxy(world: CvatWorld) -> Iterator[Proxy]:
    with Proxy(world.server.url) as proxy:
        yield proxy


def kill_at_writes(proxy: Proxy, command: Command, *words: str) -> int:
    """Run it until it ends by itself, killed before and after each writing request; how often that was.

    A request counts as the same in each attempt whatever ids are in its path: a task that was begun is made anew.
    """
    points: list[str] = []

    def rule_of_an_attempt() -> Rule:
        made: Counter[str] = Counter()

        def rule(request: Request) -> Act:
            if not request.writes or request.path == "/api/auth/login":
                return Act.FORWARD
            # Forms with files are spelt anew each time.
            body = hashlib.sha256(request.body).hexdigest()[:6] if request.body.startswith(b"{") else ""
            what = f"{request.method} {re.sub(r'[0-9]+', 'N', request.path)} {body}"
            made[what] += 1
            for act in (Act.KILL_BEFORE, Act.KILL_AFTER):
                point = f"{act.name} {what} #{made[what]}"
                if point not in points:
                    points.append(point)
                    return act
            return Act.FORWARD

        return rule

    for _ in range(ATTEMPTS):
        proxy.obey(rule_of_an_attempt())
        process = command.start(*words, "--json")
        proxy.victim = process.pid
        done = finish(process)
        if done.status == -signal.SIGKILL:
            continue
        assert done.status == 0, done.text
        print(f"\n{words[0]}: {len(points)} kills")
        return len(points)
    raise AssertionError("it never ends:\n" + "\n".join(points))


@pytest.fixture
def command(world: CvatWorld, proxy: Proxy, tmp_path: Path) -> Command:
    settings = {
        "cvat_url": proxy.url,
        "cvat_user": world.user,
        "cvat_password": "secret",
        "cvat_organization": world.case.org,
    }
    return Command(tmp_path / "home", settings, colour_detector.offer(tmp_path / "plugin"))


Likely = dict[str, dict[str, Any]]


def scored(world: CvatWorld, command: Command) -> Likely:
    """The findings that are pushed, by id."""
    command.ok("score", world.target, "--detector", "colour")
    likely = {i: f for i, f in command.findings(world.target).items() if f["score"] >= 0.5}
    assert sorted(f["error"] for f in likely.values()) == ["extra", "imprecise", "missing", "wrong_class"]
    return likely


def check_fixed(world: CvatWorld, command: Command, likely: Likely, before: Held) -> None:
    (task,) = world.tasks
    for frame, picture in enumerate((ALL_KINDS, RIGHT)):
        assert world.objects(task, frame) == sorted((label, [float(n) for n in b.xyxy]) for label, b in picture.shows)
    after = world.held()
    concerned = {("shapes", int(a.partition(":")[2])) for f in likely.values() for a in f["annotation_ids"]}
    others = {key: row for key, row in before.items() if key not in concerned}
    assert {key: after.get(key) for key in others} == others
    assert {f["state"] for i, f in command.findings(world.target).items() if i in likely} == {"verified"}
    assert command.unfinished == []
    command.check_log()


def test_push_and_sync(world: CvatWorld, proxy: Proxy, command: Command) -> None:
    likely = scored(world, command)
    # The job goes to review, and then one issue is made after the other.
    assert kill_at_writes(proxy, command, "push", world.target, "--min-score", "0.5") == 2 * (1 + len(likely))
    assert world.marks() == Counter(likely.keys())
    pushed = {i: f["pushed"] for i, f in command.findings(world.target).items() if f["state"] == "pushed"}
    assert {int(place["ref"]) for (place,) in pushed.values()} == set(world.server.state.issues)

    for issue in world.server.state.issues:
        world.say(issue, "accept")
    before = world.held()
    # One request each deletes, updates and creates.
    assert kill_at_writes(proxy, command, "sync", world.target) == 2 * 3
    check_fixed(world, command, likely, before)


def test_push_and_sync_of_a_review_task(world: CvatWorld, proxy: Proxy, command: Command) -> None:
    likely = scored(world, command)
    words = ("push", world.target, "--min-score", "0.5", "--mode", "task", "--reviewer", "ann")
    # The project, its guide; the task, which once is begun anew, images in three steps, shapes, assignee, guide.
    assert kill_at_writes(proxy, command, *words) == 2 * 10
    (job,) = world.review_jobs()
    assert len(world.server.state.projects) == 2
    for finding in likely:
        shape = world.review_shape(job.id, finding)
        (place,) = command.findings(world.target)[finding]["pushed"]
        assert place["ref"] == f"{job.task}/shape:{shape['id']}"
        world.look(job.id, "accept", finding)
    before = world.held()
    assert kill_at_writes(proxy, command, "sync", world.target) == 2 * 3
    check_fixed(world, command, likely, before)
