"""Killed at any request, run again until it ends: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import colour_detector
from fakes.pictures import CAT, DOG, TRUTH, draw
from live import Studio
from PIL import Image
from proxy import KillEverywhere, Proxy
from world import ERRORS, SUBMITTED, Command, World, finish, make_world, regions

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

#: So that there are several pages and several chunks.
SMALL = {"page_size": "3", "push_chunk": "3"}
ATTEMPTS = 80


@pytest.fixture
def world(studio: Studio, tmp_path: Path) -> World:
    return make_world(studio, tmp_path)


@pytest.fixture
def proxy(studio: Studio) -> Iterator[Proxy]:
    with Proxy(studio.server.url) as proxy:
        yield proxy


def kill_everywhere(proxy: Proxy, command: Command, *words: str) -> Any:
    """Run it again and again, killed once at every request it makes; the JSON of the run that ends by itself."""
    rule = KillEverywhere()
    began = time.monotonic()
    for _ in range(ATTEMPTS):
        proxy.obey(rule)
        process = command.start(*words, "--json", label_studio_url=proxy.url, **SMALL)
        proxy.victim = process.pid
        done = finish(process)
        if done.status == -signal.SIGKILL:
            continue
        assert done.status == 0, done.text
        writes = sum(point.startswith("KILL_BEFORE") for point in rule.points)
        seconds = time.monotonic() - began
        print(f"\n{words[0]}: {len(rule.points)} kills, two at each of {writes} writes, {seconds:.0f} s")
        assert writes or words[0] == "score"
        return done.json
    raise AssertionError("it never ends:\n" + "\n".join(rule.points))


def test_prelabel(studio: Studio, proxy: Proxy, tmp_path: Path) -> None:
    world = make_world(studio, tmp_path, [None] * 4)
    kill_everywhere(proxy, world.command, "prelabel", world.target)

    expected = [(r["value"], r["original_width"]) for r in regions(TRUTH)]
    for task in map(world.task, world.project.tasks):
        (prediction,) = task["predictions"]
        assert prediction["model_version"] == colour_detector.NAME
        found = [(r["value"], r["original_width"]) for r in prediction["result"]]
        assert found == expected
    assert world.client.project(world.project.id)["model_version"] == colour_detector.NAME
    assert world.command.unfinished == []
    again = world.command.ok("prelabel", world.target)
    assert (again["written"], again["skipped"]) == (0, 4)


def test_score(world: World, proxy: Proxy) -> None:
    world.predict()
    result = kill_everywhere(proxy, world.command, "score", world.target)

    undisturbed = Command(world.command.home.with_name("undisturbed"), world.command.settings)
    expected = undisturbed.ok("score", world.target)
    assert result["counts"] == expected["counts"]
    assert result["snapshot"] == expected["snapshot"]
    mine, theirs = world.command.findings(world.target), undisturbed.findings(world.target)
    assert mine == theirs
    assert sorted(f["error"] for f in mine.values() if f["score"] > 0.3) == ERRORS
    assert world.command.unfinished == []
    world.command.check_log()


def test_push(world: World, proxy: Proxy) -> None:
    world.predict()
    world.command.ok("score", world.target)
    expected = {i for i, f in world.command.findings(world.target).items() if f["score"] >= 0.3}

    kill_everywhere(proxy, world.command, "push", world.target, "--min-score", "0.3")

    findings = world.command.findings(world.target)
    pushed = {i: f["pushed"] for i, f in findings.items() if f["state"] == "pushed"}
    assert set(pushed) == expected
    (review,) = {p["review_ref"] for places in pushed.values() for p in places}
    tasks = world.review_tasks(review)
    assert Counter(t["data"]["lb_finding"] for t in tasks) == Counter(expected)
    assert {t["data"]["lb_finding"]: str(t["id"]) for t in tasks} == {i: p[0]["ref"] for i, p in pushed.items()}
    mine = [p for p in world.client.projects() if f"ls:project/{world.project.id} of" in str(p.get("description"))]
    assert [p["id"] for p in mine] == [int(review)]
    assert Counter(v["data"]["title"] for v in world.client.views(world.project.id))["Flagged"] == 1
    assert world.command.unfinished == []
    world.command.check_log()
    assert world.command.ok("push", world.target, "--min-score", "0.3")["pushed"] == 0


def test_sync(world: World, proxy: Proxy) -> None:
    world.predict()
    world.command.ok("score", world.target)
    review = world.command.ok("push", world.target, "--min-score", "0.3", "--limit", "5")["review"]["ref"]
    tasks = world.review_tasks(review)
    rejected = next(t["data"]["lb_finding"] for t in tasks if t["data"]["lb_error"] == "extra")
    for task in tasks:
        world.answer(task, "reject" if task["data"]["lb_finding"] == rejected else "accept")
    findings = world.command.findings(world.target)
    before = world.annotations()

    kill_everywhere(proxy, world.command, "sync", world.target)

    after = world.annotations()
    assert after.keys() == before.keys()
    accepted: dict[int, list[dict[str, Any]]] = {submission: [] for submission in before}
    for task in tasks:
        finding = findings[task["data"]["lb_finding"]]
        if finding["id"] != rejected:
            accepted[int(finding["submission_id"])].append(finding)
    for submission, regions_before in before.items():
        check_fixed(regions_before, after[submission], accepted[submission])
    states = Counter(f["state"] for f in world.command.findings(world.target).values() if f["id"] in findings)
    assert (states["verified"], states["rejected"], states["pushed"]) == (len(tasks) - 1, 1, 0)
    assert world.command.unfinished == []
    world.command.check_log()
    again = world.command.ok("sync", world.target)
    assert (again["verdicts"], again["fixes"]) == ({}, {})
    assert world.annotations() == after


def check_fixed(before: list[Any], after: list[Any], findings: list[dict[str, Any]]) -> None:
    """Each fix was made exactly once, and every other region is as it was, byte for byte."""
    concerned = {a.rpartition(":")[2] for f in findings for a in f["annotation_ids"]}
    untouched = [json.dumps(region) for region in before if region["id"] not in concerned]
    assert [json.dumps(r) for r in after if json.dumps(r) in untouched] == untouched
    changed = [r for r in after if json.dumps(r) not in untouched]
    wanted = sorted(f["fix"]["label"] for f in findings if f["fix"]["action"] != "delete")
    assert sorted(r["value"]["rectanglelabels"][0] for r in changed) == wanted
    truth = {label: region["value"] for (label, _), region in zip(TRUTH, regions(TRUTH), strict=True)}
    for region in changed:
        right = truth[region["value"]["rectanglelabels"][0]]
        assert all(region["value"][key] == pytest.approx(right[key], abs=0.1) for key in ("x", "y", "width", "height"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO file of 300 pictures with errors in every one, and predictions for it."""
    folder = tmp_path_factory.mktemp("files")
    images, annotations, results = [], [], []
    for image in range(300):
        images.append({"id": image, "file_name": f"{image}.png", "width": 160, "height": 120})
        for label, box in SUBMITTED[image % 6] or ():
            x1, y1, x2, y2 = box.xyxy
            entry = {"image_id": image, "category_id": 1 + (label == "dog"), "bbox": [x1, y1, x2 - x1, y2 - y1]}
            annotations.append({"id": len(annotations), **entry})
        for category, box in ((1, CAT), (2, DOG)):
            x1, y1, x2, y2 = box.xyxy
            entry = {"image_id": image, "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1]}
            results.append({**entry, "score": 0.5 + image / 1000})
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    Image.fromarray(draw()).save(folder / "0.png")
    labels = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "labels.json").write_text(json.dumps(labels))
    (folder / "results.json").write_text(json.dumps(results))
    return folder


