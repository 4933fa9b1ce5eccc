"""The commands about suggestions: write them, and see what became of them."""

from __future__ import annotations

from dataclasses import asdict

from bridge import wiring
from bridge.commands.options import (
    AsJson,
    Classes,
    Config,
    Detector,
    LabelMapOption,
    Target,
    Threshold,
    Weights,
    source_options,
)
from bridge.console import Output
from bridge.errors import UsageError
from bridge.flows.failures import raise_if_any
from bridge.flows.prelabel import prelabel as run_prelabel
from bridge.settings import Settings
from bridge.tools.cvat import Cvat


def prelabel(
    target: Target,
    detector: Detector = None,
    weights: Weights = None,
    classes: Classes = None,
    threshold: Threshold = None,
    label_map: LabelMapOption = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Write a model's predictions into the tool, beside people's work. Running again does only what is missing."""
    output, settings = Output(as_json), Settings.load(config)
    tool = wiring.open_target(target, settings)
    options = source_options(detector, weights, classes, threshold, label_map)
    predictor = wiring.load_model(options, settings.device)
    mapping = wiring.map_labels(tool, predictor, label_map)
    if mapping.unmatched_classes:
        output.warn(f"Model classes without a label here, dropped: {', '.join(mapping.unmatched_classes)}")
    if mapping.unmatched_labels:
        output.warn(f"Labels the model cannot suggest: {', '.join(mapping.unmatched_labels)}")
    source = wiring.model_source(tool, predictor, mapping, settings, threshold)
    with wiring.open_journal(settings, alone_with=target) as journal, output.progress() as progress:
        result = run_prelabel(tool, source, journal, page_size=settings.push_chunk, progress=progress)
    output.say(
        f"{result.written} of {result.items} items pre-labelled by {source.model}: {result.predictions} suggestions. "
        f"{result.skipped} were done before."
    )
    output.value(asdict(result))
    raise_if_any(result.failures, result.written + result.skipped, "pre-labelled")


def suggestions(target: Target, config: Config = None, as_json: AsJson = False) -> None:
    """Show what annotators in CVAT made of the suggestions that `prelabel` wrote: kept, changed, removed."""
    output = Output(as_json)
    tool = wiring.open_target(target, Settings.load(config))
    if not isinstance(tool, Cvat):
        raise UsageError(f"{target} is not in CVAT", expected="a target in CVAT, like cvat:project/3")
    found = tool.acceptance()
    if found:
        output.table(
            f"Suggestions in submitted jobs of {target}",
            ("model", "label", "suggested", "kept", "changed", "removed"),
            [(a.model, a.label, a.suggested, a.kept, a.changed, a.removed) for a in found],
        )
    else:
        output.say(f"No submitted job of {target} holds suggestions that were written from this data folder.")
    output.value([{**asdict(a), "suggested": a.suggested} for a in found])
