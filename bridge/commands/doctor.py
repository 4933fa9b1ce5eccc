"""The command that finds out what is wrong with a set-up."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from bridge.commands.options import (
    AsJson,
    Config,
    Detector,
    LabelMapOption,
)
from bridge.console import Output
from bridge.settings import Settings


def doctor(
    target: Annotated[str | None, typer.Argument(help="A target to check as well, as in ls:project/7.")] = None,
    backend_url: Annotated[
        str | None, typer.Option("--backend-url", help="The model server's address as Label Studio sees it.")
    ] = None,
    detector: Detector = None,
    label_map: LabelMapOption = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Check settings, tokens, Label Studio's switches, the model server and the label map; print the lines to set."""
    from bridge.doctor import examine

    output = Output(as_json)
    checks = examine(Settings.load(config), target, backend_url, detector, label_map)
    for check in checks:
        mark = "[green]ok[/green]     " if check.ok else "[red]problem[/red]"
        if not as_json:
            output.out.print(f"{mark} [bold]{check.name}[/bold]", end="  ")
            output.say(check.found)
            for line in check.todo.splitlines():
                output.say(f"          {line}")
    output.value([asdict(c) for c in checks])
    if not all(c.ok for c in checks):
        raise typer.Exit(1)
