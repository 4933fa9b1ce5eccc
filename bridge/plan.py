"""The whole settings file: the settings, and for each project what is done by itself, with which model.

    defaults:                 # for every project that does not say otherwise
      score: {settle: 45s}
    projects:
      ls:project/7:
        prelabel: on

:mod:`bridge.plan_sections` has the words. A section is laid over the defaults field by field.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bridge.core.policy import Policy
from bridge.core.worth import Worth
from bridge.errors import UsageError
from bridge.flows.push import PushOptions
from bridge.plan_sections import SECTIONS, ProjectSection, ScoreSection
from bridge.settings import Settings
from bridge.settings_sources import PREFIX, ConfigFile, kind, nearest, read_config_file, refusal, short, wording
from bridge.tools.cvat_review_plan import ReviewPlan
from bridge.tools.cvat_target import parse_target
from bridge.wiring import SourceOptions

_LABEL_STUDIO = re.compile(r"ls:project/[1-9]\d{0,17}")
_FOR_CVAT = ("mode", "assign_to", "hand_over")


@dataclass(frozen=True, slots=True)
class ProjectPlan:
    """What is done by itself in one target.

    Attributes:
        model: the model that pre-labels.
        source: what scoring holds people's work against: that model, what the tool holds, or a training's predictions.
        review: how findings go to review, for a target in CVAT.
    """

    target: str
    policy: Policy
    model: SourceOptions
    source: SourceOptions
    review: ReviewPlan

    def push_options(self, worth: Worth) -> PushOptions | None:
        """Which findings go to review by themselves; None where none does."""
        push = self.policy.push
        if push is None:
            return None
        return PushOptions(
            min_score=push.min_score,
            errors=push.errors,
            worth=worth,
            reviewer=push.reviewer,
            open_per_reviewer=push.open_per_reviewer,
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """``projects`` by target, in the order of the file."""

    settings: Settings
    projects: Mapping[str, ProjectPlan]


def load_plan(config: Path | None, environ: Mapping[str, str] | None = None) -> Plan:
    """Read and check the settings file and everything else that settings come from.

    Args:
        config: the file, which must exist; None looks for one as :mod:`bridge.settings` says.
        environ: the environment; ``os.environ`` when None.

    Raises:
        ConfigError: anything is wrong, in settings or in projects; every problem is named, each on a line of its own.
    """
    environment = os.environ if environ is None else environ
    problems: list[str] = []
    file = read_config_file(config, environment, problems)
    settings = Settings.gather(file, environment, problems)
    sections = _read_sections(file, problems)
    if settings is not None:
        problems += _lacking(settings, sections)
    if problems or settings is None:
        raise refusal(problems)
    return Plan(settings, {target: _project(target, section, settings) for target, section in sections.items()})


def _read_sections(file: ConfigFile, problems: list[str]) -> dict[str, ProjectSection]:
    """What holds for each target, the defaults included."""
    reader = _Reader(file, problems)
    defaults = reader.section(file.data.get("defaults"), ("defaults",))
    sections = {}
    for target, data in reader.mapping(file.data.get("projects"), ("projects",)).items():
        path = ("projects", target)
        own = reader.section(data, path)
        try:
            is_cvat = _is_cvat(target)
        except UsageError as error:
            reader.tell(path, f"{error.found}, expected {error.expected}")
            continue
        sections[target] = own.over(defaults)
        for where, problem in _misfits(is_cvat, own, sections[target]):
            reader.tell((*path, *where), problem)
    return sections


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads sections, and notes what is wrong with the place where it stands."""

    file: ConfigFile
    problems: list[str]

    def tell(self, path: tuple[str, ...], problem: str) -> None:
        self.problems.append(f"{' > '.join(path)} ({self.file.path}): {problem}")

    def mapping(self, data: Any, path: tuple[str, ...]) -> dict[str, Any]:
        """By text keys, without what is left empty."""
        if data is None:
            return {}
        if not isinstance(data, dict):
            self.tell(path, f"expected indented lines, found a {kind(data)}")
            return {}
        return {str(key): value for key, value in data.items()}

    def section(self, data: Any, path: tuple[str, ...]) -> ProjectSection:
        """The section; one that says nothing where anything is wrong with it."""
        try:
            return ProjectSection.model_validate(_given(self.mapping(data, path)))
        except ValidationError as error:
            for problem in error.errors(include_url=False, include_context=False):
                where = tuple(map(str, problem["loc"]))
                if problem["type"] == "extra_forbidden":
                    holder = SECTIONS.get(where[-2], ProjectSection) if len(where) > 1 else ProjectSection
                    self.tell((*path, *where), f"there is no such key{nearest(tuple(holder.model_fields), where[-1])}")
                else:
                    self.tell((*path, *where), f"{wording(problem['msg'])}, found {short(problem['input'])}")
        return ProjectSection()


