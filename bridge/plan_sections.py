"""The words of the settings file for what is done by itself: one section for each project, and one for all of them.

A section may leave anything out; :meth:`Section.over` lays one over another, field by field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import time
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict

from bridge.core.findings import ErrorType
from bridge.core.policy import PushPolicy, QuietHours, ScorePolicy
from bridge.dialects.label_map_file import read_label_map
from bridge.errors import ConfigError
from bridge.settings_values import listed
from bridge.tools.cvat_review_plan import ReviewMode, ReviewPlan

SYNC_EVERY_S = 600.0
"""The pause between two syncs for ``sync: on``."""

_LONGEST_S = 366 * 86400.0
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([smhd])")
_QUIET = re.compile(r"(\d\d?):(\d\d)\s*-\s*(\d\d?):(\d\d)\s+(\S+)")


def seconds(value: Any) -> Any:
    """``45s``, ``15m``, ``1h30m`` or ``2d`` in seconds."""
    parts = _DURATION.findall(value) if isinstance(value, str) else []
    if not parts or _DURATION.sub("", value).strip():
        raise ValueError("Input should be a duration with its unit, as in 45s, 15m or 2h")
    total = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if total > _LONGEST_S:
        raise ValueError("Input should be a duration of a year or less")
    return total


def quiet_hours(value: Any) -> Any:
    """``22:00-07:00 Europe/Berlin``; False for none."""
    if value is False:
        return None
    match = _QUIET.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError("Input should be hours and a time zone, as in 22:00-07:00 Europe/Berlin, or off")
    *clock, zone = match.groups()
    hour, minute, end_hour, end_minute = map(int, clock)
    try:
        start, end = time(hour, minute), time(end_hour, end_minute)
    except ValueError:
        raise ValueError("Input should be hours from 00:00 to 23:59") from None
    try:
        return QuietHours(start, end, ZoneInfo(zone))
    except ConfigError as error:
        raise ValueError(f"{error.found}, expected {error.expected}") from None
    except (KeyError, ValueError, OSError):
        raise ValueError("Input should be hours and a time zone such as Europe/Berlin or UTC") from None


def _sync(value: Any) -> Any:
    if isinstance(value, bool):
        return SYNC_EVERY_S if value else None
    pause = seconds(value)
    if pause < 1:
        raise ValueError("Input should be a second or more, or off")
    return pause


def _switch(value: Any) -> Any:
    """``on`` and ``off`` stand for a section that says nothing and for none."""
    if isinstance(value, bool):
        return {} if value else None
    if isinstance(value, Mapping):
        return value
    raise ValueError("Input should be on, off or indented lines")


def _cap(value: Any) -> Any:
    return None if value is False else value


def _label_map(value: Any) -> Any:
    try:
        return read_label_map(value)
    except ConfigError as error:
        raise ValueError(f"{error.found}, expected {error.expected}") from None


def _there(value: Any) -> Any:
    """A path; what names a file must be there."""
    if isinstance(value, str) and not Path(value).expanduser().is_file():
        raise ValueError("Input should be the path of a file that is there")
    return Path(value).expanduser() if isinstance(value, str) else value


Switch = Annotated[bool, Strict()]
Share = Annotated[float, Strict(), Field(ge=0, le=1)]
Count = Annotated[int, Strict(), Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]
Duration = Annotated[float, BeforeValidator(seconds)]


class Section(BaseModel):
    """Part of the settings file."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    def over(self, beneath: Self) -> Self:
        """This section, and of the other what this one does not say."""
        values = {name: getattr(beneath, name) for name in beneath.model_fields_set}
        for name in self.model_fields_set:
            mine, other = getattr(self, name), values.get(name)
            values[name] = mine.over(other) if isinstance(mine, Section) and isinstance(other, Section) else mine
        return type(self).model_construct(**values)


class ScoreSection(Section):
    """When submitted work is scored, and what it is held against."""

    settle: Duration = ScorePolicy().settle_s
    at_least: Count = ScorePolicy().at_least
    at_latest: Duration = ScorePolicy().at_latest_s
    against: Literal["model", "stored", "cross_fit"] = "model"
    stored_model: Text | None = None

    @property
    def policy(self) -> ScorePolicy:
        return ScorePolicy(self.settle, self.at_least, self.at_latest)


class PushSection(Section):
    """Which findings go to review, to whom and when; ``mode``, ``assign_to`` and ``hand_over`` are for CVAT."""

    min_score: Share | None = None
    errors: Annotated[tuple[ErrorType, ...], BeforeValidator(listed), Field(min_length=1)] = PushPolicy().errors
    reviewer: Literal["others", "annotator", "anyone"] = PushPolicy().reviewer
    open_per_reviewer: Annotated[Count | None, BeforeValidator(_cap)] = None
    quiet: Annotated[QuietHours | None, BeforeValidator(quiet_hours)] = None
    dry_run: Switch = False
    mode: ReviewMode = ReviewPlan().mode
    assign_to: Text | None = None
    hand_over: Switch = ReviewPlan().hand_over

    def policy(self, min_score: float) -> PushPolicy:
        """``min_score`` is for a section that names none."""
        return PushPolicy(
            min_score if self.min_score is None else self.min_score,
            self.errors,
            self.reviewer,
            self.open_per_reviewer,
            self.quiet,
            self.dry_run,
        )

    @property
    def review(self) -> ReviewPlan:
        return ReviewPlan(self.mode, self.assign_to or "", self.hand_over)


class ModelSection(Section):
    """The model that suggests and judges."""

    detector: Text = "embedded"
    weights: Annotated[Path | None, BeforeValidator(_there)] = None
    classes: Annotated[tuple[str, ...], BeforeValidator(listed)] = ()
    threshold: Share | None = None
    label_map: Annotated[Mapping[str, str], BeforeValidator(_label_map)] = {}


class ProjectSection(Section):
    """What is done by itself in one project, or in all."""

    prelabel: Switch = False
    score: Annotated[ScoreSection | None, BeforeValidator(_switch)] = None
    push: Annotated[PushSection | None, BeforeValidator(_switch)] = None
    sync: Annotated[float | None, BeforeValidator(_sync)] = None
    model: ModelSection = ModelSection()


SECTIONS: Mapping[str, type[Section]] = {"score": ScoreSection, "push": PushSection, "model": ModelSection}
"""The sections of a project's section."""
