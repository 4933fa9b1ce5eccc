"""`labelbridge audit`: whether the audit log is whole, what it says, and taking it away."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bridge import wiring
from bridge.commands.options import AsJson, Config
from bridge.console import Output
from bridge.errors import DataError, NotFound, StoreError, UsageError
from bridge.settings import Settings
from bridge.store import AuditEvent, Mark, Store
from bridge.store.audit_lines import Checked, to_line, verify_lines
from bridge.whole_file import whole_file

app = typer.Typer(
    no_args_is_help=True, help="The audit log: who labelled, suggested, flagged, decided and wrote what, and when."
)
#: Problems that are printed; a log that was written anew has one in every event.
_SHOWN = 20


@app.command()
def verify(
    head: Annotated[
        str | None, typer.Option(help="An end of this log that you noted elsewhere, SEQ:HASH: it must still be there.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="Check an exported file instead of the data folder's log.")] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Find every changed, removed, added or moved event; print the end of the log, to be kept elsewhere."""
    output, kept = Output(as_json), Mark.parse(head) if head else None
    if file is None:
        with wiring.open_journal(Settings.load(config)) as journal:
            checked = _of_store(journal.store, kept)
    else:
        checked = verify_lines(_lines(file), kept)
    for problem in checked.problems[:_SHOWN]:
        output.warn(f"{problem[0].upper()}{problem[1:]}.")
    if len(checked.problems) > _SHOWN:
        output.warn(f"And {len(checked.problems) - _SHOWN} more.")
    if not checked.problems:
        output.say(f"Unbroken: {checked.events} events.")
        if checked.head:
            output.say(f"Its end, to be kept where nobody who can write the database can change it:\n{checked.head}")
    output.value({"events": checked.events, "head": str(checked.head or ""), "problems": checked.problems})
    if checked.problems:
        raise typer.Exit(StoreError.exit_status)


@app.command()
def export(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file to write (default: standard output).")
    ] = None,
    since: Annotated[int, typer.Option(min=1, help="Only from this event on, by its number.")] = 1,
    config: Config = None,
) -> None:
    """Write the log as JSON lines with their hashes; `audit verify --file` checks them without the database."""
    with wiring.open_journal(Settings.load(config)) as journal:
        rows = journal.store.event_rows(since)
        if out is None:
            for row in rows:
                sys.stdout.write(to_line(row) + "\n")
            return
        with whole_file(out) as file:
            file.writelines(f"{to_line(row)}\n".encode() for row in rows)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A run's or a finding's id or its beginning, a target; or an item's id.")],
    target: Annotated[str | None, typer.Argument(help="The target of the item.")] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Tell the story of a run, a finding, or (with its target) all findings of an item."""
    output = Output(as_json)
    with wiring.open_journal(Settings.load(config)) as journal:
        events = list(_story(journal.store, name, target))
    if not events:
        raise NotFound(f"the audit log has no event of {name!r}", expected="the id of a run, a finding or an item")
    for event in events:
        output.say(f"{event.seq:>6}  {event.at[:19].replace('T', ' ')}  {event.kind:<16}  {event.actor}")
        output.say(f"        {event.subject}  {json.dumps(event.detail, ensure_ascii=False)}")
    output.value([asdict(event) for event in events])


def _of_store(store: Store, kept: Mark | None) -> Checked:
    # Taken first: the log may grow while it is checked, and what is printed must have been.
    end = store.audit_head()
    return Checked(store.verify_events(kept), end.seq, end)


def _lines(file: Path) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8", errors="surrogateescape") as lines:
            yield from lines
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error


def _story(store: Store, name: str, target: str | None) -> Sequence[AuditEvent]:
    if target is not None:
        subjects = [s.finding.id for s in store.findings(target=target, item_ids=[name])]
        return sorted((e for subject in subjects for e in store.events(subject)), key=lambda e: e.seq)
    found = store.events(name)
    if found:
        return found
    try:
        return store.events(store.finding(name).finding.id)
    except (NotFound, UsageError) as error:
        raise type(error)(error.found, expected="the id of a run, a finding or a target", todo=error.todo) from None
