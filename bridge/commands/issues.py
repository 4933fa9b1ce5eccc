"""The command that lists the issues of CVAT."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bridge import wiring
from bridge.commands.options import (
    AsJson,
    Config,
    Target,
)
from bridge.console import Output
from bridge.errors import UsageError
from bridge.settings import Settings
from bridge.tools.cvat import Cvat
from bridge.tools.cvat_issue_list import Issue, read_issues, to_csv


def issues(
    target: Target,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write them to this file: .csv for a table, .json for all.")
    ] = None,
    only_open: Annotated[bool, typer.Option("--open", help="Leave resolved issues out.")] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List or export CVAT's issues with their comments, frames and links; also those that people made."""
    output, settings = Output(as_json), Settings.load(config)
    tool = wiring.open_target(target, settings)
    if not isinstance(tool, Cvat):
        raise UsageError(f"{target} has no issues", expected="a target in CVAT, like cvat:project/3")
    if out is not None and out.suffix.lower() not in (".csv", ".json"):
        raise UsageError(f"{out.name} is no table and no JSON file", expected="a name that ends in .csv or .json")
    found = list(read_issues(tool, only_open=only_open))
    values = [asdict(issue) for issue in found]
    if out is not None:
        text = to_csv(found) if out.suffix.lower() == ".csv" else json.dumps(values, indent=2, ensure_ascii=False)
        out.write_text(text, encoding="utf-8")
        output.say(f"{len(found)} issues written to {out}")
    elif found:
        output.table(
            f"Issues of {target}",
            ("issue", "state", "frame", "last comment", "link"),
            [(i.id, i.state, i.frame_name, _last_words(i), i.url) for i in found],
        )
    else:
        output.say(f"{target} has no {'open ' if only_open else ''}issue.")
    output.value(values)


def _last_words(issue: Issue) -> str:
    if not issue.comments:
        return ""
    last = issue.comments[-1]
    return f"{last.author}: {last.text.splitlines()[0][:80] if last.text.strip() else ''}"
