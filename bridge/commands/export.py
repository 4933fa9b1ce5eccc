"""`labelbridge export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bridge import wiring
from bridge.commands.options import AsJson, Config, Target
from bridge.console import Output
from bridge.flows.progress import Progress
from bridge.flows.relabeled import AcceptedFixes
from bridge.formats.coco_writer import CocoWriter
from bridge.settings import Settings
from bridge.tools import AnnotationTool
from bridge.whole_file import whole_file


def export(
    target: Target,
    out: Annotated[Path, typer.Option("--out", "-o", help="The COCO file to write.")],
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Write what people submitted as COCO JSON, each object with its annotator and the accepted fix it came from."""
    output, settings = Output(as_json), Settings.load(config)
    tool = wiring.open_target(target, settings)
    about = tool.describe()
    with wiring.open_journal(settings) as journal, output.progress() as progress:
        info = {
            "description": about.title,
            "target": target,
            "date_created": journal.now(),
            "labelbridge": wiring.program_version(),
            "audit_head": str(journal.store.audit_head()),
        }
        fixes = AcceptedFixes.of(journal.store, target)
        with whole_file(out) as file:
            writer = CocoWriter(file, about.labels, info)
            writer.begin()
            _write(tool, writer, fixes, settings.page_size, about.items, progress)
            writer.finish()
    output.say(f"{writer.objects} objects on {len(writer.images)} submitted items: {out}")
    output.say(f"{writer.relabeled} of them show an accepted fix, and name its finding.")
    if writer.several:
        output.warn(f"{writer.several} items were submitted by several people: the objects of all are in the file.")
    if writer.left_out:
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(writer.left_out.items()))
        output.warn(f"Left out, as COCO has no form for them or they have no area: {kinds}")
    output.value(
        {
            "file": out,
            "images": len(writer.images),
            "objects": writer.objects,
            "relabeled": writer.relabeled,
            "several": writer.several,
            "left_out": writer.left_out,
        }
    )


def _write(
    tool: AnnotationTool, writer: CocoWriter, fixes: AcceptedFixes, page_size: int, items: int, progress: Progress
) -> None:
    cursor, read = None, 0
    while True:
        page = tool.read_page(cursor, page_size)
        for record in page.records:
            writer.add(fixes.mark(record))
        read += len(page.records)
        progress("exporting", read, items)
        cursor = page.next
        if cursor is None:
            return
