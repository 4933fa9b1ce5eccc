"""The command that trains a model on what people submitted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bridge import wiring
from bridge.commands.options import (
    AsJson,
    Config,
    Images,
    Target,
    Weights,
)
from bridge.console import Output
from bridge.core.fingerprints import ALIKE
from bridge.errors import UsageError
from bridge.flows.failures import raise_if_any
from bridge.flows.train import TrainOptions, TrainResult
from bridge.flows.train import train as run_train
from bridge.flows.training_record import copy_out
from bridge.settings import Settings


def train(
    target: Target,
    detector: Annotated[
        str | None,
        typer.Option(
            "--detector", help="Network to start from: embedded, a manifest .json, or a torchvision builder's name."
        ),
    ] = None,
    weights: Weights = None,
    folds: Annotated[
        int, typer.Option(min=0, help="Models that each leave out one part; 0: one model, a fifth held out.")
    ] = 5,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="At most so many passes (default: by the number of images).")
    ] = None,
    patience: Annotated[int, typer.Option(min=1, help="Stop after so many passes without a better AP.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn by chance.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to copy the model to.")] = None,
    images: Images = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Fine-tune a detector on what people submitted, and predict each image by a model that has not seen it.

    Stopped at any point, the same command goes on. `labelbridge score TARGET --cross-fit` uses the predictions.
    """
    output, settings = Output(as_json), Settings.load(config)
    if folds == 1:
        raise UsageError("--folds 1 leaves nothing to train on", expected="0, or 2 and more")
    tool = wiring.open_target(target, settings, images)
    with output.progress() as progress:
        bench = wiring.training_bench(
            tool,
            wiring.SourceOptions(detector=detector, weights=weights),
            settings,
            progress,
            output.tell,
        )
        options = TrainOptions(folds=folds, epochs=epochs, seed=seed, patience=patience)
        result = run_train(bench, options, settings.page_size)
    manifest = copy_out(result.folder, out) if out else result.manifest
    _show_training(result, manifest, output)
    output.value({**result.record, "folder": result.folder, "manifest": manifest, "fresh": result.fresh})
    raise_if_any(result.failures, result.record["images"], "used for training")


def _show_training(result: TrainResult, manifest: Path, output: Output) -> None:
    record = result.record
    if not result.fresh:
        output.say(f"Done before, on {record['finished_at'][:16].replace('T', ' ')}: nothing has changed since.")
    output.say(f"Trained on {record['images']} images with {record['objects']} objects; {record['groups']} groups.")
    if record["alike"] > ALIKE:
        output.warn(
            f"The images are so alike that only those alike by {record['alike']:g} or more were kept in one fold: "
            "the figures below are too good for images from elsewhere."
        )
    if record["left_out"]:
        output.warn(f"{record['left_out']} objects were left out: no box, no area, or an unknown label.")
    output.table(
        "On images the model had not seen",
        ("label", "objects", "AP", "AP50"),
        [
            *((label, f["objects"], f["ap"], f["ap50"]) for label, f in record["by_label"].items()),
            ("all", record["objects"], record["ap"], record["ap50"]),
        ],
    )
    output.say(f"Model {record['model']}, worth showing from {record['threshold']:g} on: {manifest}")
    target = record["target"]
    if record["options"]["folds"]:
        output.say(f"Next: labelbridge score {target} --cross-fit")
