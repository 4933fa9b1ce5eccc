"""The fake CVAT against the facts that were observed on real servers."""

from __future__ import annotations

import importlib.util
import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import requests
from fakes.cvat_server import Call, FakeCvat
from PIL import Image

Row = dict[str, Any]
BOX = [10.0, 10.0, 60.0, 50.0]


def png(width: int = 32, height: int = 24, value: int = 90) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(data, "PNG")
    return data.getvalue()


def images(count: int) -> list[tuple[str, bytes]]:
    return [(f"{number:03}.png", png(value=number)) for number in range(count)]


class Client:
    """Requests of one user."""

    def __init__(self, fake: FakeCvat, user: int | None, org: str | None = None) -> None:
        self.fake = fake
        self.headers = {} if user is None else {"Authorization": f"Token {fake.login_token(user)}"}
        if org is not None:
            self.headers["X-Organization"] = org

    def ask(self, method: str, path: str, status: int = 200, timeout: float = 10, **more: Any) -> requests.Response:
        headers = {**self.headers, **more.pop("headers", {})}
        answer = requests.request(method, f"{self.fake.url}/api/{path}", headers=headers, timeout=timeout, **more)
        assert answer.status_code == status, answer.text
        return answer

    def get(self, path: str, status: int = 200, **query: Any) -> Any:
        return self.ask("GET", path, status, params=query).json()

    def rows(self, path: str, **query: Any) -> list[Row]:
        rows: list[Row] = self.get(path, page_size="all", **query)["results"]
        return rows

    def send(self, method: str, path: str, body: Row, status: int = 200, **query: Any) -> Any:
        return self.ask(method, path, status, json=body, params=query).json()


class World:
    """One project outside any organization, with a task of eight frames in two jobs."""

    def __init__(self, version: str = "2.80") -> None:
        self.fake = FakeCvat(version)
        self.root = self.fake.add_user("root", is_superuser=True)
        self.ann, self.bob, self.eve = (self.fake.add_user(name) for name in ("ann", "bob", "eve"))
        cat = {"name": "cat", "attributes": [{"name": "lb_score", "input_type": "text", "default_value": "-"}]}
        self.project = self.fake.add_project("pets", [cat, "dog"], owner=self.ann)
        self.task = self.fake.add_task("walk", images(8), owner=self.ann, project=self.project, segment_size=4)
        self.first, self.second = (job.id for job in self.fake.jobs_of(self.task))
        self.fake.state.jobs[self.first].assignee = self.bob
        self.cat, self.dog = (self.fake.label(name).id for name in ("cat", "dog"))

    def client(self, user: int | None, org: str | None = None) -> Client:
        return Client(self.fake, user, org)

    def box(self, frame: int = 0, **more: Any) -> Row:
        return {"type": "rectangle", "frame": frame, "label_id": self.cat, "points": BOX, **more}

    def patch(self, action: str, *shapes: Row, job: int = 0, status: int = 200) -> Any:
        body = {"version": 0, "tags": [], "shapes": list(shapes), "tracks": []}
        path = f"jobs/{job or self.first}/annotations"
        return self.client(self.ann).send("PATCH", path, body, status, action=action)


@pytest.fixture
def new_world() -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(version: str = "2.80") -> World:
        made.append(World(version))
        return made[-1]

    yield make
    for world in made:
        world.fake.close()


@pytest.fixture
def world(new_world: Callable[..., World]) -> World:
    return new_world()


# --- who asks -----------------------------------------------------------------------------------------------------


def test_the_release_is_told_to_anybody_and_nothing_else_is(world: World) -> None:
    nobody = world.client(None)
    assert nobody.get("server/about")["version"] == "2.80.0"
    nobody.get("projects", 401)
    assert nobody.ask("GET", "users/self", 401, headers={"Authorization": "Token no"}).json()["detail"]


def test_ways_to_prove_who_one_is(world: World) -> None:
    nobody = world.client(None)
    key = nobody.send("POST", "auth/login", {"username": "ann", "password": "secret"})["key"]
    nobody.send("POST", "auth/login", {"username": "ann", "password": "no"}, 400)
    mine = {"Authorization": f"Token {key}"}
    assert nobody.ask("GET", "users/self", headers=mine).json()["username"] == "ann"
    assert nobody.ask("GET", "users/self", auth=("bob", "secret")).json()["username"] == "bob"
    nobody.ask("GET", "users/self", 401, auth=("bob", "no"))


def test_a_personal_token_that_only_reads(world: World) -> None:
    ann = world.client(world.ann)
    made = ann.send("POST", "auth/access_tokens", {"name": "bridge", "read_only": True}, 201)
    (listed,) = ann.rows("auth/access_tokens")
    assert "value" not in listed
    nobody, mine = world.client(None), {"Authorization": f"Bearer {made['value']}"}
    assert nobody.ask("GET", "users/self", headers=mine).json()["id"] == world.ann
    nobody.ask("PATCH", f"jobs/{world.first}", 403, headers=mine, json={"state": "completed"})


