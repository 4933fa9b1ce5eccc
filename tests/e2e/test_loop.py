"""The main job, end to end: a real Label Studio, a real browser, the real detector, the real commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from live import Studio
from playwright.sync_api import Page

from bridge.core.annotations import LabelSet
from bridge.demo import dataset as demo_dataset
from bridge.demo import project as demo_project
from bridge.demo.backend import Backend
from bridge.demo.label_studio_server import LabelStudioServer
from bridge.tools.label_studio import LabelStudio

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass
class World:
    """A project with planted errors, a connected model server, and the command line."""

    studio: Studio
    project: int
    home: Path
    backend: Backend
    labelled: int

    @property
    def target(self) -> str:
        return f"ls:project/{self.project}"

    def run(self, *words: str) -> Any:
        """One command in a process of its own; its JSON."""
        done = subprocess.run(
            [sys.executable, "-m", "bridge", *words, "--json"],
            env={
                **os.environ,
                "LABELBRIDGE_HOME": str(self.home),
                "LABELBRIDGE_LABEL_STUDIO_URL": self.studio.server.url,
                "LABELBRIDGE_LABEL_STUDIO_API_KEY": self.studio.server.token,
            },
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    def annotation(self, submission: str) -> dict[str, Any]:
        """All that Label Studio tells of an annotation, but for how long ago it was."""
        told = self.studio.client.annotation(int(submission))
        return {name: value for name, value in told.items() if name != "created_ago"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("loop")


@pytest.fixture
def world(studio: Studio, folder: Path) -> Iterator[World]:
    data = demo_dataset.make(studio.server.files_root / "loop", items=12, unlabelled=2)
    project = demo_project.create(studio.client, data, "loop")
    server = studio.server
    with Backend(server.url, server.token, folder / "backend.log") as backend:
        yield World(studio, project, folder / "home", backend, len(data.records))


def log_in(page: Page, server: LabelStudioServer) -> None:
    page.goto(f"{server.url}/user/login/")
    page.fill("input[name=email]", server.email)
    page.fill("input[name=password]", server.password)
    page.click("button[type=submit]")
    page.wait_for_url(lambda url: "login" not in url)


def answer(page: Page, verdict: str) -> None:
    """Give a verdict on the review task that is open, and submit it."""
    page.get_by_label(verdict).first.check()
    with page.expect_response(lambda r: "/annotations" in r.url and r.request.method == "POST") as submitted:
        page.get_by_test_id("bottombar-submit-button").click()
    assert submitted.value.ok


def test_the_whole_loop(world: World, page: Page, folder: Path) -> None:
    connected = world.run("connect", world.target, "--backend-url", world.backend.url)
    assert connected["created"]
    assert not connected["webhook"], "no secret is set"
    prelabelled = world.run("prelabel", world.target)
    assert prelabelled["written"] == world.labelled + 2
    assert prelabelled["failures"] == []

    log_in(page, world.studio.server)
    see_suggestions(world, page, folder)

    scored = world.run("score", world.target, "--detector", "embedded")
    assert scored["counts"]["submissions"] == world.labelled
    pushed = world.run("push", world.target, "--type", "missing", "--type", "wrong_class", "--limit", "6")
    assert pushed["pushed"] >= 2
    assert world.run("push", world.target, "--type", "missing", "--type", "wrong_class", "--limit", "6")["pushed"] <= 6
    see_flagged(world, page, folder, pushed["flagged"])

    findings = {f["id"]: f for f in world.run("findings", world.target, "--state", "pushed")}
    originals = {f["submission_id"]: world.annotation(f["submission_id"]) for f in findings.values()}
    page.goto(pushed["review"]["url"])
    page.get_by_text("Label All Tasks").first.click()
    answer(page, "accept")
    page.get_by_text("Label All Tasks").or_(page.get_by_label("reject")).first.wait_for()
    page.screenshot(path=folder / "review.png")
    answer(page, "reject")

    synced = world.run("sync", world.target)

    assert synced["verdicts"] == {"accept": 1, "reject": 1}
    assert synced["fixes"] == {"applied": 1}
    assert synced["verified"] == 1
    states = {f["id"]: f for f in world.run("findings", world.target, "--limit", "500")}
    (accepted,) = (f for f in states.values() if f["state"] == "verified")
    (rejected,) = (f for f in states.values() if f["state"] == "rejected")
    assert_fixed(world, accepted, originals[accepted["submission_id"]])
    if rejected["submission_id"] != accepted["submission_id"]:
        assert world.annotation(rejected["submission_id"]) == originals[rejected["submission_id"]]

    after = {s: world.annotation(s) for s in originals}
    again = world.run("sync", world.target)
    assert again["verdicts"] == {}
    assert again["fixes"] == {}
    assert {s: world.annotation(s) for s in originals} == after

    assert world.run("export", world.target, "--out", str(folder / "coco.json"))["relabeled"] == 1
    objects = json.loads((folder / "coco.json").read_text())["annotations"]
    (fixed,) = (o["provenance"] for o in objects if o["provenance"]["relabeled"])
    assert fixed["submission"] == accepted["submission_id"]
    assert fixed["relabeled"][0]["finding"] == accepted["id"]
    assert world.run("audit", "verify")["problems"] == []


def see_suggestions(world: World, page: Page, folder: Path) -> None:
    """An annotator opens a task nobody has touched: the suggestions are on the canvas."""
    tool = LabelStudio(world.studio.client, world.project)
    records = tool.read_page(None, 100).records
    untouched = next(r for r in records if not r.submissions)
    assert untouched.predictions
    page.goto(f"{world.studio.server.url}/projects/{world.project}/data?task={untouched.item.id}")
    page.locator(".lsf-outliner-item").first.wait_for()
    page.wait_for_function(
        # The list of regions holds only the rows that can be seen.
        "n => document.querySelectorAll('.lsf-outliner-item').length >= n",
        arg=min(4, len(untouched.predictions)),
    )
    page.locator(".konvajs-content canvas").first.wait_for()
    page.screenshot(path=folder / "suggestions.png")


def see_flagged(world: World, page: Page, folder: Path, url: str) -> None:
    """The tab in the source project shows exactly the items with findings under review."""
    flagged = {f["item_id"] for f in world.run("findings", world.target, "--state", "pushed", "--limit", "500")}
    page.goto(url)
    page.get_by_text(f"Tasks: {len(flagged)} /").wait_for()
    page.screenshot(path=folder / "flagged.png")


def assert_fixed(world: World, finding: dict[str, Any], before: dict[str, Any]) -> None:
    """The fix is in the original annotation, and every other region of it is as it was."""
    now = world.annotation(finding["submission_id"])
    mine = {a.rpartition(":")[2] for a in finding["annotation_ids"]}
    kept = [region for region in before["result"] if region["id"] not in mine]
    assert [region for region in now["result"] if region in kept] == kept
    changed = [region for region in now["result"] if region not in before["result"]]
    assert len(changed) == 1
    assert changed[0]["value"]["rectanglelabels"] == [finding["fix"]["label"]]
    assert finding["fix"]["label"] in LabelSet(demo_dataset.LABELS.names).index()
