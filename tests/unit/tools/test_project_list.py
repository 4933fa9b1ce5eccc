"""What could be a target, as CVAT and Label Studio list it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes.canned_server import CannedServer
from fakes.cvat_server import FakeCvat
from fakes.tool_memory import Remembered
from test_label_studio_client import LEGACY, answer, client_of

from bridge.core.annotations import LabelSet
from bridge.tools.cvat import Cvat
from bridge.tools.cvat_client import CvatClient, Login
from bridge.tools.cvat_review_plan import ReviewMode, ReviewPlan
from bridge.tools.cvat_target import parse_target
from bridge.tools.project_list import ListedProject, cvat_projects, label_studio_projects

CATS = '<View><Image name="i" value="$i"/><Labels name="l" toName="i"><Label value="cat"/></Labels></View>'
TEXT = '<View><Text name="t" value="$t"/><Labels name="l" toName="t"><Label value="name"/></Labels></View>'


@pytest.fixture
def cvat() -> Iterator[FakeCvat]:
    with FakeCvat() as server:
        server.add_user("mia", "secret", is_superuser=True)
        yield server


def login(server: FakeCvat) -> CvatClient:
    return CvatClient(server.url, Login(user="mia", password="secret"))


def test_projects_and_lone_tasks_of_cvat(cvat: FakeCvat) -> None:
    pets = cvat.add_project("Pets", ["cat", "dog"], owner=1)
    cvat.add_task("of the pets", [], owner=1, project=pets)
    bare = cvat.add_project("Bare", [], owner=1)
    lone = cvat.add_task("Nuts", [], owner=1, labels=["nut"])
    assert list(cvat_projects(login(cvat))) == [
        ListedProject(f"cvat:project/{pets}", "Pets", ("cat", "dog")),
        ListedProject(f"cvat:project/{bare}", "Bare"),
        ListedProject(f"cvat:task/{lone}", "Nuts", ("nut",)),
    ]


def test_a_review_project_of_cvat_is_no_target_whatever_it_is_called(cvat: FakeCvat) -> None:
    pets = cvat.add_project("Pets", ["cat"], owner=1)
    client, target = login(cvat), parse_target(f"cvat:project/{pets}")
    tool = Cvat(client, target, Remembered(), ReviewPlan(ReviewMode.TASK))
    review = tool.open_review(LabelSet(("cat",)), "Review: Pets")
    client.row("PATCH", f"/api/projects/{review.ref}", json={"name": "Renamed", "bug_tracker": ""})
    assert [project.title for project in cvat_projects(client)] == ["Pets"]


def test_two_hundred_projects_of_cvat(cvat: FakeCvat) -> None:
    for number in range(200):
        cvat.add_project(f"Project {number}", [f"label {n}" for n in range(4)], owner=1)
    client = login(cvat)
    found = list(cvat_projects(client))
    assert len(found) == 200
    assert all(project.labels == ("label 0", "label 1", "label 2", "label 3") for project in found)
    assert client.requests_made == 5  # one to log in, two pages of labels, one of projects, one of tasks


def test_projects_of_label_studio() -> None:
    rows = [
        {"id": 1, "title": "Cats", "description": None, "label_config": CATS},
        {"id": 2, "title": "Names", "description": "", "label_config": TEXT},
        {"id": 3, "title": "Review", "description": "labelbridge-review-of: ls:project/1 of", "label_config": CATS},
        {"id": 4, "title": "New", "description": "", "label_config": "<View></View>"},
    ]
    server = CannedServer()
    server.on("/api/projects/", answer({"results": rows, "next": None}))
    cats, names, new = label_studio_projects(client_of(server, LEGACY))
    server.close()
    assert cats == ListedProject("ls:project/1", "Cats", ("cat",))
    assert names == ListedProject("ls:project/2", "Names", ("name",), is_text=True)
    assert (new.target, new.labels) == ("ls:project/4", ())
    assert "shows no image" in new.problem