def test_there_are_no_personal_tokens_before_2_50(new_world: Callable[..., World]) -> None:
    world = new_world("2.22")
    world.client(world.ann).send("POST", "auth/access_tokens", {"name": "bridge"}, 404)


def test_agents_are_not_of_the_community_server(world: World) -> None:
    world.client(world.ann).get("functions", 404)


def test_outside_an_organization_one_sees_only_oneself(world: World) -> None:
    assert [row["username"] for row in world.client(world.ann).rows("users")] == ["ann"]
    world.client(world.ann).get(f"users/{world.bob}", 403)
    assert len(world.client(world.root).rows("users")) == 4


# --- organizations ------------------------------------------------------------------------------------------------


@pytest.fixture
def org(world: World) -> tuple[int, int]:
    """A job of an organization whose maintainer is eve and whose worker is bob."""
    home = world.fake.add_organization("acme", world.ann, {"eve": "maintainer", "bob": "worker"})
    project = world.fake.add_project("org pets", ["cat"], owner=world.ann, org=home)
    task = world.fake.add_task("org walk", images(2), owner=world.ann, project=project)
    return project, world.fake.jobs_of(task)[0].id


def test_lists_without_the_organization_are_empty_and_say_nothing(world: World, org: tuple[int, int]) -> None:
    _, job = org
    assert world.client(world.eve).rows("jobs") == []
    assert [row["id"] for row in world.client(world.eve, "acme").rows("jobs")] == [job]
    assert world.client(world.eve).get(f"jobs/{job}")["id"] == job
    assert [row["id"] for row in world.client(world.ann, "").rows("projects")] == [world.project]
    assert [row["id"] for row in Client(world.fake, world.eve).rows("jobs", org="acme")] == [job]


def test_creating_without_the_organization_is_refused(world: World, org: tuple[int, int]) -> None:
    _, job = org
    body = {"frame": 0, "position": BOX, "job": job, "message": "look"}
    world.client(world.eve).send("POST", "issues", body, 403)
    issue = world.client(world.eve, "acme").send("POST", "issues", body, 201)
    assert world.client(world.eve).rows("issues") == []
    assert world.client(world.eve).rows("comments", issue_id=issue["id"]) == []
    assert len(world.client(world.eve, "acme").rows("comments", issue_id=issue["id"])) == 1


def test_an_organization_that_one_is_not_in(world: World, org: tuple[int, int]) -> None:
    stranger = world.fake.add_user("stranger")
    world.client(stranger, "acme").get("jobs", 403)
    world.client(stranger, "nowhere").get("jobs", 404)
    world.client(stranger).get(f"jobs/{org[1]}", 403)


def test_a_maintainer_assigns_members_and_a_worker_nobody(world: World, org: tuple[int, int]) -> None:
    path = f"jobs/{org[1]}"
    eve = world.client(world.eve, "acme")
    assert eve.send("PATCH", path, {"assignee": world.bob})["assignee"]["username"] == "bob"
    eve.send("PATCH", path, {"assignee": 999}, 500)
    world.client(world.bob, "acme").send("PATCH", path, {"assignee": world.ann}, 403)
    assert {row["role"] for row in eve.rows("memberships")} == {"owner", "maintainer", "worker"}
    assert [row["slug"] for row in eve.rows("organizations")] == ["acme"]


# --- lists --------------------------------------------------------------------------------------------------------


def test_pages_of_ten_the_newest_first(world: World) -> None:
    for number in range(11):
        world.fake.add_task(f"t{number}", images(1), owner=world.ann, project=world.project)
    ann = world.client(world.ann)
    page = ann.get("jobs")
    assert (page["count"], len(page["results"]), page["previous"]) == (13, 10, None)
    ids = [row["id"] for row in page["results"]]
    assert ids == sorted(ids, reverse=True)
    rest = requests.get(page["next"], headers=ann.headers, timeout=10).json()
    assert (len(rest["results"]), rest["next"]) == (3, None)
    assert len(ann.rows("jobs")) == 13
    assert ann.get("jobs", page_size=5, page=3)["count"] == 13
    ann.get("jobs", 404, page=9)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"==": [{"var": "stage"}, "validation"]}, [1]),
        ({"and": [{"==": [{"var": "assignee"}, "bob"]}, {"in": [{"var": "state"}, ["new"]]}]}, [0]),
        ({"or": [{"in": ["WAL", {"var": "task_name"}]}, {"<=": [1, {"var": "id"}, 2]}]}, [0, 1]),
        ({"!": [{"==": [{"var": "assignee"}, "bob"]}]}, [1]),
    ],
)
def test_filters_of_json_logic(world: World, rule: Row, expected: list[int]) -> None:
    world.fake.state.jobs[world.second].stage = "validation"
    found = world.client(world.ann).rows("jobs", filter=json.dumps(rule), sort="id")
    assert [row["id"] for row in found] == [(world.first, world.second)[k] for k in expected]


