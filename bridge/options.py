"""Options that commands of several modules take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]
Config = Annotated[Path | None, typer.Option("--config", help="Settings file (default: ./labelbridge.yaml if there).")]
Detector = Annotated[
    str | None,
    typer.Option("--detector", help="embedded, a manifest .json, or a torchvision detection builder's name."),
]