def _given(data: Any) -> Any:
    """Without what stands there empty, as in ``score:`` before lines that are commented out."""
    if not isinstance(data, dict):
        return data
    return {str(key): _given(value) for key, value in data.items() if value is not None}


def _is_cvat(target: str) -> bool:
    """Whether the target is in CVAT, else in Label Studio.

    Raises:
        UsageError: it is in neither; data sets in files have nobody who works on them.
    """
    if _LABEL_STUDIO.fullmatch(target):
        return False
    if target.startswith("cvat:"):
        parse_target(target)
        return True
    raise UsageError("it is no project that is worked in", expected="a target such as ls:project/7 or cvat:project/3")


def _misfits(is_cvat: bool, own: ProjectSection, section: ProjectSection) -> Iterator[tuple[tuple[str, str], str]]:
    """What cannot be done in such a target, and where that stands."""
    score = section.score or ScoreSection()
    if is_cvat and score.against == "stored":
        yield ("score", "against"), "expected model or cross_fit, as CVAT keeps no predictions, found 'stored'"
    if score.stored_model is not None and score.against != "stored":
        yield ("score", "stored_model"), f"expected against: stored beside it, found {score.against!r}"
    if own.push is not None and not is_cvat:
        for name in sorted(own.push.model_fields_set & set(_FOR_CVAT)):
            yield ("push", name), "expected it for targets in CVAT only"
    reviewer = section.push.reviewer if section.push else "anyone"
    if reviewer != "anyone" and not is_cvat:
        yield (
            ("push", "reviewer"),
            f"expected anyone, as Label Studio's Community edition assigns nobody, found {reviewer!r}",
        )
    if section.push and reviewer == "others" and is_cvat and not section.push.assign_to:
        yield ("push", "reviewer"), "expected assign_to beside it, with the users who review, found none"


def _lacking(settings: Settings, sections: Mapping[str, ProjectSection]) -> Iterator[str]:
    """Settings without which the tools of the projects cannot be reached."""
    needed: dict[str, str] = {}
    if any(not _is_cvat(target) for target in sections):
        needed |= dict.fromkeys(("label_studio_url", "label_studio_api_key"), "Label Studio")
    if any(map(_is_cvat, sections)):
        by_name = settings.cvat_user is not None and settings.cvat_token is None
        needed |= dict.fromkeys(("cvat_url", "cvat_password" if by_name else "cvat_token"), "CVAT")
    for name, tool in needed.items():
        if getattr(settings, name) is None:
            yield f"{name}: expected {PREFIX}{name.upper()} to be set, as there are projects in {tool}, found nothing"


def _project(target: str, section: ProjectSection, settings: Settings) -> ProjectPlan:
    score, push, model = section.score, section.push, section.model
    policy = Policy(
        prelabel=section.prelabel,
        score=score.policy if score else None,
        push=push.policy(settings.min_score) if push else None,
        sync_every_s=section.sync,
    )
    options = SourceOptions(
        detector=model.detector,
        weights=model.weights,
        classes=model.classes,
        threshold=model.threshold,
        label_map=model.label_map,
    )
    against = score.against if score else "model"
    sources = {
        "model": options,
        "stored": SourceOptions(model=score.stored_model if score else None),
        "cross_fit": SourceOptions(threshold=model.threshold, label_map=model.label_map, cross_fit=True),
    }
    return ProjectPlan(target, policy, options, sources[against], push.review if push else ReviewPlan())