def test_simple_filters_and_one_that_nobody_knows(world: World) -> None:
    ann = world.client(world.ann)
    assert [row["id"] for row in ann.rows("jobs", assignee="bob")] == [world.first]
    assert len(ann.rows("jobs", task_id=world.task)) == 2
    assert len(ann.rows("jobs", colour="red", id=world.first)) == 2
    ann.get("jobs", 400, filter=json.dumps({"==": [{"var": "colour"}, "red"]}))


# --- projects, tasks, labels --------------------------------------------------------------------------------------


def test_labels_of_a_project_are_those_of_its_task_and_jobs(world: World) -> None:
    ann = world.client(world.ann)
    of_task = ann.rows("labels", task_id=world.task, sort="id")
    assert [row["name"] for row in of_task] == ["cat", "dog"]
    assert of_task == ann.rows("labels", job_id=world.first, sort="id")
    assert of_task[0]["project_id"] == world.project
    (attribute,) = of_task[0]["attributes"]
    assert (attribute["name"], attribute["input_type"], attribute["default_value"]) == ("lb_score", "text", "-")


def test_a_label_and_an_attribute_are_added_to_a_project(world: World) -> None:
    ann = world.client(world.ann)
    score = {"name": "score", "input_type": "text", "mutable": False, "values": []}
    labels = [{"id": world.dog, "attributes": [score]}, {"name": "flag", "type": "tag"}]
    ann.send("PATCH", f"projects/{world.project}", {"labels": labels})
    rows = {row["name"]: row for row in ann.rows("labels", project_id=world.project)}
    assert [a["name"] for a in rows["dog"]["attributes"]] == ["score"]
    assert rows["flag"]["type"] == "tag"
    ann.send("PATCH", f"projects/{world.project}", {"labels": [{"name": "flag"}]}, 400)
    world.client(world.bob).send("PATCH", f"projects/{world.project}", {"labels": [{"name": "x"}]}, 403)


def test_a_label_that_is_deleted_takes_its_annotations_along(world: World) -> None:
    world.patch("create", world.box(), world.box(label_id=world.dog))
    labels = [{"id": world.cat, "deleted": True}]
    world.client(world.ann).send("PATCH", f"projects/{world.project}", {"labels": labels})
    assert [row["label_id"] for row in world.fake.shapes(world.first)] == [world.dog]


def test_a_task_made_of_files_has_no_jobs_until_one_has_waited(world: World) -> None:
    ann = world.client(world.ann)
    task = ann.send("POST", "tasks", {"name": "new", "labels": [{"name": "cat"}], "segment_size": 2}, 201)
    files = [(f"client_files[{k}]", (name, png())) for k, name in enumerate(("b.png", "a.png", "c.png"))]
    reply = ann.ask("POST", f"tasks/{task['id']}/data", 202, files=files, data={"image_quality": "70"})
    rq_id = reply.json()["rq_id"]
    assert ann.rows("jobs", task_id=task["id"]) == []
    path = f"requests/{quote(rq_id, safe='')}"
    assert [ann.get(path)["status"] for _ in range(2)] == ["started", "finished"]
    assert [row["frame_count"] for row in ann.rows("jobs", task_id=task["id"], sort="id")] == [2, 1]
    names = [row["name"] for row in ann.get(f"tasks/{task['id']}/data/meta")["frames"]]
    assert names == ["a.png", "b.png", "c.png"]


def test_the_old_release_names_no_request(new_world: Callable[..., World]) -> None:
    world = new_world("2.15")
    ann = world.client(world.ann)
    world.fake.state.share = {"one.png": png()}
    task = ann.send("POST", "tasks", {"name": "new"}, 201)["id"]
    body = {"server_files": ["one.png"], "image_quality": 70}
    assert "rq_id" not in ann.send("POST", f"tasks/{task}/data", body, 202)
    assert [ann.get(f"tasks/{task}/status")["state"] for _ in range(2)] == ["Started", "Finished"]
    ann.get("requests", 404)


def test_files_of_the_share_in_a_given_order_and_one_job_to_a_list(world: World) -> None:
    ann = world.client(world.ann)
    world.fake.state.share = dict(images(3))
    body = {"server_files": ["002.png", "000.png"], "sorting_method": "predefined", "use_cache": True}
    assert made_of(ann, body) == [("002.png", "000.png")]
    mapping = {"server_files": [n for n, _ in images(3)], "job_file_mapping": [["002.png"], ["000.png", "001.png"]]}
    assert made_of(ann, mapping) == [("002.png",), ("000.png", "001.png")]


def test_files_that_are_no_images_fail_late(world: World) -> None:
    ann = world.client(world.ann)
    world.fake.state.share = {"one.png": b"no image"}
    task = ann.send("POST", "tasks", {"name": "new"}, 201)["id"]
    rq_id = ann.send("POST", f"tasks/{task}/data", {"server_files": ["one.png"], "image_quality": 70}, 202)["rq_id"]
    status = [ann.get(f"requests/{quote(rq_id, safe='')}") for _ in range(2)][-1]
    assert status["status"] == "failed"
    assert status["message"]


