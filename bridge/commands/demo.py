"""The command that shows the whole journey on made-up data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bridge.commands.options import (
    AsJson,
    Config,
)
from bridge.console import Output
from bridge.settings import Settings


def demo(
    exit_: Annotated[bool, typer.Option("--exit", help="Stop as soon as the journey is done.")] = False,
    no_server: Annotated[
        bool, typer.Option("--no-server", help="Without Label Studio: on files, writing report.html.")
    ] = False,
    items: Annotated[int, typer.Option(min=8, max=2000, help="How many images.")] = 60,
    folder: Annotated[Path | None, typer.Option(help="Where the demo keeps its files (default: <home>/demo).")] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Run the whole journey on drawn scenes with planted label errors, against a real Label Studio."""
    from bridge.demo import journey

    output, settings = Output(as_json), Settings.load(config)
    where = folder or settings.home / "demo"
    options = journey.DemoOptions(folder=where, items=items, stay=not exit_)
    if no_server:
        journey.on_files(options, output)
    else:
        journey.on_label_studio(settings, options, output)
