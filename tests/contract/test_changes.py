"""What each tool's ``read_changes`` tells beyond the protocol."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cvat_harness import picture
from fakes.cvat_server import FakeCvat
from fakes.tool_memory import Remembered
from live import Studio

from bridge.errors import ConfigError, NotFound, ToolError
from bridge.tools import Changes, change_log
from bridge.tools.cvat import Cvat
from bridge.tools.cvat_client import CvatClient, Login
from bridge.tools.cvat_target import parse_target
from bridge.tools.files import open_files
from bridge.tools.label_studio import LabelStudio


def told(changes: Changes) -> list[tuple[str, str]]:
    return sorted((change.kind, change.item_id) for change in changes.items)


def test_everything_that_people_do_in_label_studio(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_log, "NEWEST", 2)  # so that more than a page changes
    project = studio.project([(32, 32)] * 5)
    client, tool = studio.client, LabelStudio(studio.client, project.id)
    first, second, third, fourth, last = project.tasks
    cursor = tool.read_changes(None).cursor

    def changes() -> list[tuple[str, str]]:
        nonlocal cursor
        found = tool.read_changes(cursor)
        cursor = found.cursor
        return told(found)

    submitted = studio.annotate(first, [])
    assert changes() == [("work", str(first))]
    client.call("POST", f"/api/tasks/{second}/drafts", json={"result": []})
    client.call("POST", f"/api/tasks/{first}/annotations/{submitted['id']}/drafts", json={"result": []})
    client.import_predictions(project.id, [{"task": second, "result": [], "model_version": "m-1"}])
    client.patch_project(project.id, {"title": "Another title"})
    assert changes() == [], "drafts and predictions are nobody's submitted work"
    skipped = studio.annotate(second, [], was_cancelled=True)
    assert changes() == [("work", str(second))]
    client.patch_annotation(int(skipped["id"]), {"was_cancelled": False})
    client.call("POST", f"/api/annotations/{submitted['id']}/convert-to-draft", json={})
    assert changes() == [("work", str(first)), ("work", str(second))]
    studio.annotate(third, [])
    client.call("DELETE", f"/api/annotations/{skipped['id']}/")
    assert changes() == [("work", str(second)), ("work", str(third))]
    everything = {"params": {"id": "delete_tasks_annotations", "project": project.id}}
    client.call("POST", "/api/dm/actions", **everything, json={"selectedItems": {"all": True, "excluded": []}})  # type: ignore[arg-type]
    assert ("work", str(third)) in changes()
    client.call("DELETE", f"/api/tasks/{last}/")
    (again,) = client.import_tasks(project.id, [{"data": {"image": "/data/local-files/?d=a.png"}}])
    assert again == last, "on SQLite, ids are used again"
    assert changes() == [("new", str(last)), ("work", str(last))]
    client.call("DELETE", f"/api/tasks/{fourth}/")
    assert changes() == [("work", str(fourth))], "findings about it must go"
    annotated = {"data": {"image": "/data/local-files/?d=b.png"}, "annotations": [{"result": []}]}
    (came,) = client.import_tasks(project.id, [annotated])
    assert changes() == [("new", str(came)), ("work", str(came))]
    assert changes() == []


class World:
    """A project of olga's: a task of one job with two frames, and a task of two jobs with three and two."""

    def __init__(self, server: FakeCvat) -> None:
        self.server = server
        self.olga = server.add_user("olga")
        self.project = server.add_project("Cats", [{"name": "cat"}], self.olga)
        self.one, self.two = self.add_task(2, "train"), self.add_task(5, "test")

    def add_task(self, frames: int, subset: str = "", **more: object) -> int:
        images = [(f"photo {n}.png", picture(16, 16)) for n in range(frames)]
        return self.server.add_task(
            "T",
            images,
            owner=self.olga,
            project=self.project,
            segment_size=3,
            subset=subset,
            **more,  # type: ignore[arg-type]
        )

    def open(self, target: str, organization: str = "") -> Cvat:
        login = Login(user="olga", password="secret")
        client = CvatClient(self.server.url, login, organization=organization, sleep=lambda _: None)
        return Cvat(client, parse_target(target), Remembered())

    def set(self, job: int, **fields: str) -> None:
        for name, value in fields.items():
            setattr(self.server.state.jobs[job], name, value)
        self.server.state.touch(self.server.state.jobs[job])

    def jobs(self, task: int) -> list[int]:
        return [job.id for job in self.server.jobs_of(task)]


