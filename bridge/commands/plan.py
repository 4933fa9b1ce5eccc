"""The commands about the settings file: write a first one, and check and show the one that is there."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bridge import plan_draft, wiring
from bridge.commands.options import AsJson, Config, Detector
from bridge.console import Output
from bridge.errors import UsageError
from bridge.flows.push import choose
from bridge.listings import show_choice, show_plan
from bridge.plan import Plan, load_plan
from bridge.settings_sources import config_path
from bridge.store import Run, Store


def init(
    detector: Detector = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write over a file that is there; it is kept as .old.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option("--config", help="The file to write (default: ./labelbridge.yaml).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a first settings file: the projects of the connected tools, with a label map proposed for each."""
    output, path = Output(as_json), config_path(config, os.environ)
    if path.exists() and not force:
        raise plan_draft.exists_already(path)
    settings, kept = plan_draft.earlier_settings(path, os.environ)
    found = plan_draft.find_projects(settings)
    predictor = wiring.load_model(wiring.SourceOptions(detector=detector), settings.device)
    proposals = [plan_draft.propose(project, predictor) for project in found]
    text = plan_draft.draft(settings, kept, detector or "embedded", proposals)
    old = plan_draft.write_new(path, text, replace=force)
    known = sum(proposal.mapping is not None for proposal in proposals)
    output.say(f"{path}: {len(found)} projects, {known} of them with labels that {predictor.name} knows.")
    if old is not None:
        output.say(f"What was there is kept as {old}.")
    output.say("Read it through and correct it. Then: labelbridge plan")
    output.value({"file": path, "kept": old, "projects": [asdict(proposal) for proposal in proposals]})


def plan(
    target: Annotated[
        str | None, typer.Argument(help="A project of the file: show the findings that would be pushed.")
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Check the settings file, and show what is done by itself in which project and what would be pushed now."""
    output, whole = Output(as_json), load_plan(config)
    with wiring.open_journal(whole.settings) as journal:
        if target is None:
            would_go = {project: _would_go(journal.store, whole, project, journal.now()) for project in whole.projects}
            show_plan(whole, would_go, output)
            return
        project = whole.projects.get(target)
        options = project.push_options(whole.settings.worth) if project else None
        if options is None:
            raise UsageError(f"nothing of {target} is pushed by itself", expected="a project with a push section")
        run = _latest(journal.store, target)
        if run is None:
            output.say(f"Nothing would be pushed: {target} has not been scored yet.")
            output.value([])
        else:
            show_choice(journal.store, run, options, journal.now(), output)


def _would_go(store: Store, whole: Plan, target: str, now: str) -> int | None:
    options, run = whole.projects[target].push_options(whole.settings.worth), _latest(store, target)
    return len(choose(store, run, options, now).ids) if options and run else None


def _latest(store: Store, target: str) -> Run | None:
    return next((run for run in store.runs(target) if run.finished_at), None)
