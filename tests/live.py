"""A real Label Studio for tests, loaded as a plugin by ``conftest.py``.

One server serves the whole session. Every test that asks for it is marked ``live`` and put into one xdist group, so
that with ``--dist loadgroup`` one worker runs them all and one server is enough.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bridge.demo.label_studio_server import LabelStudioServer, default_venv
from bridge.tools.label_studio_client import LabelStudioClient

CONFIG = """<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image">
    <Label value="cat" background="#d62728"/>
    <Label value="dog" background="#1f77b4"/>
  </RectangleLabels>
  <Choices name="state" toName="image" perRegion="true"><Choice value="fine"/><Choice value="blurred"/></Choices>
</View>"""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "label_studio" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.live)
            item.add_marker(pytest.mark.xdist_group("label-studio"))


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudioServer]:
    """A Label Studio with an empty database, stopped and removed after the last test."""
    home = Path(os.environ.get("LABELBRIDGE_HOME") or "~/.labelbridge").expanduser()
    data = tmp_path_factory.mktemp("label-studio")
    with LabelStudioServer(default_venv(home), data, print) as server:
        yield server


@pytest.fixture
def ls_client(label_studio: LabelStudioServer) -> Iterator[LabelStudioClient]:
    client = LabelStudioClient(label_studio.url, label_studio.token)
    yield client
    client.close()


@dataclass
class Project:
    """A project of the test's own: ``id``, and its tasks' ids in order."""

    id: int
    tasks: list[int]
    images: Path


@dataclass
class Studio:
    """Makes projects with images, and acts as the people who work in them."""

    server: LabelStudioServer
    client: LabelStudioClient
    made: list[int] = field(default_factory=list)

    def project(self, sizes: Sequence[tuple[int, int]], config: str = CONFIG, title: str = "") -> Project:
        """One task for each ``(width, height)``, with a drawn image that Label Studio serves."""
        name = title or f"test {len(self.made)} {os.urandom(3).hex()}"
        fields = {"title": name, "label_config": config}
        project = int(self.client.create_project(fields)["id"])
        self.made.append(project)
        images = self.server.files_root / f"p{project}"
        images.mkdir(parents=True, exist_ok=True)
        storage = {"project": project, "path": str(images), "use_blob_urls": True, "title": "images"}
        self.client.call("POST", "/api/storages/localfiles", json=storage)
        tasks = []
        for index, (width, height) in enumerate(sizes):
            (images / f"photo {index}.png").write_bytes(picture(width, height))
            tasks.append({"data": {"image": f"/data/local-files/?d=p{project}/photo {index}.png"}})
        return Project(project, self.client.import_tasks(project, tasks), images)

    def annotate(self, task: int, result: list[Any], **fields: Any) -> dict[str, Any]:
        """What a person's Submit does."""
        answer = self.client.call("POST", f"/api/tasks/{task}/annotations/", json={"result": result, **fields}).json()
        assert isinstance(answer, dict)
        return answer


def picture(width: int, height: int) -> bytes:
    """A PNG with something to look at."""
    image = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def studio(label_studio: LabelStudioServer, ls_client: LabelStudioClient) -> Studio:
    return Studio(label_studio, ls_client)