@pytest.fixture(params=["2.80", "2.15"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with FakeCvat(request.param) as server:
        yield World(server)


def test_a_cvat_project_changes_with_its_submitted_jobs(world: World) -> None:
    tool = world.open(f"cvat:project/{world.project}")
    changes = tool.read_changes(None)
    frames = [f"{world.one}/{n}" for n in range(2)] + [f"{world.two}/{n}" for n in range(5)]
    assert told(changes) == [("new", frame) for frame in frames]
    left, right = world.jobs(world.two)
    world.set(left, state="in progress")
    changes = tool.read_changes(changes.cursor)
    assert told(changes) == [], "somebody is at work"
    world.set(left, state="completed")
    changes = tool.read_changes(changes.cursor)
    assert told(changes) == [("work", f"{world.two}/{n}") for n in range(3)]
    world.set(right, stage="validation", state="new")
    changes = tool.read_changes(changes.cursor)
    assert told(changes) == [("work", f"{world.two}/{n}") for n in (3, 4)]
    world.set(right, stage="annotation", state="rejected")
    changes = tool.read_changes(changes.cursor)
    assert told(changes) == [("work", f"{world.two}/{n}") for n in (3, 4)], "it was sent back: its findings must go"
    world.set(right, state="in progress")
    three = world.add_task(1)
    changes = tool.read_changes(changes.cursor)
    assert told(changes) == [("new", f"{three}/0")]
    tool.client.delete_task(world.two)
    changes = tool.read_changes(changes.cursor)
    assert told(changes) == [("work", f"{world.two}/{n}") for n in range(5)]
    assert told(tool.read_changes(changes.cursor)) == []


def test_more_changes_than_a_page_holds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_log, "NEWEST", 1)
    tool = world.open(f"cvat:project/{world.project}")
    changes = tool.read_changes(None)
    assert len(changes.items) == 7
    for job in (*world.jobs(world.one), *world.jobs(world.two)):
        world.set(job, state="completed")
    changes = tool.read_changes(changes.cursor)
    assert [kind for kind, _ in told(changes)] == ["work"] * 7
    assert told(tool.read_changes(changes.cursor)) == []


def test_a_cvat_job_and_a_filtered_project(world: World) -> None:
    left, right = world.jobs(world.two)
    job = world.open(f"cvat:job/{right}")
    test = world.open(f"cvat:project/{world.project}?subset=test&state=completed")
    seen, seen_test = job.read_changes(None), test.read_changes(None)
    assert told(seen) == [("new", f"{world.two}/{n}") for n in (3, 4)]
    for changed in (left, right, *world.jobs(world.one)):
        world.set(changed, state="completed")
    assert told(job.read_changes(seen.cursor)) == [("work", f"{world.two}/{n}") for n in (3, 4)]
    assert told(test.read_changes(seen_test.cursor)) == [("work", f"{world.two}/{n}") for n in range(5)]


def test_a_ground_truth_job_is_nobodys_work(world: World) -> None:
    task = world.add_task(3, ground_truth=[1])
    tool = world.open(f"cvat:task/{task}")
    changes = tool.read_changes(None)
    assert told(changes) == [("new", f"{task}/{n}") for n in range(3)]
    truth = world.server.jobs_of(task, "ground_truth")[0].id
    world.set(truth, state="completed")
    assert told(tool.read_changes(changes.cursor)) == []


def test_an_empty_list_of_cvats_is_not_believed(world: World) -> None:
    world.server.add_organization("farm", world.olga)
    for target in (f"cvat:project/{world.project}", f"cvat:task/{world.two}"):
        with pytest.raises(ConfigError, match="LABELBRIDGE_CVAT_ORGANIZATION"):
            world.open(target, "farm").read_changes(None)
    with pytest.raises(NotFound):
        world.open("cvat:task/999").read_changes(None)


def test_files_have_no_changes_to_follow(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("data")
    (folder / "a.json").write_text('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}')
    with pytest.raises(ToolError, match="read-only"):
        open_files(f"coco:{folder}/a.json").read_changes(None)