def made_of(client: Client, body: Row) -> list[tuple[str, ...]]:
    """The names of the frames of each job of a new task."""
    task = client.send("POST", "tasks", {"name": "new"}, 201)["id"]
    rq_id = client.send("POST", f"tasks/{task}/data", {**body, "image_quality": 70}, 202)["rq_id"]
    while client.get(f"requests/{quote(rq_id, safe='')}")["status"] != "finished":
        pass
    names = [row["name"] for row in client.get(f"tasks/{task}/data/meta")["frames"]]
    jobs = client.rows("jobs", task_id=task, sort="id")
    return [tuple(names[job["start_frame"] : job["stop_frame"] + 1]) for job in jobs]


@pytest.mark.skipif(importlib.util.find_spec("cvat_sdk") is None, reason="needs cvat-sdk")
def test_the_sdk_reads_what_the_fake_says(world: World, tmp_path: Path) -> None:
    """Its models check the types of all fields."""
    from cvat_sdk import Client as SdkClient
    from cvat_sdk.core.client import AccessTokenCredentials, Config
    from cvat_sdk.core.proxies.tasks import ResourceType

    token = world.client(world.ann).send("POST", "auth/access_tokens", {"name": "sdk"}, 201)["value"]
    issue_of(world)
    truth = truth_of(world, 1, 5)
    world.patch("create", world.box(), world.box(2, type="mask", points=[0, 3, 1, 3, 2, 3, 5, 5]))
    for name, data in images(3):
        (tmp_path / name).write_bytes(data)
    with SdkClient(world.fake.url, config=Config(status_check_period=0.01)) as client:
        client.login(AccessTokenCredentials(token))
        spec: Any = {"name": "sdk", "labels": [{"name": "cat"}]}
        made = client.tasks.create_from_data(spec, sorted(tmp_path.iterdir()), resource_type=ResourceType.LOCAL)
        assert [frame.name for frame in made.get_frames_info()] == ["000.png", "001.png", "002.png"]
        assert made.get_frame(2, quality="original").read() == images(3)[2][1]
        (job,) = made.get_jobs()
        assert job.get_annotations().shapes == []
        assert [project.id for project in client.projects.list()] == [world.project]
        assert [label.name for label in client.jobs.retrieve(world.first).get_labels()] == ["dog", "cat"]
        assert [issue.frame for issue in client.jobs.retrieve(world.first).get_issues()] == [1]
        assert client.jobs.retrieve(truth).get_meta().included_frames == [1, 5]
        shapes = client.jobs.retrieve(world.first).get_annotations().shapes
        assert [str(shape.type) for shape in shapes] == ["rectangle", "mask"]


# --- frames -------------------------------------------------------------------------------------------------------


def test_frames_are_counted_in_the_task(world: World) -> None:
    bob = world.client(world.bob)
    path = f"jobs/{world.first}/data"
    original = bob.ask("GET", path, params={"type": "frame", "number": 3, "quality": "original"})
    assert (original.content, original.headers["content-type"]) == (images(8)[3][1], "image/png")
    small = bob.ask("GET", path, params={"type": "frame", "number": 3, "quality": "compressed"})
    assert small.headers["content-type"] == "image/jpeg"
    bob.ask("GET", path, 400, params={"type": "frame", "number": 4, "quality": "original"})
    world.client(world.eve).ask("GET", path, 403, params={"type": "frame", "number": 3})
    chunk = bob.ask("GET", path, params={"type": "chunk", "number": 0, "quality": "original"}).content
    assert zipfile.ZipFile(io.BytesIO(chunk)).read("000003.png") == images(8)[3][1]


def test_a_video_is_one_file(world: World) -> None:
    task = world.fake.add_task("film", images(4), owner=world.ann, project=world.project, mode="interpolation")
    (frame,) = world.client(world.ann).get(f"tasks/{task}/data/meta")["frames"]
    assert (frame["name"], frame["width"], frame["height"]) == ("film.mp4", 32, 24)
    assert world.client(world.ann).get(f"tasks/{task}")["mode"] == "interpolation"


def test_meta_of_a_job_and_deleted_frames(world: World) -> None:
    ann = world.client(world.ann)
    meta = ann.get(f"jobs/{world.second}/data/meta")
    assert (meta["size"], meta["start_frame"], meta["stop_frame"]) == (4, 4, 7)
    assert [row["name"] for row in meta["frames"]] == ["004.png", "005.png", "006.png", "007.png"]
    ann.send("PATCH", f"tasks/{world.task}/data/meta", {"deleted_frames": [1, 5]})
    assert ann.get(f"jobs/{world.second}/data/meta")["deleted_frames"] == [5]
    assert ann.get(f"jobs/{world.second}")["frame_count"] == 3


# --- annotations --------------------------------------------------------------------------------------------------


