"""A project of texts: from what people marked to the fixes in their work, on a real Label Studio."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from live import Studio
from world import Command, Done

CONFIG = """<View>
  <Labels name="label" toName="text">
    <Label value="person" background="#d62728"/><Label value="firm" background="#1f77b4"/><Label value="place"/>
  </Labels>
  <Text name="text" value="$text"/>
</View>"""
#: The two faces are four UTF-16 units: every offset behind them tells how the tool counts.
TEXT = "\U0001f600\U0001f600 Ada Lovelace of Acme Corp. met Bob in New York City yesterday."
TRUTH = (("person", "Ada Lovelace"), ("firm", "Acme Corp"), ("person", "Bob"), ("place", "New York City"))
Words = Sequence[tuple[str, str]]


def regions(objects: Words) -> list[dict[str, Any]]:
    """Labelled words as the regions of an annotation, with the offsets that the browser counts."""
    return [
        {
            "id": f"r{k}",
            "from_name": "label",
            "to_name": "text",
            "type": "labels",
            "origin": "manual",
            "value": {"start": TEXT.index(w), "end": TEXT.index(w) + len(w), "text": w, "labels": [label]},
        }
        for k, (label, w) in enumerate(objects)
    ]


@dataclass
class Texts:
    """A project in which every task holds TEXT, its people, and the command set up for it."""

    studio: Studio
    project: int
    tasks: list[int]
    command: Command

    @property
    def target(self) -> str:
        return f"ls:project/{self.project}"

    def predict(self, objects: Words = TRUTH) -> None:
        result = [{**region, "score": 0.95} for region in regions(objects)]
        rows = [{"task": t, "model_version": "ner-1", "score": 0.95, "result": result} for t in self.tasks]
        self.studio.client.import_predictions(self.project, rows)

    def labelled(self, task: int) -> list[list[Any]]:
        """The regions of each annotation of a task, oldest first."""
        row = self.studio.client.call("GET", f"/api/tasks/{task}/").json()
        return [a["result"] for a in sorted(row["annotations"], key=lambda a: a["id"])]

    def answer(self, task: dict[str, Any], verdict: str, words: str = "") -> None:
        """A reviewer submits a verdict, after moving the suggestion to ``words`` where they are given."""
        result = copy.deepcopy(task["predictions"][0]["result"])
        for region in result:
            if words and region["from_name"] == "suggestion":
                start = task["data"]["text"].index(words)
                region["value"] |= {"start": start, "end": start + len(words), "text": words}
                region["origin"] = "prediction-changed"
        choice = {"id": "v1", "from_name": "verdict", "to_name": "text", "type": "choices", "origin": "manual"}
        self.studio.annotate(task["id"], [*result, {**choice, "value": {"choices": [verdict]}}])

    def push(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Push everything; the review tasks by error and label."""
        review = self.command.ok("push", self.target, "--min-score", "0.2")["review"]
        rows = self.studio.client.tasks(int(review["ref"]), limit=100, everything=True).tasks
        return {(row["data"]["lb_error"], row["data"]["lb_label"]): row for row in rows}


def make_texts(studio: Studio, folder: Path, submitted: Sequence[Sequence[Words]], config: str = CONFIG) -> Texts:
    """For each text what each of its annotators submitted."""
    project = int(studio.client.create_project({"title": "texts", "label_config": config})["id"])
    tasks = studio.client.import_tasks(project, [{"data": {"text": TEXT}} for _ in submitted])
    for task, people in zip(tasks, submitted, strict=True):
        for objects in people:
            studio.annotate(task, regions(objects))
    settings = {"label_studio_url": studio.server.url, "label_studio_api_key": studio.server.token}
    return Texts(studio, project, tasks, Command(folder / "home", settings))


WRONG: tuple[Words, ...] = (
    (*TRUTH[:2], TRUTH[3]),  # Bob is missing
    (*TRUTH, ("firm", "yesterday")),  # there is an extra firm
    (("firm", "Ada Lovelace"), *TRUTH[1:]),  # of the wrong class
    (*TRUTH[:3], ("place", "York City")),  # the place is cut short
    (TRUTH[0], ("firm", "Acme Corp."), *TRUTH[2:]),  # a full stop too much
)


