"""`labelbridge init` and `plan` against a real Label Studio."""

from __future__ import annotations

from pathlib import Path

import pytest
from live import CONFIG, Studio
from world import World, make_world

from bridge.core.annotations import LabelSet
from bridge.tools.label_studio import LabelStudio

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

OTHER = CONFIG.replace('value="cat"', 'value="Cat!"').replace('value="dog"', 'value="bird"')
TEXTS = '<View><Text name="t" value="$text"/><Labels name="l" toName="t"><Label value="cat"/></Labels></View>'


@pytest.fixture
def world(studio: Studio, tmp_path: Path) -> World:
    return make_world(studio, tmp_path, [None])


def test_a_first_file_holds_the_projects_that_people_work_in(world: World, studio: Studio) -> None:
    other, texts = (
        int(studio.client.create_project({"title": title, "label_config": config})["id"])
        for title, config in (("Äpfel: #2", OTHER), ("Texts", TEXTS))
    )
    review = LabelStudio(studio.client, world.project.id).open_review(LabelSet(("cat", "dog")), "Review: cats")
    command, file = world.command, world.command.home / "labelbridge.yaml"

    made = command.ok("init", "--detector", "colour")

    assert made["file"] == "labelbridge.yaml"
    assert "# Äpfel: #2\n" in file.read_text()
    # From here on, the file tells where Label Studio is.
    command.settings = {"label_studio_api_key": studio.server.token}
    plans = {project["target"]: project for project in command.ok("plan")}
    # Other tests have projects in this Label Studio too, and reviews of theirs.
    assert {f"ls:project/{n}" for n in (world.project.id, other, texts)} <= plans.keys()
    assert f"ls:project/{review.ref}" not in plans
    own, alike, text = (plans[f"ls:project/{n}"] for n in (world.project.id, other, texts))
    assert (own["policy"]["prelabel"], own["model"]["label_map"], own["source"]["detector"]) == (True, {}, "colour")
    assert (alike["policy"]["prelabel"], alike["model"]["label_map"]) == (True, {"cat": "Cat!"})
    assert (text["policy"]["prelabel"], text["source"]["detector"]) == (False, None)

    before = file.read_text()
    again = command.run("init", "--detector", "colour")
    assert (again.status, file.read_text()) == (3, before), again.text
    assert "labelbridge.yaml is there already" in again.error
    assert command.ok("init", "--detector", "colour", "--force")["kept"] == "labelbridge.yaml.old"
    assert file.read_text() == before == file.with_suffix(".yaml.old").read_text()
