"""Killed at any request that writes to CVAT, run again until it ends: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from cvat_world import ALL_KINDS, RIGHT, Case, CvatWorld
from fakes import colour_detector
from fakes.cvat_server import FakeCvat
from proxy import Act, KillEverywhere, Proxy, Request
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
    """Run it until it ends by itself, killed before and after each writing request; how often that was."""
    everywhere = KillEverywhere()

    def rule(request: Request) -> Act:
        return everywhere(request) if request.writes and request.path != "/api/auth/login" else Act.FORWARD

    for _ in range(ATTEMPTS):
        proxy.obey(rule)
        process = command.start(*words, "--json")
        proxy.victim = process.pid
        done = finish(process)
        if done.status == -signal.SIGKILL:
            continue
        assert done.status == 0, done.text
        print(f"\n{words[0]}: {len(everywhere.points)} kills")
        return len(everywhere.points)
    raise AssertionError("it never ends:\n" + "\n".join(everywhere.points))


def test_push_and_sync(world: CvatWorld, proxy: Proxy, tmp_path: Path) -> None:
    settings = {
        "cvat_url": proxy.url,
        "cvat_user": world.user,
        "cvat_password": "secret",
        "cvat_organization": world.case.org,
    }
    command = Command(tmp_path / "home", settings, colour_detector.offer(tmp_path / "plugin"))
    command.ok("score", world.target, "--detector", "colour")
    likely = {i: f for i, f in command.findings(world.target).items() if f["score"] >= 0.5}
    assert sorted(f["error"] for f in likely.values()) == ["extra", "imprecise", "missing", "wrong_class"]

    assert kill_at_writes(proxy, command, "push", world.target, "--min-score", "0.5") == 2 * len(likely)
    assert world.marks() == Counter(likely.keys())
    pushed = {i: f["pushed"] for i, f in command.findings(world.target).items() if f["state"] == "pushed"}
    assert {int(place["ref"]) for (place,) in pushed.values()} == set(world.server.state.issues)

    for issue in world.server.state.issues:
        world.say(issue, "accept")
    before = world.held()
    # One request each deletes, updates and creates.
    assert kill_at_writes(proxy, command, "sync", world.target) == 2 * 3
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
