"""The command that writes a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bridge import wiring
from bridge.commands.lookup import find_run
from bridge.commands.options import (
    AsJson,
    Config,
    Images,
    RunId,
    Target,
)
from bridge.console import Output
from bridge.errors import DataError
from bridge.flows import report_data
from bridge.flows.report import build_report
from bridge.settings import Settings


def report(
    target: Target,
    out: Annotated[Path, typer.Option("--out", "-o", help="The HTML file to write.")] = Path("report.html"),
    run: RunId = None,
    gallery: Annotated[int, typer.Option(min=0, help="How many findings to show with their image.")] = 60,
    images: Images = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Write one self-contained HTML file about a run."""
    output, settings = Output(as_json), Settings.load(config)
    tool = wiring.open_target(target, settings, images)
    with wiring.open_journal(settings) as journal:
        chosen = find_run(journal.store, target, run)
        data = report_data.collect(
            journal.store,
            chosen,
            gallery=gallery,
            created_at=journal.now(),
            min_score=settings.min_score,
            worth=settings.worth,
        )
        html = build_report(data, report_data.view_reader(tool, journal.store, chosen, settings))
    try:
        out.write_text(html, encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write {out}: {error.strerror}", todo="Choose another file with --out") from error
    output.say(f"Report of run {chosen.id}: {out} ({len(html) / 1e6:.1f} MB)")
    output.value({"run": chosen.id, "report": str(out)})
