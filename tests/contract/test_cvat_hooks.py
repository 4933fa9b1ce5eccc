"""CVAT's webhooks, from setting them up to the hints they leave."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fakes.cvat_server import FakeCvat
from fakes.tool_memory import Remembered
from hook_kit import SECRET, Receiver, receiving
from PIL import Image
from typer.testing import CliRunner

from bridge.cli import app
from bridge.errors import AuthError, ConfigError, ToolError
from bridge.service.set_up import remove_hooks, settle_hooks
from bridge.store import Hint, Store
from bridge.tools.cvat import Cvat
from bridge.tools.cvat_client import CvatClient, Login
from bridge.tools.cvat_target import parse_target
from bridge.tools.hooks import HookAddress, host_warnings


class World:
    """A project with a task, a task outside, and the receiver of their webhooks."""

    def __init__(self, cvat: FakeCvat, receiver: Receiver, store: Store) -> None:
        self.cvat, self.receiver, self.store = cvat, receiver, store
        self.ann, self.bob = cvat.add_user("ann"), cvat.add_user("bob")
        self.project = cvat.add_project("pets", ["cat"], owner=self.ann)
        self.task = cvat.add_task("walk", [("a.png", png())], owner=self.ann, project=self.project)
        self.lone = cvat.add_task("alone", [("a.png", png())], owner=self.ann, labels=["cat"])
        (self.job,) = (job.id for job in cvat.jobs_of(self.task))
        self.hook = HookAddress(receiver.url, SECRET)

    def tool(self, target: str, user: int | None = None, organization: str = "") -> Cvat:
        login = Login(token=self.cvat.login_token(user or self.ann))
        client = CvatClient(self.cvat.url, login, organization=organization, sleep=lambda _: None)
        return Cvat(client, parse_target(target), Remembered())

    def hooks(self) -> list[dict[str, Any]]:
        return [hook.fields for hook in self.cvat.state.webhooks.values()]

    def hints(self) -> list[Hint]:
        """Those that came since the last look."""
        self.cvat.postman.wait()
        found = self.store.waiting_hints(100)
        self.store.take_hints([waiting.seq for waiting in found], "2026-11-29T12:00:00Z")
        return [waiting.hint for waiting in found]

    @property
    def places(self) -> tuple[str, ...]:
        return (f"cvat:job/{self.job}", f"cvat:task/{self.task}", f"cvat:project/{self.project}")

    def draw(self, job: int | None = None) -> None:
        label = next(iter(self.cvat.state.labels)) if job is None else self.cvat.label("cat", task=self.lone).id
        self.cvat.annotate(job or self.job, type="rectangle", frame=0, label_id=label, points=[1, 1, 9, 9])


def png() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (32, 24)).save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with (
        FakeCvat() as cvat,
        Store.open(f"sqlite:///{tmp_path}/labelbridge.db") as store,
        receiving(store, now=lambda: datetime.now(UTC)) as receiver,
    ):
        yield World(cvat, receiver, store)


def test_what_people_do_becomes_hints(world: World) -> None:
    tool = world.tool(f"cvat:project/{world.project}")
    assert settle_hooks(tool, world.hook) == ()
    world.draw()
    assert [(h.event, h.places) for h in world.hints()] == [
        ("update:task", world.places[1:]),
        ("update:job", world.places),
    ]
    issue = tool.client.create_issue(world.job, 0, [1, 1, 9, 9], "look")["id"]
    (made, said) = world.hints()
    assert (made.event, made.places) == ("create:issue", (world.places[0], world.places[2]))
    assert (said.event, said.places) == ("create:comment", world.places[2:])
    tool.client.create_comment(issue, "accept")
    tool.client.call("PATCH", f"/api/issues/{issue}", json={"resolved": True})
    assert [h.event for h in world.hints()] == ["create:comment", "update:issue"]
    assert {delivery.status for delivery in world.cvat.postman.sent} == {200}
    world.draw(world.cvat.jobs_of(world.lone)[0].id)
    assert world.hints() == [], "another task's"


def test_a_redelivery_and_a_forgery(world: World) -> None:
    settle_hooks(world.tool(f"cvat:project/{world.project}"), world.hook)
    world.draw()
    assert len(world.hints()) == 2
    delivery = world.cvat.postman.sent[0]
    assert world.cvat.postman.again(delivery) == 200
    assert (world.receiver.counted("cvat", "duplicate"), world.hints()) == (1, [])
    (hook,) = world.hooks()
    hook["secret"] = "somebody-else-s-secret"
    world.draw()
    assert world.hints() == []
    assert world.receiver.counted("cvat", "forged") == 2


def test_one_webhook_brought_up_to_date(world: World) -> None:
    tool = world.tool(f"cvat:task/{world.task}")
    settle_hooks(tool, HookAddress("http://127.0.0.1:9", "the-secret-of-before"))
    (old,) = world.cvat.state.webhooks
    world.cvat.state.webhooks[77] = type(world.cvat.state.webhooks[old])(
        77, world.ann, dict(world.hooks()[0]), "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"
    )
    foreign = {"target_url": "http://other.example/hook", "type": "project", "project_id": world.project}
    tool.client.call("POST", "/api/webhooks", json={**foreign, "events": ["update:job"]})
    settle_hooks(world.tool(f"cvat:job/{world.job}"), world.hook)
    ours = [h for h in world.hooks() if h["description"] == "labelbridge"]
    assert [(h["target_url"], h["secret"], h["project_id"]) for h in ours] == [
        (f"{world.receiver.url}/hooks/cvat?place=cvat:project/{world.project}", SECRET, world.project)
    ]
    assert remove_hooks(tool) == 1
    assert remove_hooks(tool) == 0
    assert [h["target_url"] for h in world.hooks()] == ["http://other.example/hook"]


def test_a_task_in_no_project(world: World) -> None:
    with pytest.raises(ToolError, match=r"in no project and no organization.*found by polling"):
        settle_hooks(world.tool(f"cvat:task/{world.lone}"), world.hook)
    org = world.cvat.add_organization("zoo", world.ann)
    task = world.cvat.add_task("herd", [("a.png", png())], owner=world.ann, labels=["cow"], org=org)
    assert settle_hooks(world.tool(f"cvat:task/{task}", organization="zoo"), world.hook) == ()
    assert [(h["type"], h["organization"]) for h in world.hooks()] == [("organization", org)]
    tool = world.tool(f"cvat:task/{task}", organization="zoo")
    tool.client.call("PATCH", f"/api/tasks/{task}", json={"name": "flock"})
    assert [h.places for h in world.hints()] == [(f"cvat:task/{task}",)]
    assert remove_hooks(tool) == 1


def test_who_may_not_is_told_who_may(world: World) -> None:
    world.cvat.state.jobs[world.job].assignee = world.bob
    with pytest.raises(AuthError, match=r"owner of the project.*found by polling"):
        settle_hooks(world.tool(f"cvat:project/{world.project}", world.bob), world.hook)
    assert world.hooks() == []


def test_an_address_of_this_machine_for_a_server_elsewhere() -> None:
    (warning,) = host_warnings("CVAT", "https://cvat.example.org", "http://localhost:9095/hooks/cvat")
    assert "this machine only" in warning
    assert list(host_warnings("CVAT", "http://127.0.0.1:8080", "http://localhost:9095/hooks/cvat")) == []


def test_the_command(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "HOME": str(tmp_path),
        "CVAT_URL": world.cvat.url,
        "CVAT_TOKEN": world.cvat.login_token(world.ann),
        "HOOKS_URL": world.receiver.url,
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"LABELBRIDGE_{name}", value)
    monkeypatch.chdir(tmp_path)
    target = f"cvat:project/{world.project}"
    refused = CliRunner().invoke(app, ["connect", target])
    assert isinstance(refused.exception, ConfigError)
    assert "LABELBRIDGE_HOOKS_SECRET is not set" in str(refused.exception)
    monkeypatch.setenv("LABELBRIDGE_HOOKS_SECRET", SECRET)
    done = CliRunner().invoke(app, ["connect", target, "--json"])
    assert json.loads(done.stdout) == {"warnings": [], "webhook": True}
    world.draw()
    assert len(world.hints()) == 2
    gone = CliRunner().invoke(app, ["connect", target, "--remove", "--json"])
    assert json.loads(gone.stdout) == {"disconnected": 0, "webhooks": 1}
    assert world.hooks() == []
