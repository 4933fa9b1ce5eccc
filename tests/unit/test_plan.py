"""The settings file as a whole: what holds for which project, and that every problem is told with its place."""

from __future__ import annotations

from datetime import time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from bridge.core.findings import ErrorType
from bridge.core.policy import Policy, PushPolicy, QuietHours, ScorePolicy
from bridge.errors import ConfigError
from bridge.plan import Plan, load_plan
from bridge.plan_sections import SECTIONS, ProjectSection
from bridge.settings import Settings
from bridge.tools.cvat_review_plan import ReviewMode, ReviewPlan
from bridge.wiring import SourceOptions

ENVIRON = {
    "LABELBRIDGE_LABEL_STUDIO_URL": "http://labels.example.org",
    "LABELBRIDGE_LABEL_STUDIO_API_KEY": "a-token",
    "LABELBRIDGE_CVAT_URL": "http://cvat.example.org",
    "LABELBRIDGE_CVAT_TOKEN": "a-token",
    "LABELBRIDGE_HOME": "/nowhere",
}
NOTHING = Policy()


def plan(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Plan:
    path = tmp_path / "labelbridge.yaml"
    path.write_text(text)
    return load_plan(path, ENVIRON if environ is None else environ)


def problems(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        plan(tmp_path, text, environ)
    return [
        line.strip().replace(f" ({tmp_path / 'labelbridge.yaml'})", "") for line in caught.value.found.splitlines()[1:]
    ]


def test_a_file_without_projects_is_one(tmp_path: Path) -> None:
    found = plan(tmp_path, "page_size: 3\n")
    assert found == Plan(Settings.load(environ={**ENVIRON, "LABELBRIDGE_PAGE_SIZE": "3"}), {})


def test_a_project_of_which_nothing_is_said_does_nothing(tmp_path: Path) -> None:
    (project,) = plan(tmp_path, "projects:\n  ls:project/7:\n").projects.values()
    assert (project.target, project.policy, project.review) == ("ls:project/7", NOTHING, ReviewPlan())
    assert project.model == project.source == SourceOptions(detector="embedded", label_map={})


def test_everything_that_can_be_said(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    weights.touch()
    found = plan(
        tmp_path,
        f"""
min_score: 0.4
projects:
  cvat:project/3?state=completed:
    prelabel: on
    score:
      settle: 1h30m
      at_least: 5
      at_latest: 0.5d
    push:
      min_score: 0.7
      errors: [missing, extra]
      reviewer: others
      open_per_reviewer: 200
      quiet: 22:00-7:00 Europe/Berlin
      dry_run: on
      mode: task
      assign_to: rita
      hand_over: off
    sync: 2m
    model:
      detector: fasterrcnn_resnet50_fpn_v2
      weights: {weights}
      classes: cat, dog
      threshold: 0.25
      label_map: {{cat: Cat, dog: Hund}}
""",
    )
    (project,) = found.projects.values()
    assert project.policy == Policy(
        prelabel=True,
        score=ScorePolicy(5400, 5, 43200),
        push=PushPolicy(
            min_score=0.7,
            errors=(ErrorType.MISSING, ErrorType.EXTRA),
            reviewer="others",
            open_per_reviewer=200,
            quiet=QuietHours(time(22), time(7), ZoneInfo("Europe/Berlin")),
            dry_run=True,
        ),
        sync_every_s=120,
    )
    assert project.review == ReviewPlan(ReviewMode.TASK, "rita", hand_over=False)
    assert project.model == SourceOptions(
        detector="fasterrcnn_resnet50_fpn_v2",
        weights=weights,
        classes=("cat", "dog"),
        threshold=0.25,
        label_map={"cat": "Cat", "dog": "Hund"},
    )


def test_a_project_is_laid_over_the_defaults_field_by_field(tmp_path: Path) -> None:
    found = plan(
        tmp_path,
        """
min_score: 0.4
defaults:
  prelabel: on
  score: {settle: 45s, at_least: 3}
  push: {dry_run: on, open_per_reviewer: 9, quiet: 22:00-07:00 UTC}
  sync: on
  model: {detector: big.onnx+grabcut, threshold: 0.2, label_map: a=b}
projects:
  ls:project/1: {}
  ls:project/2:
    score: {at_least: 50}
    push: {open_per_reviewer: off, quiet: off, min_score: 0.9}
    model: {label_map: {c: d}}
    sync: 1h
  ls:project/3: {prelabel: off, score: off, push: off, sync: off}
  ls:project/4: {score: on, push: on}
""",
    )
    first, second, third, fourth = (p.policy for p in found.projects.values())
    night = QuietHours(time(22), time(7), ZoneInfo("UTC"))
    common = PushPolicy(min_score=0.4, dry_run=True, open_per_reviewer=9, quiet=night)
    assert first == fourth == Policy(True, ScorePolicy(settle_s=45, at_least=3), common, 600)
    assert second == Policy(True, ScorePolicy(45, 50), PushPolicy(min_score=0.9, dry_run=True), 3600)
    assert third == NOTHING
    assert found.projects["ls:project/2"].model == SourceOptions(
        "big.onnx+grabcut", threshold=0.2, label_map={"c": "d"}
    )
    assert found.projects["ls:project/1"].model.label_map == {"a": "b"}


def test_reviewers_that_a_tool_cannot_see_to(tmp_path: Path) -> None:
    told = problems(
        tmp_path,
        """
defaults: {push: {reviewer: others}}
projects:
  ls:project/1:
  ls:project/2: {push: {reviewer: annotator}}
  ls:project/3: {push: {reviewer: anyone}}
  ls:project/4: {push: off}
  cvat:task/5:
  cvat:task/6: {push: {assign_to: "mia,zoe"}}
  cvat:task/7: {push: {reviewer: annotator}}
""",
    )
    assert [line.partition(":")[2].partition(" > push")[0] for line in told] == [
        "project/1",
        "project/2",
        "task/5",
    ]
    assert "expected anyone, as Label Studio's Community edition assigns nobody, found 'others'" in told[0]
    assert "expected assign_to beside it" in told[2]


def test_what_work_is_held_against(tmp_path: Path) -> None:
    found = plan(
        tmp_path,
        """
defaults: {score: {against: stored}, model: {detector: embedded, threshold: 0.1}}
projects:
  ls:project/1:
  ls:project/2: {score: {stored_model: parts-1}}
  ls:project/3: {score: {against: cross_fit}}
  cvat:task/4: {score: {against: model}}
""",
    )
    assert [project.source for project in found.projects.values()] == [
        SourceOptions(),
        SourceOptions(model="parts-1"),
        SourceOptions(threshold=0.1, label_map={}, cross_fit=True),
        SourceOptions("embedded", threshold=0.1, label_map={}),
    ]


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    told = problems(
        tmp_path,
        """
page_sise: 3
label_studio_api_key: a-secret
defaults:
  score: {settle: 45, at_last: 15m}
  push: {reviewer: nobody, errors: [missing, blurred], min_score: high}
projects:
  ls:project/7:
    pre_label: on
    score: {at_least: 0, settle: soon}
    push: {quiet: 22:00-22:00 UTC, open_per_reviewer: yes, mode: task}
    model: {weights: not/there.pth, label_map: car}
  ls:project/08:
  coco:annotations.json:
  cvat:task/1?stage=done: {score: nightly, sync: 0s, prelabel: perhaps}
  cvat:task/2: {score: {against: stored}}
  ls:project/9: {score: {stored_model: x}, push: {hand_over: on}}
  ls:project/10: 3
""",
        {**ENVIRON, "LABELBRIDGE_CVAT_TOKEN": ""},
    )
    a_target = "expected a target such as ls:project/7 or cvat:project/3"
    assert told[:5] == [
        "page_sise: there is no such setting; did you mean page_size?",
        "label_studio_api_key: expected no secret in this file: set LABELBRIDGE_LABEL_STUDIO_API_KEY, or "
        "LABELBRIDGE_LABEL_STUDIO_API_KEY_FILE to the path of a file that holds it",
        "defaults > score > settle: expected a duration with its unit, as in 45s, 15m or 2h, found 45",
        "defaults > score > at_last: there is no such key; did you mean at_least?",
        "defaults > push > min_score: expected a valid number, found 'high'",
    ]
    assert told[5].startswith("defaults > push > errors > 1: expected 'missing', 'extra'")
    assert told[6:] == [
        "defaults > push > reviewer: expected 'others', 'annotator' or 'anyone', found 'nobody'",
        "projects > ls:project/7 > score > settle: "
        "expected a duration with its unit, as in 45s, 15m or 2h, found 'soon'",
        "projects > ls:project/7 > score > at_least: expected a number greater than or equal to 1, found 0",
        "projects > ls:project/7 > push > open_per_reviewer: expected a valid integer, found True",
        "projects > ls:project/7 > push > quiet: the quiet hours begin and end at 22:00, "
        "expected two different times of the day, found '22:00-22:00 UTC'",
        "projects > ls:project/7 > model > weights: expected the path of a file that is there, found 'not/there.pth'",
        "projects > ls:project/7 > model > label_map: the label map has the entry 'car', "
        "expected model class = project label, as in car=vehicle,person=human, found 'car'",
        "projects > ls:project/7 > pre_label: there is no such key; did you mean prelabel?",
        f"projects > ls:project/08: it is no project that is worked in, {a_target}",
        f"projects > coco:annotations.json: it is no project that is worked in, {a_target}",
        "projects > cvat:task/1?stage=done > prelabel: expected on or off, found 'perhaps'",
        "projects > cvat:task/1?stage=done > score: expected on, off or indented lines, found 'nightly'",
        "projects > cvat:task/1?stage=done > sync: expected a second or more, or off, found '0s'",
        "projects > cvat:task/1?stage=done: no job of CVAT has the stage 'done', "
        "expected one of annotation, validation, acceptance",
        "projects > cvat:task/2 > score > against: "
        "expected model or cross_fit, as CVAT keeps no predictions, found 'stored'",
        "projects > ls:project/9 > score > stored_model: expected against: stored beside it, found 'model'",
        "projects > ls:project/9 > push > hand_over: expected it for targets in CVAT only",
        "projects > ls:project/10: expected indented lines, found a number",
        "cvat_token: expected LABELBRIDGE_CVAT_TOKEN to be set, as there are projects in CVAT, found nothing",
    ]


@pytest.mark.parametrize("text", ["", "s", "5", "-5m", "5 minutes", "m5", "5m x", "1e3s", "400d"])
def test_a_duration_that_is_none(text: str, tmp_path: Path) -> None:
    (line,) = problems(tmp_path, f"defaults: {{score: {{settle: '{text}'}}}}")
    assert line.startswith("defaults > score > settle: expected a ")


@pytest.mark.parametrize(
    "text",
    ["22:00-07:00", "22-7 UTC", "24:00-07:00 UTC", "22:00-07:60 UTC", "22:00-07:00 Mars/Olympus", "22:00-07:00 ../x"],
)
def test_quiet_hours_that_are_none(text: str, tmp_path: Path) -> None:
    (line,) = problems(tmp_path, f"defaults: {{push: {{quiet: '{text}'}}}}")
    assert line.startswith("defaults > push > quiet: expected hours ")


@pytest.mark.parametrize(
    ("text", "found"), [("projects: 3", "number"), ("projects: [a]", "list"), ("defaults: x", "text")]
)
def test_a_section_of_another_kind(text: str, found: str, tmp_path: Path) -> None:
    (line,) = problems(tmp_path, text)
    assert line.endswith(f": expected indented lines, found a {found}")


def test_the_tools_of_the_projects_are_set_up(tmp_path: Path) -> None:
    text = "projects: {'ls:project/1': {}, 'ls:project/2': {}, 'cvat:job/3': {}}"
    assert problems(tmp_path, text, {"LABELBRIDGE_CVAT_USER": "ann"}) == [
        f"{name}: expected LABELBRIDGE_{name.upper()} to be set, as there are projects in {tool}, found nothing"
        for name, tool in (
            ("label_studio_url", "Label Studio"),
            ("label_studio_api_key", "Label Studio"),
            ("cvat_url", "CVAT"),
            ("cvat_password", "CVAT"),
        )
    ]


def test_no_project_is_there_twice(tmp_path: Path) -> None:
    (line,) = problems(tmp_path, "projects:\n  ls:project/1: {}\n  ls:project/1: {prelabel: on}\n")
    assert line.endswith("is not valid YAML in line 3: the key ls:project/1 is there twice")


def test_the_documentation_knows_every_key_and_its_example_holds(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "service.md").read_text(encoding="utf-8")
    example = text.split("```yaml\n")[1].split("```")[0]
    assert list(plan(tmp_path, example).projects) == ["ls:project/7", "ls:project/8", "ls:project/9"]
    nested = {f"{name} > {key}" for name, section in SECTIONS.items() for key in section.model_fields}
    keys = (set(ProjectSection.model_fields) | nested) - {"model"}
    assert {key for key in keys if f"`{key}`" not in text} == set()