def test_create_gives_new_ids_and_update_keeps_them(world: World) -> None:
    (made,) = world.patch("create", world.box(id=4711))["shapes"]
    assert made["id"] != 4711
    (same,) = world.patch("update", {**made, "label_id": world.dog})["shapes"]
    assert (same["id"], same["label_id"]) == (made["id"], world.dog)
    assert [row["id"] for row in world.fake.shapes(world.first)] == [made["id"]]


def test_put_replaces_all_under_new_ids(world: World) -> None:
    (made,) = world.patch("create", world.box())["shapes"]
    path = f"jobs/{world.first}/annotations"
    (replaced,) = world.client(world.ann).send("PUT", path, {"version": 0, "shapes": [made]})["shapes"]
    assert replaced["id"] != made["id"]
    world.client(world.ann).ask("DELETE", path, 204)
    assert world.client(world.ann).get(path)["shapes"] == []


def test_delete_takes_whole_objects(world: World) -> None:
    made = world.patch("create", world.box(), world.box(1))["shapes"]
    world.patch("delete", {"id": made[0]["id"]}, status=400)
    world.patch("delete", made[0])
    assert [row["id"] for row in world.fake.shapes(world.first)] == [made[1]["id"]]
    world.patch("change", made[1], status=400)


@pytest.mark.parametrize(("version", "kept"), [("2.80", True), ("2.62", True), ("2.22", False), ("2.15", False)])
def test_scores_are_kept_from_2_62_on(new_world: Callable[..., World], version: str, kept: bool) -> None:
    (made,) = new_world(version).patch("create", new_world(version).box(score=0.5))["shapes"]
    assert ("score" in made) == kept


def test_what_is_checked_and_what_is_not(world: World) -> None:
    world.patch("create", world.box(label_id=9999), status=400)
    world.patch("create", world.box(source="x" * 17), world.box(), status=500)
    world.patch("create", world.box(attributes=[{"spec_id": 1, "value": "x"}]), status=400)
    assert world.fake.shapes(world.first) == []
    (made,) = world.patch("create", world.box(7, source="x" * 16, points=[1.0, 2.0], colour="red"))["shapes"]
    assert (made["frame"], made["source"], made["points"]) == (7, "x" * 16, [1.0, 2.0])
    assert "colour" not in made
    assert world.client(world.ann).get(f"jobs/{world.first}/annotations")["version"] == 0


def test_attributes_that_were_not_given_are_read_with_their_defaults(world: World) -> None:
    world.fake.annotate(world.first, **world.box())
    (row,) = world.client(world.ann).get(f"jobs/{world.first}/annotations")["shapes"]
    assert [x["value"] for x in row["attributes"]] == ["-"]


def test_annotations_of_a_task_lie_in_its_jobs(world: World) -> None:
    path = f"tasks/{world.task}/annotations"
    body = {"shapes": [world.box(1), world.box(6)], "tags": [{"frame": 2, "label_id": world.dog}]}
    world.client(world.ann).send("PATCH", path, body, action="create")
    assert [row["frame"] for row in world.fake.shapes(world.second)] == [6]
    read = world.client(world.ann).get(path)
    assert [row["frame"] for row in read["shapes"]] == [1, 6]
    assert [row["frame"] for row in read["tags"]] == [2]


def test_tracks_keep_their_shapes(world: World) -> None:
    shape = {"type": "rectangle", "frame": 1, "points": BOX, "outside": False, "occluded": False}
    track = {"frame": 1, "label_id": world.cat, "shapes": [shape, {**shape, "frame": 3, "outside": True}]}
    path = f"jobs/{world.first}/annotations"
    (made,) = world.client(world.ann).send("PATCH", path, {"tracks": [track]}, action="create")["tracks"]
    assert [(s["frame"], s["outside"]) for s in made["shapes"]] == [(1, False), (3, True)]


def test_a_save_moves_the_dates_of_job_and_task(world: World) -> None:
    job, task = world.fake.state.jobs[world.first], world.fake.state.tasks[world.task]
    before = (job.updated, task.updated)
    other = world.fake.state.jobs[world.second].updated
    world.patch("create", world.box())
    assert job.updated > before[0]
    assert task.updated > before[1]
    assert world.fake.state.jobs[world.second].updated == other


# --- issues -------------------------------------------------------------------------------------------------------


def issue_of(world: World, **more: Any) -> Row:
    body = {"frame": 1, "position": BOX, "job": world.first, "message": "look", **more}
    answer: Row = world.client(world.ann).send("POST", "issues", body, 201)
    return answer


def test_the_message_of_an_issue_is_its_first_comment(world: World) -> None:
    issue = issue_of(world)
    ann = world.client(world.ann)
    assert (issue["job"], issue["frame"], issue["comments"]["count"]) == (world.first, 1, 1)
    ann.send("POST", "comments", {"issue": issue["id"], "message": "again"}, 201)
    messages = [row["message"] for row in ann.rows("comments", issue_id=issue["id"], sort="id")]
    assert messages == ["look", "again"]
    assert len(ann.rows("comments", task_id=4711)) == 2  # no such filter
    assert [row["id"] for row in ann.rows("issues", job_id=world.first, resolved="false")] == [issue["id"]]
    assert ann.rows("issues", task_id=world.task, resolved="true") == []
    assert [row["id"] for row in ann.rows("issues", frame_id=1, owner="ann")] == [issue["id"]]


