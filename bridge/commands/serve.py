"""The command that serves models, and works by itself."""

from __future__ import annotations

from typing import Annotated

import typer

from bridge import wiring
from bridge.commands.options import (
    Classes,
    Config,
    Detector,
    LabelMapOption,
    Threshold,
    Weights,
    source_options,
)
from bridge.plan import load_plan
from bridge.service.parts import Part


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (default: setting backend_host).")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port (default: setting backend_port).")] = None,
    detector: Detector = None,
    interactor: Annotated[
        str | None,
        typer.Option(help="What answers smart tools: grabcut, sam_vit_b, ... or none (default: setting interactor)."),
    ] = None,
    weights: Weights = None,
    classes: Classes = None,
    threshold: Threshold = None,
    label_map: LabelMapOption = None,
    only: Annotated[
        list[Part] | None,
        typer.Option("--only", help="Run only this part in this process; may be given several times (default: all)."),
    ] = None,
    config: Config = None,
) -> None:
    """Run the model server that Label Studio and CVAT talk to; with projects in the settings file, work for them too.

    Working means: receive webhooks, watch the projects, and pre-label, score, push and sync as the file says.
    """
    from bridge.service.service import standing, stop_when_terminated, wait_for_the_end

    plan = load_plan(config)
    options = source_options(detector, weights, classes, threshold, label_map)
    parts = set(only or (Part if plan.projects else [Part.MODELS]))
    if parts - {Part.MODELS}:
        stop_when_terminated()
    with standing(plan, parts):
        if Part.MODELS in parts:
            wiring.serve(plan.settings, options, interactor=interactor, host=host, port=port)
        else:
            wait_for_the_end()
