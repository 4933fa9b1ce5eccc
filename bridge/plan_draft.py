"""A first settings file, drafted from what the connected tools hold: their projects, with a label map for each."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bridge.clients import cvat_client, label_studio_client
from bridge.core.label_map import LabelMap, alike_labels, match_labels
from bridge.core.policy import PushPolicy, ScorePolicy
from bridge.core.predictor import Predictor
from bridge.errors import ConfigError, ModelError
from bridge.settings import Settings
from bridge.settings_sources import SECTIONS, ConfigFile, read_config_file, refusal
from bridge.tools.project_list import ListedProject, cvat_projects, label_studio_projects

_NAMES_SHOWN = 20

_HEAD = """\
# What labelbridge is connected to, and what it does by itself in which project. docs/service.md explains every line;
# `labelbridge plan` checks the file. No secret stands here: set LABELBRIDGE_LABEL_STUDIO_API_KEY or
# LABELBRIDGE_CVAT_TOKEN, or LABELBRIDGE_…_FILE to the path of a file that holds it.
"""

_DEFAULTS = """\
# For every project that does not say otherwise.
defaults:
  prelabel: on              # suggestions for items that nobody has worked on
  score:                    # submitted work is held against the model
    settle: {settle:.0f}s             # an item counts when it has not changed for so long
    at_least: {at_least}            # so many items make a batch
    at_latest: {at_latest:.0f}m          # fewer wait no longer than this
    against: model          # or stored: predictions that Label Studio holds; or cross_fit: of `labelbridge train`
  push:                     # likely errors go to review
    dry_run: on             # only noted; off sends them
    min_score: {min_score:g}          # lowest probability
    errors: [{errors}]
    reviewer: {reviewer}        # or others: not who annotated it; or annotator
    open_per_reviewer: off  # or at most so many for each reviewer that await an answer
    quiet: off              # or nothing is sent then, as in 22:00-07:00 Europe/Berlin
  sync: 10m                 # verdicts come home at least so often
  model:
    detector: {detector}
"""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the file is to say of a project.

    Attributes:
        label_map: what is to be said of classes and labels that are not of the same name.
        mapping: how the model's classes become the project's labels; None where none does.
    """

    project: ListedProject
    label_map: Mapping[str, str]
    mapping: LabelMap | None


def earlier_settings(path: Path, environ: Mapping[str, str]) -> tuple[Settings, Mapping[str, Any]]:
    """The settings to begin with, and those of them that an earlier file at ``path`` holds.

    Raises:
        ConfigError: some cannot be used; every problem is named.
    """
    problems: list[str] = []
    file = read_config_file(path, environ, problems) if path.exists() else ConfigFile(path)
    settings = Settings.gather(file, environ, problems)
    if problems or settings is None:
        raise refusal(problems)
    return settings, {name: value for name, value in file.data.items() if name not in SECTIONS and value is not None}


def find_projects(settings: Settings) -> list[ListedProject]:
    """The projects of every tool that is set up.

    Raises:
        ConfigError: none is, or one lacks its token.
        ToolError: a tool cannot be read.
    """
    found: list[ListedProject] = []
    if settings.label_studio_url is None and settings.cvat_url is None:
        raise ConfigError(
            "no tool is set up whose projects could be listed",
            expected="LABELBRIDGE_LABEL_STUDIO_URL or LABELBRIDGE_CVAT_URL, and a token",
            todo="Set them and start again",
        )
    if settings.label_studio_url is not None:
        found += label_studio_projects(label_studio_client(settings))
    if settings.cvat_url is not None:
        found += cvat_projects(cvat_client(settings))
    return found


def propose(project: ListedProject, predictor: Predictor) -> Proposal:
    """How a model goes with a project; one of images does not go with texts."""
    if project.is_text or project.problem:
        return Proposal(project, {}, None)
    alike = alike_labels(predictor.classes, project.labels)
    try:
        return Proposal(project, alike, match_labels(predictor.classes, project.labels, alike))
    except ModelError:
        return Proposal(project, {}, None)


def draft(settings: Settings, kept: Mapping[str, Any], detector: str, proposals: Sequence[Proposal]) -> str:
    """The text of the file.

    Args:
        kept: settings that an earlier file holds, as they stand there.
        detector: the model that the proposals are for.
    """
    tools = ("label_studio_url", "cvat_url", "cvat_organization")
    connections = {name: getattr(settings, name) for name in tools if getattr(settings, name) is not None}
    score, push = ScorePolicy(), PushPolicy()
    defaults = _DEFAULTS.format(
        settle=score.settle_s,
        at_least=score.at_least,
        at_latest=score.at_latest_s / 60,
        min_score=settings.min_score,
        errors=", ".join(push.errors),
        reviewer=push.reviewer,
        detector=_scalar(detector),
    )
    projects = [line for proposal in proposals for line in _project(proposal)] or ["  # none was found"]
    above = yaml.safe_dump({**connections, **kept}, allow_unicode=True, sort_keys=False)
    return "\n".join((_HEAD, above, defaults, "projects:", *projects, ""))


def _project(proposal: Proposal) -> Iterator[str]:
    project, mapping = proposal.project, proposal.mapping
    yield f"  # {_plain(project.title) or 'without a title'}"
    if project.problem:
        yield f"  # {project.target} is left out: {_plain(project.problem)}"
        return
    yield f"  {project.target}:"
    if mapping is None:
        what = "texts" if project.is_text else "the model knows none of the labels"
        yield f"    # {what}: {_named(project.labels)}"
        yield "    prelabel: off"
        # CVAT keeps no predictions, so that nothing is left to hold work against.
        yield "    score: off" if project.target.startswith("cvat:") else "    score: {against: stored}"
        return
    if mapping.unmatched_labels:
        yield f"    # labels that the model cannot suggest: {_named(mapping.unmatched_labels)}"
    if mapping.unmatched_classes:
        yield f"    # classes of the model without a label here: {_named(mapping.unmatched_classes)}"
    if proposal.label_map:
        yield "    model:"
        yield "      label_map:           # class of the model: label of the project"
        yield from (f"        {_scalar(name)}: {_scalar(label)}" for name, label in proposal.label_map.items())


def _scalar(text: str) -> str:
    """A text as YAML, on one line; what cannot be seen is escaped."""
    seen = text.isprintable()
    dumped = yaml.safe_dump(text, allow_unicode=seen, default_style=None if seen else '"', width=10**6)
    return dumped.removesuffix("...\n").strip()


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return _plain(", ".join(names[:_NAMES_SHOWN]) or "none") + more


def _plain(text: str) -> str:
    """For a comment: one line, nothing but printable characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def write_new(path: Path, text: str, *, replace: bool) -> Path | None:
    """Write the file at once or not at all, readable by its owner only.

    Args:
        replace: whether one that is there gives way; it is kept beside the new one.

    Returns:
        Where the old file is kept; None where there was none.

    Raises:
        ConfigError: there is one already, or it cannot be written.
    """
    old = path.with_name(path.name + ".old") if replace and path.exists() else None
    part: Path | None = None
    try:
        number, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # which gives it to its owner only
        part = Path(name)
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if old is not None:
            shutil.copy2(path, old)
        if replace:
            part.replace(path)
        else:
            path.hardlink_to(part)  # which never takes the place of a file
    except FileExistsError:
        raise exists_already(path) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", todo="Choose another with --config") from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
    return old


def exists_already(path: Path) -> ConfigError:
    return ConfigError(
        f"{path} is there already",
        expected="to write a new file",
        todo="Write to another with --config FILE, or over it with --force: the old one is kept beside it",
    )