def test_odd_positions_and_frames_elsewhere_are_taken(world: World) -> None:
    assert issue_of(world, position=[1, 2, 3], frame=77)["position"] == [1.0, 2.0, 3.0]
    body = {"frame": 1, "position": [], "job": world.first, "message": "look"}
    world.client(world.ann).send("POST", "issues", body, 400)


def test_fields_of_an_issue_that_are_written_once(world: World) -> None:
    issue = issue_of(world)
    changes = {"frame": 3, "job": world.second, "message": "new", "resolved": True}
    changed = world.client(world.bob).send("PATCH", f"issues/{issue['id']}", changes)
    assert (changed["frame"], changed["job"], changed["resolved"]) == (1, world.first, True)
    assert [c.message for c in world.fake.state.comments.values()] == ["look"]


def test_an_issue_goes_with_its_comments(world: World) -> None:
    issue = issue_of(world)
    world.client(world.ann).ask("DELETE", f"issues/{issue['id']}", 204)
    assert world.fake.state.comments == {}
    world.client(world.ann).get(f"issues/{issue['id']}", 404)


def test_issues_are_made_by_the_assignee_and_the_owner_alone(world: World) -> None:
    body = {"frame": 1, "position": BOX, "job": world.first, "message": "look"}
    world.client(world.bob).send("POST", "issues", body, 201)
    world.client(world.eve).send("POST", "issues", body, 403)
    world.client(world.bob).send("POST", "issues", {**body, "job": world.second}, 403)


# --- jobs ---------------------------------------------------------------------------------------------------------


def test_another_stage_without_a_state_starts_anew(world: World) -> None:
    ann, path = world.client(world.ann), f"jobs/{world.first}"
    ann.send("PATCH", path, {"state": "completed"})
    moved = ann.send("PATCH", path, {"stage": "validation"})
    assert (moved["stage"], moved["state"], moved["status"]) == ("validation", "new", "validation")
    done = ann.send("PATCH", path, {"stage": "acceptance", "state": "completed"})
    assert done["status"] == "completed"
    back = ann.send("PATCH", path, {"stage": "annotation", "state": "rejected", "assignee": None})
    assert (back["state"], back["assignee"]) == ("rejected", None)
    ann.send("PATCH", path, {"stage": "review"}, 400)


def test_an_annotator_changes_the_state_alone(world: World) -> None:
    bob, path = world.client(world.bob), f"jobs/{world.first}"
    assert bob.send("PATCH", path, {"state": "completed"})["state"] == "completed"
    bob.send("PATCH", path, {"stage": "validation"}, 403)
    bob.send("PATCH", path, {"assignee": None}, 403)
    world.client(world.eve).send("PATCH", path, {"state": "new"}, 403)


def test_outside_an_organization_only_an_administrator_assigns_others(world: World) -> None:
    path = f"jobs/{world.first}"
    world.client(world.ann).send("PATCH", path, {"assignee": world.eve}, 403)
    assert world.client(world.ann).send("PATCH", path, {"assignee": world.ann})["assignee"]["username"] == "ann"
    assert world.client(world.root).send("PATCH", path, {"assignee": world.eve})["assignee"]["id"] == world.eve


@pytest.mark.parametrize(("version", "kind"), [("2.80", "replica"), ("2.62", "consensus_replica"), ("2.22", None)])
def test_replicas(new_world: Callable[..., World], version: str, kind: str | None) -> None:
    world = new_world(version)
    task = world.fake.add_task("r", images(2), owner=world.ann, project=world.project, replicas=2)
    jobs = world.client(world.ann).rows("jobs", task_id=task, sort="id")
    assert [job["type"] for job in jobs] == ["annotation", *([kind] * 2 if kind else [])]
    if kind:
        assert {job["parent_job_id"] for job in jobs[1:]} == {jobs[0]["id"]}


# --- ground truth -------------------------------------------------------------------------------------------------


def truth_of(world: World, *frames: int) -> int:
    body = {"type": "ground_truth", "task_id": world.task, "frame_selection_method": "manual", "frames": list(frames)}
    return int(world.client(world.ann).send("POST", "jobs", body, 201)["id"])


def test_a_ground_truth_job_is_apart_and_there_is_one(world: World) -> None:
    truth = truth_of(world, 1, 5)
    ann = world.client(world.ann)
    row, meta = ann.get(f"jobs/{truth}"), ann.get(f"jobs/{truth}/data/meta")
    assert (row["type"], row["frame_count"], row["start_frame"], row["stop_frame"]) == ("ground_truth", 2, 0, 7)
    assert meta["included_frames"] == [1, 5]
    world.fake.annotate(truth, **world.box(1))
    assert ann.get(f"tasks/{world.task}/annotations")["shapes"] == []
    body = {"type": "ground_truth", "task_id": world.task, "frame_selection_method": "manual", "frames": [1]}
    ann.send("POST", "jobs", body, 400)
    assert ann.get(f"tasks/{world.task}/validation_layout")["validation_frames"] == [1, 5]
    ann.ask("DELETE", f"jobs/{truth}", 204)


