"""What commands print: text for people, one JSON value for programs, errors for both."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from bridge.core.findings import REVIEWED_TYPES
from bridge.core.team import LOW_KAPPA, Team
from bridge.errors import LabelbridgeError, PartialFailure
from bridge.flows.progress import Progress, silent

#: What a terminal takes for a command (C0 and C1 controls, but for line ends and tabs) or reorders lines by (Unicode's
#: marks of direction), written out instead. The same in JSON, where it stands in texts only.
_VISIBLE = {
    code: f"\\u{code:04x}"
    for code in (*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    if chr(code) not in "\n\t"
}


@dataclass
class Output:
    """Prints for one command. With ``as_json`` only the final JSON value goes to standard output."""

    as_json: bool = False
    # A pipe or a file has no width to keep to, and folded cells are hard to grep.
    out: Console = field(default_factory=lambda: Console(highlight=False, width=None if sys.stdout.isatty() else 200))
    err: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))

    def say(self, text: str) -> None:
        """A line for a person; square brackets in it are text, not markup, and control characters are written out."""
        if not self.as_json:
            self.out.print(_harmless(text), soft_wrap=True)

    def warn(self, text: str) -> None:
        self.err.print(f"[yellow]{_harmless(text)}[/yellow]", soft_wrap=True)

    def value(self, value: Any) -> None:
        """The command's result for programs."""
        if self.as_json:
            text = json.dumps(value, indent=1, ensure_ascii=False, default=str)
            print(text.translate(_VISIBLE), flush=True)  # noqa: T201

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """A table for a person; columns whose every cell is a number are aligned to the right."""
        if self.as_json:
            return
        cells = [list(row) for row in rows]
        table = Table(
            title=_harmless(title) if title else None, title_justify="left", header_style="bold", box=SIMPLE_HEAD
        )
        for k, name in enumerate(columns):
            numeric = bool(cells) and all(row[k] is None or isinstance(row[k], int | float) for row in cells)
            table.add_column(_harmless(name), justify="right" if numeric else "left", overflow="fold")
        for row in cells:
            table.add_row(*(_cell(value) for value in row))
        self.out.print(table)

    def team(self, team: Team) -> None:
        """How far the people agree and what each gets wrong; nothing where nobody is known by name."""
        if team.items:
            alpha = "no alpha with less than two classes in use" if team.alpha is None else f"alpha {team.alpha:.2f}"
            self.say(f"{team.items} items were labelled by several people: {alpha}.")
        if team.unclear:
            classes = ", ".join(f"{c.label} ({c.kappa:.2f})" for c in team.unclear)
            self.say(f"Kappa below {LOW_KAPPA}, look at the guideline of: {classes}")
        if team.people:
            columns = ("annotator", "objects", "kappa", *(f"{str(e).replace('_', ' ')} /100" for e in REVIEWED_TYPES))
            rows = [(p.name, p.objects, p.kappa, *(p.errors[str(e)] for e in REVIEWED_TYPES)) for p in team.people]
            self.table("", columns, rows)

    def error(self, error: LabelbridgeError) -> None:
        # A partial failure comes behind the result, which lists it, and programs are promised one value.
        if self.as_json and not isinstance(error, PartialFailure):
            self.value(error.as_dict())
            return
        self.err.print(f"[bold red]Error:[/bold red] {_harmless(error.found)}", soft_wrap=True)
        if error.expected:
            self.err.print(f"  [bold]expected[/bold] {_harmless(error.expected)}", soft_wrap=True)
        if error.todo:
            self.err.print(f"  [bold]to do[/bold]    {_harmless(error.todo)}", soft_wrap=True)

    def tell(self, line: str) -> None:
        """A line about the work while it goes on, on standard error."""
        self.err.print(_harmless(line), soft_wrap=True)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Bars on standard error while a journey runs; nothing when that is no terminal or for programs."""
        if self.as_json or not self.err.is_terminal:
            yield silent
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Bars(*columns, console=self.err, transient=True) as bars:
            tasks: dict[str, Any] = {}

            def show(phase: str, done: int, total: int | None) -> None:
                if phase not in tasks:
                    tasks[phase] = bars.add_task(phase, total=total)
                bars.update(tasks[phase], completed=done, total=total)

            yield show


def _harmless(text: str) -> str:
    """A text from anywhere as it may be printed: no markup, and nothing that the terminal would obey."""
    return escape(text.translate(_VISIBLE))


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else _harmless(str(value))
