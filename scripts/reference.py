"""Writes docs/reference.md from the program itself: commands, settings, errors.

python scripts/reference.py            print it
python scripts/reference.py --write    write docs/reference.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from bridge import errors
from bridge.cli import app
from bridge.core.findings import ErrorType, State
from bridge.settings import settings_reference

TARGET = Path(__file__).resolve().parent.parent / "docs" / "reference.md"


def reference() -> str:
    lines = [
        "# Reference",
        "",
        "Written from the program by `python scripts/reference.py --write`; a test compares the two.",
        "",
        "## Commands",
    ]
    group: Any = typer.main.get_command(app)
    lines += ["", "| | |", "|---|---|", *(_parameter(p) for p in group.params if p.name != "help")]
    for name, command in _commands(group):
        lines += ["", f"### labelbridge {name}", "", " ".join((command.help or "").split()), ""]
        rows = [_parameter(p) for p in command.params if p.name != "help"]
        lines += ["| | |", "|---|---|", *rows]
    lines += ["", "## Settings", "", "| in labelbridge.yaml | environment | default | meaning |", "|---|---|---|---|"]
    lines += [f"| `{s.name}` | `{s.env}` | {_cell(s.default)} | {_cell(s.meaning)} |" for s in settings_reference()]
    lines += ["", "## Errors and exit status", "", "| error | exit status | |", "|---|---|---|"]
    tree = (errors.__doc__ or "").splitlines()
    for kind in _tree(errors.LabelbridgeError):
        told = next((t for t in tree if kind.__name__ in t.split()), "")
        meaning = told.rpartition("  ")[2].strip() if "  " in told.strip() else ""
        lines.append(f"| `{kind.__name__}` | {kind.exit_status} | {'' if meaning.isdigit() else meaning} |")
    lines += ["", "0 means done; 130, stopped with Ctrl-C.", "", "## Findings", ""]
    lines += ["Error types: " + ", ".join(f"`{e}`" for e in ErrorType) + ".", ""]
    lines += ["States: " + ", ".join(f"`{s}`" for s in State) + "."]
    return "\n".join(lines) + "\n"


def _commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Commands by name, those of a group by both words."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def _parameter(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = parameter.name.upper()
    else:
        name = ", ".join((*parameter.opts, *parameter.secondary_opts))
    default = parameter.default
    told = "" if default in (None, False, ()) or callable(default) else f" Default: {default}."
    return f"| `{name}` | {_cell((parameter.help or '') + told)} |"


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _tree(kind: type[errors.LabelbridgeError]) -> list[type[errors.LabelbridgeError]]:
    children = [k for k in kind.__subclasses__() if k.__module__ == errors.__name__]
    return [kind, *(k for child in children for k in _tree(child))]


if __name__ == "__main__":
    text = reference()
    if "--write" in sys.argv:
        TARGET.write_text(text, encoding="utf-8")
    else:
        print(text)  # noqa: T201
