"""Words that many commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Target = Annotated[
    str, typer.Argument(help="ls:project/7, cvat:task/12, coco:annotations.json, voc:FOLDER or yolo:FOLDER")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]
Config = Annotated[Path | None, typer.Option("--config", help="Settings file (default: ./labelbridge.yaml if there).")]
Detector = Annotated[
    str | None,
    typer.Option("--detector", help="embedded, a manifest .json, or a torchvision detection builder's name."),
]
