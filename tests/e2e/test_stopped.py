"""Label Studio falls silent, a token is old or wrong, somebody presses Ctrl-C: a clear message, and then it goes on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import Studio
from proxy import Act, Proxy, at, forward, from_on
from world import SUBMITTED, Command, Done, World, finish, make_world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SMALL = {"page_size": "3", "push_chunk": "2"}


@pytest.fixture
def world(studio: Studio, tmp_path: Path) -> World:
    world = make_world(studio, tmp_path)
    world.command.settings |= SMALL
    return world


@pytest.fixture
def proxy(studio: Studio) -> Iterator[Proxy]:
    with Proxy(studio.server.url) as proxy:
        yield proxy


def assert_clear(done: Done, status: int, *words: str) -> None:
    """It ended as it should, said why in a few lines, and showed no traceback and no token."""
    text = " ".join((done.output + done.error).split())
    assert done.status == status, done.text
    for word in words:
        assert word in text, done.text
    assert "Traceback" not in text
    assert len(done.error.strip().splitlines()) <= 12, done.text


def interrupt(proxy: Proxy, world: World, number: int, *words: str) -> Done:
    """One run in which somebody presses Ctrl-C while it waits for the answer to this request, which never comes."""
    proxy.obey(at(number, Act.INTERRUPT))
    began = time.monotonic()
    process = world.command.start(*words, label_studio_url=proxy.url, request_timeout_s="60")
    proxy.victim = process.pid
    done = finish(process)
    assert time.monotonic() - began < 50
    return done


def model_versions(world: World) -> list[list[str]]:
    return [[p["model_version"] for p in world.task(task)["predictions"]] for task in world.project.tasks]


class TestFallsSilent:
    """From some request on, nobody answers."""

    def test_prelabel(self, world: World, proxy: Proxy) -> None:
        proxy.obey(from_on(9, Act.DROP))
        done = world.command.run("prelabel", world.target, label_studio_url=proxy.url)
        assert_clear(done, 5, "nothing answers at", "Is Label Studio running, and is the address right?")
        begun = sum(map(len, model_versions(world)))
        assert 0 < begun < len(SUBMITTED)

        again = world.command.ok("prelabel", world.target)
        assert (again["written"], again["skipped"]) == (len(SUBMITTED) - begun, begun)
        assert model_versions(world) == [["colour-1"]] * len(SUBMITTED)
        assert world.command.unfinished == []

    def test_push(self, world: World, proxy: Proxy) -> None:
        world.predict()
        world.command.ok("score", world.target)
        proxy.obey(from_on(9, Act.DROP))
        done = world.command.run("push", world.target, label_studio_url=proxy.url)
        assert_clear(done, 5, "nothing answers at")
        begun = sum(f["state"] == "pushed" for f in world.command.findings(world.target).values())

        again = world.command.ok("push", world.target)
        assert begun
        assert again["pushed"]
        tasks = Counter(t["data"]["lb_finding"] for t in world.review_tasks(again["review"]["ref"]))
        assert set(tasks.values()) == {1}
        assert len(tasks) == begun + again["pushed"]

    def test_sync(self, world: World, proxy: Proxy) -> None:
        world.predict()
        world.command.ok("score", world.target)
        review = world.command.ok("push", world.target)["review"]["ref"]
        for task in world.review_tasks(review):
            world.answer(task, "accept")
        before = world.annotations()
        proxy.obey(from_on(12, Act.DROP))
        done = world.command.run("sync", world.target, label_studio_url=proxy.url)
        assert_clear(done, 5, "nothing answers at")
        half = world.annotations()
        assert before != half

        world.command.ok("sync", world.target)
        after = world.annotations()
        findings = world.command.findings(world.target).values()
        assert {f["state"] for f in findings if f["pushed"]} == {"verified"}
        added = Counter(r["id"] for regions in after.values() for r in regions if r["id"].startswith("lb-"))
        assert added == {f"lb-{f['id']}": 1 for f in findings if f["pushed"] and f["error"] == "missing"}
        # What the first run wrote stays; another finding of the same annotation may have come on top.
        assert all(region in after[k] for k in half for region in half[k] if region not in before[k])

    def test_in_json(self, world: World, proxy: Proxy) -> None:
        proxy.obey(from_on(1, Act.DROP))
        done = world.command.run("prelabel", world.target, "--json", label_studio_url=proxy.url)
        assert done.status == 5
        assert done.json["error"] == "ToolUnreachable"
        assert done.json["todo"]


class TestToken:
    @pytest.mark.parametrize("number", [3, 9, 10, 11])
    def test_is_renewed_when_it_expires_midway(self, world: World, proxy: Proxy, number: int) -> None:
        proxy.obey(at(number, Act.EXPIRE))
        result = world.command.ok("prelabel", world.target, label_studio_url=proxy.url)
        assert result["written"] == len(SUBMITTED)
        assert model_versions(world) == [["colour-1"]] * len(SUBMITTED)
        renewals = [request for request in proxy.seen if request.path.startswith("/api/token/refresh")]
        assert len(renewals) == 2

    def test_that_is_refused_again_and_again_ends_the_run(self, world: World, proxy: Proxy) -> None:
        proxy.obey(lambda r: Act.EXPIRE if r.number > 5 and "token" not in r.path else Act.FORWARD)
        done = world.command.run("prelabel", world.target, label_studio_url=proxy.url)
        assert_clear(done, 5, "Check the token")

    @pytest.mark.parametrize("token", ["abc", "a" * 40, "aaaa.bbbb.cccc"])
    def test_that_is_wrong(self, world: World, token: str) -> None:
        done = world.command.run("prelabel", world.target, label_studio_api_key=token)
        assert_clear(done, 5, "oken")
        json = world.command.run("score", world.target, "--json", label_studio_api_key=token).json
        assert json["error"] == "AuthError"
        assert token not in str(json)


class TestWrongWords:
    def test_nobody_listens_there(self, world: World) -> None:
        done = world.command.run("score", world.target, label_studio_url="http://127.0.0.1:9")
        assert_clear(done, 5, "nothing answers at http://127.0.0.1:9: connection refused")

    def test_no_such_host(self, world: World) -> None:
        done = world.command.run("score", world.target, label_studio_url="http://no-such-host.invalid")
        assert_clear(done, 5, "no-such-host.invalid", "Is Label Studio running, and is the address right?")

    def test_another_path_of_the_same_server(self, world: World) -> None:
        url = f"{world.studio.server.url}/elsewhere"
        done = world.command.run("score", world.target, label_studio_url=url)
        assert_clear(done, 5)

    @pytest.mark.parametrize("missing", ["label_studio_url", "label_studio_api_key"])
    def test_a_setting_is_missing(self, world: World, missing: str) -> None:
        done = world.command.run("score", world.target, **{missing: ""})
        assert_clear(done, 3, f"LABELBRIDGE_{missing.upper()} is not set", "export")

    @pytest.mark.parametrize("command", ["prelabel", "score", "push", "sync"])
    def test_no_such_project(self, world: World, command: str) -> None:
        done = world.command.run(command, "ls:project/999999")
        expected = {"push": "has not been scored yet", "sync": "nothing of ls:project/999999 was pushed"}
        assert_clear(done, 5, expected.get(command, "404"))

    @pytest.mark.parametrize("target", ["ls:project/x", "ls:project", "cvat:7", "7", "coco:", "coco:no-such.json"])
    def test_no_target(self, tmp_path: Path, target: str) -> None:
        done = Command(tmp_path / "home").run("score", target)
        assert_clear(done, 2)

    def test_no_such_option(self, tmp_path: Path) -> None:
        done = Command(tmp_path / "home").run("score", "ls:project/7", "--fast")
        assert done.status == 2
        assert "--fast" in done.error


class TestCtrlC:
    def test_prelabel_goes_on(self, world: World, proxy: Proxy, tmp_path: Path) -> None:
        done = interrupt(proxy, world, 9, "prelabel", world.target)
        assert_clear(done, 130, "Stopped. Run the same command again to go on.")
        assert world.command.unfinished != []
        begun = sum(map(len, model_versions(world)))
        assert begun < len(SUBMITTED)
        proxy.obey(forward)
        again = world.command.ok("prelabel", world.target, label_studio_url=proxy.url)
        assert again["items"] == len(SUBMITTED)
        assert model_versions(world) == [["colour-1"]] * len(SUBMITTED)
        assert world.command.unfinished == []

    def test_score_goes_on_in_the_same_run(self, world: World, proxy: Proxy) -> None:
        world.predict()
        done = interrupt(proxy, world, 4, "score", world.target, "--json")
        assert_clear(done, 130, "Stopped.")
        (begun,) = world.command.ok("runs")
        result = world.command.ok("score", world.target)
        assert result["run_id"] == begun["id"]

    def test_sync_goes_on(self, world: World, proxy: Proxy) -> None:
        world.predict()
        world.command.ok("score", world.target)
        review = world.command.ok("push", world.target)["review"]["ref"]
        tasks = world.review_tasks(review)
        for task in tasks:
            world.answer(task, "accept")
        done = interrupt(proxy, world, 8, "sync", world.target)
        assert_clear(done, 130, "Stopped.")
        result = world.command.ok("sync", world.target)
        assert result["verdicts"] == {"accept": len(tasks)}
        assert sum(result["fixes"].values()) == result["verified"] == len(tasks)
        assert world.command.ok("sync", world.target)["fixes"] == {}
        world.command.check_log()
