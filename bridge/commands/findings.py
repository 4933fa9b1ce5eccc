"""The commands that list runs and findings."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from bridge import wiring
from bridge.commands.lookup import find_run
from bridge.commands.options import (
    AsJson,
    Config,
    RunId,
    Target,
    Types,
)
from bridge.console import Output
from bridge.core.findings import State
from bridge.flows.independence import Independence
from bridge.flows.outlook import outlook
from bridge.flows.ranking import rank
from bridge.listings import show_findings
from bridge.settings import Settings
from bridge.store import Run


def runs(
    target: Annotated[str | None, typer.Argument(help="Only this target's runs.")] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List scoring runs, newest first."""
    output, settings = Output(as_json), Settings.load(config)
    with wiring.open_journal(settings) as journal:
        found = journal.store.runs(target)
    if not found:
        output.say("No runs yet. Start one with `labelbridge score TARGET`.")
    else:
        for r in found:
            state = "finished  " if r.finished_at else "unfinished"
            output.say(f"{r.id}  {r.started_at[:16].replace('T', ' ')}  {state}  {r.target}  {r.title}")
            if r.finished_at:
                model = r.model or "the stored predictions"
                output.say(f"      {r.counts['findings']} findings on {r.counts['items']} items, against {model}")
    output.value([_run_dict(r) for r in found])


def findings(
    target: Target,
    run: RunId = None,
    min_score: Annotated[
        float | None, typer.Option("--min-score", min=0, max=1, help="Lowest score, as the scorer gave it.")
    ] = None,
    types: Types = None,
    states: Annotated[list[State] | None, typer.Option("--state", help="Only this state; may be repeated.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List findings in the order in which their review pays, and say how many real errors to expect."""
    output, settings = Output(as_json), Settings.load(config)
    with wiring.open_journal(settings) as journal:
        chosen = find_run(journal.store, target, run)
        ranking = rank(journal.store, chosen, settings.worth)
        wanted = [
            row
            for row in ranking.rows
            if row.head.score >= (min_score or 0)
            and (not types or row.head.error in types)
            and (not states or row.head.state in states)
        ][:limit]
        found = journal.store.findings_of([row.head.id for row in wanted])
        ahead = outlook(journal.store, chosen, ranking, settings.min_score)
    output.say(f"Run {chosen.id} of {target}: {len(found)} of {len(ranking.rows)} findings")
    for warning in Independence.from_dict(chosen.counts.get("independence", {})).warnings(target):
        output.warn(warning)
    show_findings(list(zip(found, wanted, strict=True)), output)
    for line in ahead.lines:
        output.say(line)


def _run_dict(run: Run) -> dict[str, Any]:
    return {**asdict(run), "labels": list(run.labels.names)}
