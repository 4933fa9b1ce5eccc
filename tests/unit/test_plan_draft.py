"""The first settings file: what it proposes, that any name can stand in it, and how it is written."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from fakes.colour_detector import ColourDetector

from bridge.core.label_map import alike_labels
from bridge.core.policy import Policy, PushPolicy, ScorePolicy
from bridge.errors import ConfigError
from bridge.plan import ProjectPlan, load_plan
from bridge.plan_draft import draft, earlier_settings, find_projects, propose, write_new
from bridge.tools.cvat_review_plan import ReviewPlan
from bridge.tools.project_list import ListedProject
from bridge.wiring import SourceOptions

ENVIRON = {
    "LABELBRIDGE_LABEL_STUDIO_URL": "http://labels.example.org",
    "LABELBRIDGE_LABEL_STUDIO_API_KEY": "a-token",
    "LABELBRIDGE_CVAT_URL": "http://cvat.example.org",
    "LABELBRIDGE_CVAT_TOKEN": "a-token",
}
DEFAULTS = Policy(prelabel=True, score=ScorePolicy(), push=PushPolicy(dry_run=True), sync_every_s=600)
MODEL = SourceOptions("embedded", label_map={})


def drafted(tmp_path: Path, *found: ListedProject) -> dict[str, ProjectPlan]:
    """What the file says that is drafted for these projects, read back without what it was drafted with."""
    path = tmp_path / "labelbridge.yaml"
    settings, kept = earlier_settings(path, ENVIRON)
    write_new(path, draft(settings, kept, "embedded", [propose(p, ColourDetector()) for p in found]), replace=True)
    secrets = {name: value for name, value in ENVIRON.items() if not name.endswith("_URL")}
    plan = load_plan(path, secrets)
    assert plan.settings == settings
    return dict(plan.projects)


def test_a_project_whose_labels_the_model_knows(tmp_path: Path) -> None:
    found = drafted(tmp_path, ListedProject("ls:project/7", "Pets", ("cat", "Dog", "bird")))
    target = "ls:project/7"
    assert found == {target: ProjectPlan(target, DEFAULTS, MODEL, MODEL, ReviewPlan())}
    assert "    # labels that the model cannot suggest: bird\n" in (tmp_path / "labelbridge.yaml").read_text()


def test_a_label_map_is_proposed(tmp_path: Path) -> None:
    found = drafted(tmp_path, ListedProject("cvat:project/7", "Pets", ("CAT!", "bird")))
    assert found["cvat:project/7"].model.label_map == {"cat": "CAT!"}
    assert "    # classes of the model without a label here: dog\n" in (tmp_path / "labelbridge.yaml").read_text()


def test_a_project_that_the_model_knows_nothing_of(tmp_path: Path) -> None:
    found = drafted(
        tmp_path,
        ListedProject("ls:project/1", "Nuts", ("nut",)),
        ListedProject("ls:project/2", "Animals in texts", ("cat",), is_text=True),
        ListedProject("cvat:task/3", "Nuts", ("nut",)),
        ListedProject("ls:project/4", "Sounds", problem="it shows no image"),
    )
    assert [project.policy.prelabel for project in found.values()] == [False] * 3
    assert [project.policy.score for project in found.values()] == [ScorePolicy(), ScorePolicy(), None]
    assert [project.source for project in found.values()][:2] == [SourceOptions()] * 2
    assert "  # ls:project/4 is left out: it shows no image\n" in (tmp_path / "labelbridge.yaml").read_text()


def test_no_name_breaks_the_file(tmp_path: Path) -> None:
    odd = (
        "a: b",
        "# c",
        "'",
        '"',
        "no",
        "1",
        "ä\u2028ö",
        "tab\tnew\nline",
        "{x}",
        "*y",
        "- z",
        "\U0001f431",
        "\x85",
        "=",
        "!",
    )
    classes = tuple(f"{name}-q" for name in odd)

    class Odd(ColourDetector):
        @property
        def classes(self) -> tuple[str, ...]:
            return classes

    path = tmp_path / "labelbridge.yaml"
    settings, kept = earlier_settings(path, ENVIRON)
    found = [ListedProject(f"ls:project/{n + 1}", name, (f"{name}_Q", name)) for n, name in enumerate(odd)]
    proposals = [propose(project, Odd()) for project in found]
    write_new(path, draft(settings, kept, "big: #1.onnx", proposals), replace=False)
    plan = load_plan(path, ENVIRON)
    assert [dict(p.model.label_map or {}) for p in plan.projects.values()] == [dict(p.label_map) for p in proposals]
    assert {p.model.detector for p in plan.projects.values()} == {"big: #1.onnx"}
    assert sum(len(p.label_map) for p in proposals) >= len(odd) - 4


def test_two_hundred_projects(tmp_path: Path) -> None:
    found = [ListedProject(f"ls:project/{n}", f"Project {n}", ("cat", "dog")) for n in range(1, 201)]
    assert len(drafted(tmp_path, *found)) == 200
    assert drafted(tmp_path) == {}


def test_the_settings_of_an_earlier_file_stay(tmp_path: Path) -> None:
    path = tmp_path / "labelbridge.yaml"
    path.write_text("cvat_organization: lab\nmin_score: 0.7\nprojects: {'ls:project/1': {}}\n")
    found = drafted(tmp_path, ListedProject("ls:project/2", "Pets", ("cat",)))
    assert list(found) == ["ls:project/2"]
    assert found["ls:project/2"].policy.push == PushPolicy(min_score=0.7, dry_run=True)
    assert "min_score: 0.7\n" in path.read_text()


def test_classes_and_labels_that_are_alike() -> None:
    classes = ("hex_nut", "bolt", "washer", "pin", "--")
    labels = ("Hex Nut", "Bolt", "washer", "P-in", "pi n", "+")
    assert alike_labels(classes, labels) == {"hex_nut": "Hex Nut"}


def test_a_new_file_is_its_owners_and_takes_the_place_of_none(tmp_path: Path) -> None:
    path = tmp_path / "labelbridge.yaml"
    assert write_new(path, "page_size: 1\n", replace=False) is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(ConfigError, match="is there already"):
        write_new(path, "page_size: 2\n", replace=False)
    assert path.read_text() == "page_size: 1\n"
    path.chmod(0o644)
    old = write_new(path, "page_size: 3\n", replace=True)
    assert old == tmp_path / "labelbridge.yaml.old"
    assert (path.read_text(), old.read_text()) == ("page_size: 3\n", "page_size: 1\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["labelbridge.yaml", "labelbridge.yaml.old"]


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written: No such file or directory"):
        write_new(tmp_path / "absent" / "labelbridge.yaml", "", replace=False)


def test_a_tool_must_be_set_up(tmp_path: Path) -> None:
    settings, _ = earlier_settings(tmp_path / "absent.yaml", {})
    with pytest.raises(ConfigError, match="no tool is set up"):
        find_projects(settings)
    settings, _ = earlier_settings(tmp_path / "absent.yaml", {"LABELBRIDGE_CVAT_URL": "http://cvat.example.org"})
    with pytest.raises(ConfigError, match="CVAT's token is not set"):
        find_projects(settings)