@pytest.fixture(scope="module")
def undisturbed(dataset: Path) -> tuple[Any, dict[str, Any], float]:
    command = Command(dataset / "undisturbed", {"page_size": "20"})
    began = time.monotonic()
    result = command.ok("score", f"coco:{dataset}/labels.json", "--predictions", f"{dataset}/results.json")
    seconds = time.monotonic() - began
    return result, command.findings(f"coco:{dataset}/labels.json"), seconds


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_score_of_files_killed_at_any_moment(
    dataset: Path, undisturbed: tuple[Any, dict[str, Any], float], tmp_path: Path, seed: int
) -> None:
    expected, findings, seconds = undisturbed
    target = f"coco:{dataset}/labels.json"
    command = Command(tmp_path / "home", {"page_size": "20"})
    moments = random.Random(seed)
    kills = 0
    for _ in range(3):
        process = command.start("score", target, "--predictions", f"{dataset}/results.json", "--json")
        time.sleep(moments.uniform(0.4, 1.0) * seconds)
        process.kill()
        kills += finish(process).status == -signal.SIGKILL
    result = command.ok("score", target, "--predictions", f"{dataset}/results.json")
    print(f"\nscore of files: {kills} kills within {seconds:.1f} s")
    assert kills
    assert (result["counts"], result["snapshot"]) == (expected["counts"], expected["snapshot"])
    assert command.findings(target) == findings
    assert command.unfinished == []
    command.check_log()
