"""What the end-to-end tests of mishaps share: drawn pictures, a project with known errors, and the real command."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fakes import colour_detector
from fakes.pictures import CAT, DOG, ELSEWHERE, HEIGHT, LOOSE_CAT, TRUTH, WIDTH, Objects, draw
from live import CONFIG, Project, Studio
from PIL import Image

from bridge.dialects.label_studio import box_region, parse_label_config
from bridge.settings import secret_settings
from bridge.store import Store
from bridge.tools.label_studio_client import LabelStudioClient

#: What the command runs from is what is tested, wherever the installed package points.
CHECKOUT = Path(__file__).resolve().parents[2]

#: What was submitted for each picture, all of which show TRUTH; None: nobody has submitted anything.
SUBMITTED: tuple[Objects | None, ...] = (
    (("cat", CAT),),  # the dog is missing
    (("dog", CAT), ("dog", DOG)),  # the cat has the wrong class
    (*TRUTH, ("cat", ELSEWHERE)),  # there is an extra cat
    (("cat", LOOSE_CAT), ("dog", DOG)),  # the cat's box is too large
    TRUTH,
    (("dog", DOG), ("dog", ELSEWHERE)),  # the cat is missing, and there is an extra dog
    None,
)
ERRORS = ["extra", "extra", "imprecise", "missing", "missing", "wrong_class"]


def regions(objects: Objects, width: int = WIDTH, height: int = HEIGHT) -> list[dict[str, Any]]:
    """Objects as the regions of a Label Studio annotation."""
    control = parse_label_config(CONFIG).control_for("rectanglelabels")
    assert control
    return [box_region(f"r{k}", control, label, box, width, height) for k, (label, box) in enumerate(objects)]


@dataclass
class Done:
    """A command that has ended. ``error`` is what it wrote to standard error."""

    status: int
    output: str
    error: str

    @property
    def json(self) -> Any:
        return json.loads(self.output)

    @property
    def text(self) -> str:
        return f"status {self.status}\n{self.output}\n{self.error}"


@dataclass
class Command:
    """The real command, in processes of its own, with ``home`` as its data folder and nothing set but ``settings``.

    ``plugins`` goes into ``PYTHONPATH``, before this checkout.
    """

    home: Path
    settings: dict[str, str] = field(default_factory=dict)
    plugins: str = ""

    def start(self, *words: str, **settings: str) -> subprocess.Popen[str]:
        self.home.mkdir(parents=True, exist_ok=True)
        others = {k: v for k, v in os.environ.items() if not k.startswith("LABELBRIDGE_")}
        mine = {f"LABELBRIDGE_{k.upper()}": v for k, v in {**self.settings, **settings}.items() if v}
        return subprocess.Popen(
            [sys.executable, "-m", "bridge", *words],
            env={**others, **mine, "PYTHONPATH": f"{self.plugins}:{CHECKOUT}", "LABELBRIDGE_HOME": str(self.home)},
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell that runs the tests in the background lets its children ignore Ctrl-C.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *words: str, **settings: str) -> Done:
        done = finish(self.start(*words, **settings))
        self.check_secrets(done, {**self.settings, **settings})
        return done

    def check_secrets(self, done: Done, settings: dict[str, str]) -> None:
        """Neither what was printed nor any file of the data folder, killed journeys' included, holds a secret."""
        secrets = [settings[name].encode() for name in secret_settings() if settings.get(name) and name != "store_url"]
        files = [path.read_bytes() for path in self.home.rglob("*") if path.is_file()] if secrets else []
        for secret in secrets:
            assert not any(secret in said for said in (done.text.encode(), *files))

    def ok(self, *words: str, **settings: str) -> Any:
        """Run it with ``--json``; it must succeed. Answers with its JSON."""
        done = self.run(*words, "--json", **settings)
        assert done.status == 0, done.text
        return done.json

    def findings(self, target: str) -> dict[str, dict[str, Any]]:
        """The latest run's, by id."""
        return {f["id"]: f for f in self.ok("findings", target, "--limit", "5000")}

    @property
    def unfinished(self) -> list[str]:
        """What journeys have left in the data folder."""
        folder = self.home / "workflows"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def check_log(self) -> None:
        """The audit log is whole."""
        with Store.open(f"sqlite:///{self.home}/labelbridge.db") as store:
            assert store.verify_events() == []


def finish(process: subprocess.Popen[str]) -> Done:
    try:
        output, error = process.communicate(timeout=180)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return Done(process.returncode, output, error)


@dataclass
class World:
    """A project of pictures, and the command set up for it with the colour detector as its model."""

    studio: Studio
    project: Project
    command: Command

    @property
    def target(self) -> str:
        return f"ls:project/{self.project.id}"

    @property
    def client(self) -> LabelStudioClient:
        return self.studio.client

    def task(self, task: int) -> dict[str, Any]:
        answer = self.client.call("GET", f"/api/tasks/{task}/").json()
        assert isinstance(answer, dict)
        return answer

    def predict(self, *tasks: int, objects: Objects = TRUTH) -> None:
        """Store the detector's predictions in the project, as a prelabel did earlier."""
        self.client.import_predictions(
            self.project.id,
            [
                {"task": t, "model_version": colour_detector.NAME, "score": 0.95, "result": regions(objects)}
                for t in tasks or self.project.tasks
            ],
        )

    def review_tasks(self, review: int | str) -> list[dict[str, Any]]:
        return self.client.tasks(int(review), limit=500, everything=True).tasks

    def answer(self, task: dict[str, Any], verdict: str) -> None:
        """A reviewer submits a verdict on an open review task."""
        result = copy.deepcopy(task["predictions"][0]["result"])
        choice = {"id": "v1", "from_name": "verdict", "to_name": "image", "type": "choices", "origin": "manual"}
        self.studio.annotate(task["id"], [*result, {**choice, "value": {"choices": [verdict]}}])

    def annotations(self) -> dict[int, list[Any]]:
        """The regions of every annotation of the project, by its id."""
        tasks = self.client.tasks(self.project.id, limit=500, everything=True).tasks
        return {a["id"]: a["result"] for t in tasks for a in t["annotations"]}


def make_world(studio: Studio, folder: Path, submitted: Sequence[Objects | None] = SUBMITTED) -> World:
    """A project in which people have submitted this, and a command for it."""
    project = studio.project([(WIDTH, HEIGHT)] * len(submitted))
    for index, (task, objects) in enumerate(zip(project.tasks, submitted, strict=True)):
        Image.fromarray(draw(backdrop=index)).save(project.images / f"photo {index}.png")
        if objects is not None:
            studio.annotate(task, regions(objects))
    settings = {"label_studio_url": studio.server.url, "label_studio_api_key": studio.server.token}
    command = Command(folder / "home", settings, colour_detector.offer(folder / "plugin"))
    return World(studio, project, command)