@pytest.mark.parametrize("version", ["2.22", "2.80"])
def test_conflicts_with_the_ground_truth(new_world: Callable[..., World], version: str) -> None:
    world = new_world(version)
    truth, ann = truth_of(world, 1, 5), world.client(world.root)
    missed = world.fake.annotate(truth, **world.box(1, points=[0, 0, 5, 5]))
    world.fake.annotate(truth, **world.box(1))
    world.fake.annotate(world.first, **world.box(1, label_id=world.dog))
    extra = world.fake.annotate(world.second, **world.box(5))
    world.fake.annotate(world.second, **world.box(6))
    ann.send("POST", "quality/reports", {"task_id": world.task}, 400)
    ann.send("PATCH", f"jobs/{truth}", {"stage": "acceptance", "state": "completed"})
    rq_id = ann.send("POST", "quality/reports", {"task_id": world.task}, 202)["rq_id"]
    path = f"requests/{quote(rq_id, safe='')}"
    if version == "2.22":
        ann.get(path, 404)
        ann.send("POST", "quality/reports", {}, 202, rq_id=rq_id)
        report = ann.send("POST", "quality/reports", {}, 201, rq_id=rq_id)["id"]
        ann.send("POST", "quality/reports", {}, 404, rq_id=rq_id)
    else:
        ann.send("POST", "quality/reports", {"task_id": world.task}, 409)
        report = [ann.get(path) for _ in range(2)][-1]["result_id"]
    rows = ann.rows("quality/conflicts", report_id=report, sort="id")
    assert [row["type"] for row in rows] == ["mismatching_label", "missing_annotation", "extra_annotation"]
    assert rows[1]["annotation_ids"][0]["obj_id"] == missed
    assert rows[2]["annotation_ids"] == [
        {"obj_id": extra, "job_id": world.second, "type": "shape", "shape_type": "rectangle"}
    ]


@pytest.mark.parametrize(("version", "status"), [("2.15", 403), ("2.22", 403), ("2.62", 202)])
def test_reports_were_for_administrators_alone(new_world: Callable[..., World], version: str, status: int) -> None:
    world = new_world(version)
    truth, ann = truth_of(world, 1), world.client(world.ann)
    ann.send("PATCH", f"jobs/{truth}", {"stage": "acceptance", "state": "completed"})
    ann.send("POST", "quality/reports", {"task_id": world.task}, status)
    world.client(world.root).send("POST", "quality/reports", {"task_id": world.task}, 202 if status == 403 else 409)


def test_reports_say_of_which_state_they_are(world: World) -> None:
    truth, ann = truth_of(world, 1), world.client(world.ann)
    done = ann.send("PATCH", f"jobs/{truth}", {"stage": "acceptance", "state": "completed"})
    ann.send("POST", "quality/reports", {"task_id": world.task}, 202)
    reports: list[Row] = []
    while not reports:
        reports = ann.rows("quality/reports", task_id=world.task, target="task")
    assert [r["gt_last_updated"] for r in reports] == [done["updated_date"]]
    assert ann.send("PATCH", f"jobs/{truth}", {"state": "completed"})["updated_date"] > done["updated_date"]


def test_a_report_when_the_ground_truth_is_gone(world: World) -> None:
    truth, ann = truth_of(world, 1), world.client(world.ann)
    ann.send("PATCH", f"jobs/{truth}", {"stage": "acceptance", "state": "completed"})
    rq_id = ann.send("POST", "quality/reports", {"task_id": world.task}, 202)["rq_id"]
    ann.ask("DELETE", f"jobs/{truth}", 204)
    path = f"requests/{quote(rq_id, safe='')}"
    assert [ann.get(path) for _ in range(2)][-1]["status"] == "failed"


def test_frames_of_a_ground_truth_job_are_counted_in_the_source(world: World) -> None:
    task = world.fake.state.tasks[world.task]
    task.start_frame, task.step = 10, 2
    ann = world.client(world.ann)
    body = {"type": "ground_truth", "task_id": world.task, "frame_selection_method": "manual"}
    ann.send("POST", "jobs", {**body, "frames": [1]}, 400)
    truth = ann.send("POST", "jobs", {**body, "frames": [12, 24]}, 201)["id"]
    assert world.fake.state.jobs[truth].frames == (1, 7)
    assert ann.get(f"jobs/{truth}/data/meta")["included_frames"] == [12, 24]


