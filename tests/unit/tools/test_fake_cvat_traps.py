"""What a real CVAT 2.15 was seen to do where nobody would expect it, in the fake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from test_fake_cvat import BOX, Client, World, png

Row = dict[str, Any]


@pytest.fixture
def world() -> Iterator[World]:
    made = World("2.15")
    yield made
    made.fake.close()


def new_task(client: Client, **more: Any) -> int:
    return int(client.send("POST", "tasks", {"name": "new", "labels": [{"name": "cat"}], **more}, 201)["id"])


def test_objects_and_their_attributes_are_read_in_no_order_that_counts(world: World) -> None:
    ann = world.client(world.ann)
    note = {"name": "a note", "input_type": "text", "mutable": False, "values": []}
    ann.send("PATCH", f"projects/{world.project}", {"labels": [{"id": world.cat, "attributes": [note]}]})
    ids = [world.fake.annotate(world.first, **world.box(frame)) for frame in (1, 0, 1)]
    first, second = (ann.get(f"jobs/{world.first}/annotations")["shapes"] for _ in range(2))
    assert [row["id"] for row in first] == [ids[1], ids[2], ids[0]]
    assert first != second
    assert [sorted(row["attributes"], key=str) for row in first] == [
        sorted(row["attributes"], key=str) for row in second
    ]
    assert [a["name"] for a in ann.rows("labels", task_id=world.task)[-1]["attributes"]] == ["a note", "lb_score"]


def test_an_update_makes_again_what_is_gone_and_takes_nothing_from_other_jobs(world: World) -> None:
    kept = world.fake.annotate(world.first, **world.box())
    world.patch("update", {**world.box(), "id": kept + 100})
    assert [row["id"] for row in world.fake.shapes(world.first)] == [kept, kept + 100]
    world.patch("update", {**world.box(), "id": kept}, job=world.second, status=400)
    assert world.fake.shapes(world.second) == []


def test_a_task_without_data_is_finished_and_has_no_meta(world: World) -> None:
    ann = world.client(world.ann)
    task = new_task(ann)
    assert ann.get(f"tasks/{task}/status")["state"] == "Finished"
    ann.get(f"tasks/{task}/data/meta", 500)
    files = [("client_files[0]", ("a.png", png()))]
    ann.ask("POST", f"tasks/{task}/data", 202, files=files, data={"image_quality": "70"})
    assert ann.get(f"tasks/{task}/data/meta")["frames"] == []
    assert [ann.get(f"tasks/{task}/status")["state"] for _ in range(2)] == ["Started", "Finished"]
    assert ann.get(f"tasks/{task}/data/meta")["size"] == 1
    ann.ask("POST", f"tasks/{task}/data", 400, files=files, data={"image_quality": "70"})


def test_files_lose_their_folders(world: World) -> None:
    ann = world.client(world.ann)
    files = [("client_files[0]", ("x/a.png", png())), ("client_files[1]", ("b.png", png()))]
    order = {"upload_file_order[0]": "x/a.png", "upload_file_order[1]": "b.png"}
    path = f"tasks/{new_task(ann)}/data"
    refused = ann.ask("POST", path, 400, files=files, data={"image_quality": "70", **order})
    assert "x/a.png (missing)" in refused.text
    path = f"tasks/{new_task(ann)}/data"
    ann.ask("POST", path, 400, files=files, data={})
    ann.ask("POST", path, 415, data={"image_quality": "70"})
    twice = [*files, ("client_files[2]", ("y/a.png", png()))]
    ann.ask("POST", path, 500, files=twice, data={"image_quality": "70"})


@pytest.mark.parametrize(
    ("frames", "said"),
    [([], "cannot be empty"), ([1, 1], "must not repeat"), ([1, 99], "not included in the task: 99")],
)
def test_frames_that_no_ground_truth_can_have(world: World, frames: list[int], said: str) -> None:
    body = {"type": "ground_truth", "task_id": world.task, "frame_selection_method": "manual", "frames": frames}
    assert said in world.client(world.ann).send("POST", "jobs", body, 400)[0]


def test_a_quality_report_is_an_administrators_and_told_once(world: World) -> None:
    ann, root = world.client(world.ann), world.client(world.root)
    body = {"type": "ground_truth", "task_id": world.task, "frame_selection_method": "manual", "frames": [1]}
    truth = ann.send("POST", "jobs", body, 201)["id"]
    ann.send("PATCH", f"jobs/{truth}", {"stage": "acceptance", "state": "completed"})
    ann.send("POST", "quality/reports", {"task_id": world.task}, 403)
    rq_id = root.send("POST", "quality/reports", {"task_id": world.task}, 202)["rq_id"]
    answers = [root.ask("POST", "quality/reports", status, params={"rq_id": rq_id}).text for status in (202, 201, 404)]
    assert answers[0] == ""
    assert "Unknown request id" in answers[2]


def test_a_job_shows_the_guide_of_its_project_alone(world: World) -> None:
    ann = world.client(world.ann)
    ann.send("POST", "guides", {"task_id": world.task, "markdown": "of the task"}, 201)
    assert ann.get(f"jobs/{world.first}")["guide_id"] is None
    guide = ann.send("POST", "guides", {"project_id": world.project, "markdown": "of the project"}, 201)["id"]
    assert ann.get(f"jobs/{world.first}")["guide_id"] == guide
    assert ann.get(f"tasks/{world.task}")["guide_id"] != guide


def test_who_has_a_job_sees_neither_its_task_nor_its_project(world: World) -> None:
    bob = world.client(world.bob)
    for path in (f"jobs/{world.first}", f"jobs/{world.first}/data/meta", f"labels?job_id={world.first}"):
        bob.get(path)
    task, project = world.task, world.project
    hidden = [f"tasks/{task}", f"tasks/{task}/data/meta", f"labels?task_id={task}", f"projects/{project}"]
    for path in (*hidden, f"jobs/{world.second}"):
        bob.get(path, 403)
    assert [row["id"] for row in bob.rows("jobs", task_id=task)] == [world.first]
    assert bob.rows("tasks", project_id=project) == []


@pytest.mark.parametrize("path", ["tasks?project_id=999", "jobs?task_id=999", "issues?job_id=999"])
def test_a_list_of_what_is_not_there_is_refused(world: World, path: str) -> None:
    assert "valid choice" in world.client(world.ann).ask("GET", path, 400).text


def test_issues_that_are_refused(world: World) -> None:
    ann, body = world.client(world.ann), {"frame": 0, "position": BOX, "job": world.first, "message": " "}
    ann.send("POST", "issues", body, 400)
    assert ann.send("POST", "issues", {**body, "message": "x", "job": 999}, 400) == [
        "Job matching query does not exist."
    ]


def test_people_may_register(world: World) -> None:
    nobody, root = world.client(None), world.client(world.root)
    body = {"username": "newcomer", "email": "n@example.org", "password1": "secret", "password2": "secret"}
    nobody.send("POST", "auth/register", {**body, "username": "new"}, 400)
    nobody.send("POST", "auth/register", body, 201)
    nobody.send("POST", "auth/register", body, 400)
    (found,) = root.rows("users", search="newcomer")
    world.client(world.ann).ask("DELETE", f"users/{found['id']}", 403)
    root.ask("DELETE", f"users/{found['id']}", 204)
    assert root.rows("users", search="newcomer") == []
