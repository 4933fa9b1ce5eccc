"""The commands of a lead who decides without a reviewer: accept in bulk, and undo."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer

from bridge import wiring
from bridge.commands.lookup import find_run, review_places
from bridge.commands.options import (
    AsJson,
    By,
    Config,
    RunId,
    Target,
    Types,
)
from bridge.console import Output
from bridge.core.findings import REVIEWED_TYPES
from bridge.errors import UsageError
from bridge.flows.accept import AcceptOptions
from bridge.flows.accept import accept as run_accept
from bridge.flows.accept import chosen as would_accept
from bridge.flows.undo import UndoOptions
from bridge.flows.undo import undo as run_undo
from bridge.listings import show_would_accept
from bridge.settings import Settings


def accept(
    target: Target,
    min_score: Annotated[float, typer.Option("--min-score", min=0, max=1, help="Lowest probability.")],
    types: Types = None,
    label: Annotated[str | None, typer.Option("--label", help="Only objects labelled so.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many, the likeliest first.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be accepted.")] = False,
    run: RunId = None,
    by: By = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Accept many findings without a reviewer. The next `sync` writes their fixes; `undo --batch` takes them back."""
    output, settings = Output(as_json), Settings.load(config)
    tool = wiring.open_target(target, settings)
    if not tool.describe().writable:
        raise UsageError(f"{target} is read-only: no fix could be written", expected="a target such as ls:project/7")
    options = AcceptOptions(min_score, tuple(types) if types else REVIEWED_TYPES, label, limit)
    with wiring.open_journal(settings, alone_with=None if dry_run else target) as journal:
        chosen = find_run(journal.store, target, run)
        if dry_run:
            show_would_accept(would_accept(journal.store, chosen, options), output)
            return
        reviews = review_places(journal.store, target)
        with output.progress() as progress:
            result = run_accept(
                tool,
                reviews,
                chosen,
                journal,
                options=options,
                by=by or wiring.operator(),
                chunk=settings.push_chunk,
                progress=progress,
            )
    output.say(f"{result.accepted} findings accepted as batch {result.batch}.")
    if result.left:
        output.say(f"Left to reviewers, who have begun to judge them: {', '.join(result.left)}")
    if result.accepted:
        output.say(f"Next: labelbridge sync {target}   ·   labelbridge undo {target} --batch {result.batch}")
    output.value(asdict(result))


def undo(
    target: Target,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[FINDING]...", help="Ids of findings.")] = None,
    since: Annotated[
        str | None, typer.Option(help="All fixes written since then, as in 2026-11-20T14:00 (local time).")
    ] = None,
    batch: Annotated[str | None, typer.Option(help="What `accept` accepted as this batch.")] = None,
    by: By = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Take written fixes back, only where the object is just as the fix left it."""
    output, settings = Output(as_json), Settings.load(config)
    if sum(map(bool, (ids, since, batch))) != 1:
        raise UsageError("what is to be undone is not clear", expected="ids of findings, --since or --batch")
    options = UndoOptions(tuple(ids or ()), None if since is None else _moment(since), batch)
    tool = wiring.open_target(target, settings)
    with wiring.open_journal(settings, alone_with=target) as journal, output.progress() as progress:
        by, chunk = by or wiring.operator(), settings.push_chunk
        result = run_undo(tool, journal, options=options, by=by, chunk=chunk, progress=progress)
    output.say(
        f"{result.undone} fixes undone. {result.unwritten} findings taken back of which nothing was written yet."
    )
    for conflict in result.conflicts:
        output.warn(f"Not undone, left as it is: {conflict}")
    output.value(asdict(result))


def _moment(text: str) -> str:
    try:
        return datetime.fromisoformat(text).astimezone().isoformat()
    except ValueError:
        raise UsageError(f"--since {text!r} is no point in time", expected="such as 2026-11-20T14:00") from None