@pytest.mark.parametrize(("role", "status"), [("worker", 403), ("supervisor", 201), ("maintainer", 201)])
def test_workers_of_an_organization_make_no_ground_truth(world: World, role: str, status: int) -> None:
    org = world.fake.add_organization("zoo", world.root, {world.ann: role})
    task = world.fake.add_task("t", images(2), owner=world.ann, org=org, labels=["cat"])
    ann = world.client(world.ann, "zoo")
    body = {"type": "ground_truth", "task_id": task, "frame_selection_method": "manual", "frames": [1]}
    made = ann.send("POST", "jobs", body, status)
    if status == 201:
        ann.ask("DELETE", f"jobs/{made['id']}", 204)


def test_honeypots_are_in_the_layouts(world: World) -> None:
    task = world.fake.add_task(
        "h", images(6), owner=world.ann, project=world.project, segment_size=2, ground_truth=[4, 5], honeypots={1: 4}
    )
    first, second = world.fake.jobs_of(task)
    ann = world.client(world.ann)
    assert (first.stop, second.stop) == (1, 3)
    assert ann.get(f"tasks/{task}/validation_layout")["mode"] == "gt_pool"
    layout = ann.get(f"jobs/{first.id}/validation_layout")
    assert (layout["honeypot_frames"], layout["honeypot_real_frames"]) == ([1], [4])
    assert ann.get(f"jobs/{second.id}/validation_layout")["honeypot_count"] == 0


# --- guides and webhooks ------------------------------------------------------------------------------------------


def test_one_guide_to_an_object(world: World) -> None:
    ann = world.client(world.ann)
    guide = ann.send("POST", "guides", {"project_id": world.project, "markdown": "# How"}, 201)
    ann.send("POST", "guides", {"project_id": world.project, "markdown": "# How"}, 500)
    assert ann.get(f"projects/{world.project}")["guide_id"] == guide["id"]
    assert ann.send("PATCH", f"guides/{guide['id']}", {"markdown": "new"})["markdown"] == "new"


def test_webhooks_are_for_the_owner_of_the_project(world: World) -> None:
    body = {"target_url": "http://x", "type": "project", "project_id": world.project, "events": ["update:job"]}
    world.client(world.bob).send("POST", "webhooks", body, 403)
    ann = world.client(world.ann)
    hook = ann.send("POST", "webhooks", {**body, "secret": "s"}, 201)
    assert "secret" not in hook
    assert [row["target_url"] for row in ann.rows("webhooks")] == ["http://x"]
    ann.ask("DELETE", f"webhooks/{hook['id']}", 204)


# --- failures -----------------------------------------------------------------------------------------------------


def test_every_call_is_in_the_log(world: World) -> None:
    world.client(world.ann).get("jobs", task_id=world.task)
    world.client(world.ann).get("jobs/1", 404)
    assert [(c.number, c.method, c.path, c.query, c.status, c.user) for c in world.fake.calls] == [
        (1, "GET", "/api/jobs", {"task_id": str(world.task)}, 200, "ann"),
        (2, "GET", "/api/jobs/1", {}, 404, "ann"),
    ]


@pytest.mark.parametrize(
    ("how", "status", "stored"), [("500", 500, 0), ("504-after", 504, 1), ("429", 429, 0), ("503", 503, 0)]
)
def test_a_call_is_failed_with_a_status(world: World, how: str, status: int, stored: int) -> None:
    ann = world.client(world.ann)
    world.fake.fail(2, how)
    ann.get("jobs")
    world.patch("create", world.box(), status=status)
    assert len(world.fake.shapes(world.first)) == stored
    world.patch("create", world.box())


@pytest.mark.parametrize(
    ("how", "error", "stored"),
    [
        ("reset-before", requests.ConnectionError, 0),
        ("reset-after", requests.ConnectionError, 1),
        ("timeout-before", requests.ReadTimeout, 0),
        ("timeout-after", requests.ReadTimeout, 1),
    ],
)
def test_a_call_gets_no_answer(world: World, how: str, error: type[Exception], stored: int) -> None:
    world.fake.fail(1, how)
    body = {"shapes": [world.box()]}
    path = f"jobs/{world.first}/annotations"
    with pytest.raises(error):
        world.client(world.ann).ask("PATCH", path, params={"action": "create"}, json=body, timeout=0.3)
    assert len(world.fake.shapes(world.first)) == stored
    assert (world.fake.calls[0].status, world.fake.calls[0].applied) == (0, bool(stored))


def test_a_test_changes_the_state_between_two_calls(world: World) -> None:
    def rename(call: Call) -> None:
        if call.number == 2:
            world.fake.label("cat").name = "lion"

    world.fake.on_call = rename
    ann = world.client(world.ann)
    names = [[row["name"] for row in ann.rows("labels", task_id=world.task, sort="id")] for _ in range(2)]
    assert names == [["cat", "dog"], ["lion", "dog"]]


def test_calls_at_the_same_time_lose_nothing(world: World) -> None:
    threads = [threading.Thread(target=world.patch, args=("create", world.box())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({row["id"] for row in world.fake.shapes(world.first)}) == 8
    assert [call.number for call in world.fake.calls] == list(range(1, 9))