def test_from_marked_words_to_verified_fixes(studio: Studio, tmp_path: Path) -> None:
    world = make_texts(studio, tmp_path, [[objects] for objects in (*WRONG, *[TRUTH] * 6)])
    world.predict()
    scored = world.command.ok("score", world.target)
    assert scored["findings"] == {"extra": 1, "imprecise": 2, "missing": 1, "wrong_class": 1}
    assert [scored["counts"][k] for k in ("items", "annotations", "predictions")] == [11, 44, 44]
    found = world.command.findings(world.target)
    scores = {f["error"]: f["score"] for f in sorted(found.values(), key=lambda f: f["score"])}
    assert min(scores.values()) > 0.5
    (full_stop,) = [f for f in found.values() if f["score"] < 0.5]
    assert "but for blanks and punctuation" in full_stop["reason"]

    asked = world.push()
    assert set(asked) == {
        ("missing", "person"), ("extra", "firm"), ("wrong_class", "firm"), ("imprecise", "place"), ("imprecise", "firm")
    }  # fmt: skip
    shown = [r["from_name"] for r in asked["missing", "person"]["predictions"][0]["result"]]
    assert shown == ["context"] * 3 + ["suggestion"]
    before = {task: world.labelled(task)[0] for task in world.tasks}
    world.answer(asked["missing", "person"], "accept")
    world.answer(asked["extra", "firm"], "accept")
    world.answer(asked["wrong_class", "firm"], "accept")
    world.answer(asked["imprecise", "place"], "accept", words="in New York City")
    world.answer(asked["imprecise", "firm"], "reject")
    synced = world.command.ok("sync", world.target)
    assert synced["verdicts"] == {"accept": 3, "edit": 1, "reject": 1}
    assert (synced["fixes"], synced["verified"], synced["conflicts"]) == ({"applied": 4}, 4, [])

    missing, extra, swapped, cut, dot, *good = (world.labelled(task)[0] for task in world.tasks)
    assert missing[:3] == before[world.tasks[0]]
    (added,) = missing[3:]
    assert added["value"] == regions([("person", "Bob")])[0]["value"]
    assert (added["from_name"], added["to_name"], added["type"]) == ("label", "text", "labels")
    assert extra == regions(TRUTH)
    assert swapped == regions(TRUTH)
    assert cut == regions((*TRUTH[:3], ("place", "in New York City")))
    assert dot == before[world.tasks[4]]
    assert good == [regions(TRUTH)] * 6
    assert world.command.ok("sync", world.target)["fixes"] == {}
    world.command.check_log()
    page = world.command.home / "report.html"
    assert world.command.run("report", world.target, "-o", str(page)).status == 0
    assert '<mark class="suggested">New </mark><mark class="labelled suggested">York City</mark>' in page.read_text()


def test_a_text_that_was_changed_meanwhile_is_a_conflict(studio: Studio, tmp_path: Path) -> None:
    world = make_texts(studio, tmp_path, [[WRONG[0]], [WRONG[3]], *[[TRUTH]] * 6])
    world.predict()
    world.command.ok("score", world.target)
    for task in world.push().values():
        world.answer(task, "accept")
    for task in world.tasks[:2]:
        studio.client.patch_task(task, {"data": {"text": "Well, " + TEXT}})
    before = [world.labelled(task) for task in world.tasks]
    synced = world.command.ok("sync", world.target)
    assert synced["fixes"] == {"conflict": 2}
    assert any("the text was changed since it was scored" in reason for reason in synced["conflicts"])
    assert [world.labelled(task) for task in world.tasks] == before


def test_several_annotators_need_no_model(studio: Studio, tmp_path: Path) -> None:
    short = (*TRUTH[:3], ("place", "New York"))
    people = [[TRUTH, TRUTH, TRUTH]] * 8 + [[TRUTH[1:], TRUTH, TRUTH], [TRUTH, TRUTH, short]]
    world = make_texts(studio, tmp_path, people)
    world.command.ok("score", world.target)
    likely = [f for f in world.command.findings(world.target).values() if f["score"] > 0.5]
    told = {(f["item_id"], f["error"], tuple(f["fix"]["shape"] or ())) for f in likely}
    start = TEXT.index
    assert told == {
        (str(world.tasks[8]), "missing", ("span", start("Ada"), start(" of"), "Ada Lovelace")),
        (str(world.tasks[9]), "imprecise", ("span", start("New"), start(" yesterday"), "New York City")),
    }


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ('<HyperText name="text" value="$text"/>', "shows no image or plain text: it has Labels, Label, HyperText"),
        ('<Text name="text" value="$text" valueType="url"/>', "valuetype='url'"),
    ],
)
def test_what_is_no_plain_text_is_refused(studio: Studio, tmp_path: Path, tag: str, words: str) -> None:
    config = CONFIG.replace('<Text name="text" value="$text"/>', tag)
    project = int(studio.client.create_project({"title": "other", "label_config": config})["id"])
    settings = {"label_studio_url": studio.server.url, "label_studio_api_key": studio.server.token}
    done: Done = Command(tmp_path / "home", settings).run("score", f"ls:project/{project}")
    assert done.status != 0
    assert words in " ".join(done.error.split())


def test_a_model_of_images_is_refused(studio: Studio, tmp_path: Path) -> None:
    world = make_texts(studio, tmp_path, [[TRUTH]])
    model = ("--detector", "embedded", "--label-map", "bolt=person")
    assert "it is a text" in world.command.run("prelabel", world.target, *model).text
    scored = world.command.run("score", world.target, *model)
    assert (scored.status, "Import a model's predictions" in scored.error) == (4, True)
