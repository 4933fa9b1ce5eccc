"""The command that scores what people submitted."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from bridge import wiring
from bridge.commands.options import (
    AsJson,
    Classes,
    Config,
    Detector,
    Images,
    LabelMapOption,
    Model,
    Target,
    Threshold,
    Weights,
    source_options,
)
from bridge.console import Output
from bridge.core.class_balance import ClassBalance, warnings_of
from bridge.core.findings import ErrorType
from bridge.flows.cross_fit import CrossFitPredictions
from bridge.flows.failures import raise_if_any
from bridge.flows.score import ScoreOptions
from bridge.flows.score import score as run_score
from bridge.scorers.planted_review import PlantedReview
from bridge.settings import Settings
from bridge.store import Store


def score(
    target: Target,
    detector: Detector = None,
    weights: Weights = None,
    classes: Classes = None,
    threshold: Threshold = None,
    label_map: LabelMapOption = None,
    predictions: Annotated[Path | None, typer.Option(help="COCO results file with the predictions.")] = None,
    predictions_index: Annotated[
        Path | None, typer.Option(help="COCO file whose image ids the results use; matched by file name.")
    ] = None,
    model: Model = None,
    cross_fit: Annotated[
        bool, typer.Option("--cross-fit", help="Use the out-of-sample predictions of `labelbridge train`.")
    ] = False,
    images: Images = None,
    keep: Annotated[float, typer.Option(min=0, max=1, help="Lowest score that becomes a finding.")] = 0.1,
    check_images: Annotated[
        bool, typer.Option("--check-images", help="Open every image: unreadable, tiny, wrong size, there twice.")
    ] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Hold what people submitted against predictions, and store the likely errors as findings.

    Without --detector, --predictions or --cross-fit, the predictions that the tool already holds are used.
    """
    output, settings = Output(as_json), Settings.load(config)
    tool = wiring.open_target(target, settings, images)
    options = source_options(detector, weights, classes, threshold, label_map, predictions, predictions_index, model)
    source = wiring.prediction_source(tool, replace(options, cross_fit=cross_fit), settings)
    with wiring.open_journal(settings, alone_with=target) as journal, output.progress() as progress:
        result = run_score(
            tool,
            source,
            PlantedReview(),
            journal,
            options=ScoreOptions(keep=keep, check_images=check_images),
            page_size=settings.page_size,
            progress=progress,
        )
        if isinstance(source, CrossFitPredictions):
            _warn_of_changes(source, journal.store, result.run_id, output)
    counts = result.counts
    output.say(
        f"Run {result.run_id}: {counts.submissions} submissions of {counts.items} items, "
        f"{counts.annotations} annotations against {counts.predictions} predictions."
    )
    output.say(
        f"The model was also asked about {counts.probed} of the boxes that people drew."
        if counts.probed
        else "No model was asked about the boxes that people drew."
    )
    if counts.outlined:
        output.say(f"{counts.outlined} outlined objects were held against its class maps.")
    if counts.unpredicted:
        output.warn(
            f"{counts.unpredicted} items were not scored: there are no predictions for them (prelabel, or --detector)."
        )
    for warning in result.independence.warnings(target):
        output.warn(warning)
    for note in result.independence.notes():
        output.say(note)
    output.table("", ("error", "findings"), list(result.findings.items()))
    output.team(result.team)
    _show_balance(result.balance, output)
    if ErrorType.INCONSISTENT_LABELS in result.findings:
        output.warn(
            f"{result.findings[ErrorType.INCONSISTENT_LABELS]} images are labelled otherwise than their copies: "
            f"labelbridge findings {target} --type {ErrorType.INCONSISTENT_LABELS}"
        )
    rate = counts.items / max(result.seconds, 1e-9)
    output.say(
        f"{result.new} new, {result.withdrawn} withdrawn since the last run. "
        f"Judged in {result.seconds:.1f} s, {rate:,.0f} items/s."
    )
    steps = ("findings", "push", "report") if tool.describe().writable else ("findings", "report")
    output.say("Next: " + "   ·   ".join(f"labelbridge {step} {target}" for step in steps))
    output.value(asdict(result))
    raise_if_any(result.failures, counts.items - len(result.failures), "scored")


def _show_balance(balance: ClassBalance, output: Output) -> None:
    if balance.ratio is None:
        return
    classes = f"{len(balance.classes)} {'class' if len(balance.classes) == 1 else 'classes'}"
    output.say(
        f"{classes}, as mixed as {balance.effective:.1f} of equal size; {balance.ratio:.3g} objects of the commonest "
        "for each of the rarest."
    )
    for line in warnings_of(balance):
        output.say(line)


def _warn_of_changes(source: CrossFitPredictions, store: Store, run_id: str, output: Output) -> None:
    changes = source.training.changes(record for chunk in store.chunks(run_id) for record in chunk)
    if changes.new or changes.changed:
        output.warn(
            f"Since the training, new images: {changes.new}, predicted by the final model, which has not seen them. "
            f"Images labelled otherwise since then: {changes.changed}. "
            "Train again when that is much."
        )
