"""Words that many commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bridge import wiring
from bridge.core.findings import ErrorType

Target = Annotated[
    str, typer.Argument(help="ls:project/7, cvat:task/12, coco:annotations.json, voc:FOLDER or yolo:FOLDER")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]
Config = Annotated[Path | None, typer.Option("--config", help="Settings file (default: ./labelbridge.yaml if there).")]
Detector = Annotated[
    str | None,
    typer.Option("--detector", help="embedded, a manifest .json, or a torchvision detection builder's name."),
]
Images = Annotated[Path | None, typer.Option("--images", help="Folder of the images, if not beside the annotations.")]
Weights = Annotated[Path | None, typer.Option("--weights", help="Weights file for the builder (.safetensors or .pth).")]
Classes = Annotated[
    str | None, typer.Option("--classes", help="Class names of those weights, comma-separated, in order.")
]
Threshold = Annotated[
    float | None,
    typer.Option("--threshold", min=0, max=1, help="Lowest confidence kept (default: the model's)."),
]
LabelMapOption = Annotated[
    str | None, typer.Option("--label-map", help="Model class to project label: car=vehicle,person=human, or a file.")
]
Model = Annotated[str | None, typer.Option("--model", help="Use only the stored predictions of this model version.")]
RunId = Annotated[str | None, typer.Option("--run", help="A run's id (default: the target's latest).")]
By = Annotated[str | None, typer.Option("--by", help="Who answers for it (default: the user who runs this).")]
Types = Annotated[
    list[ErrorType] | None, typer.Option("--type", help="Only this error type; may be given several times.")
]


def source_options(
    detector: str | None,
    weights: Path | None,
    classes: str | None,
    threshold: float | None,
    label_map: str | None,
    predictions: Path | None = None,
    predictions_index: Path | None = None,
    model: str | None = None,
) -> wiring.SourceOptions:
    names = tuple(name.strip() for name in classes.split(",")) if classes else ()
    return wiring.SourceOptions(detector, weights, names, threshold, label_map, predictions, predictions_index, model)
