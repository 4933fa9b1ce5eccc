"""A real dataset through a real Label Studio: import, score, push, report; with quality, times and requests.

``python benchmarks/label_studio_loop.py FOLDER IMAGES [--out DIR] [--keep-score S] [--min-score S]``

FOLDER holds ``corrupted.json`` (COCO labels), ``predictions_frcnn.json`` (COCO results) and ``truth.json``;
``evaluate.py`` lies in the folder above it. IMAGES holds the image files. A Label Studio with an empty database is
started for it, and stopped at the end.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bridge import wiring
from bridge.core.annotations import Box, Record
from bridge.core.findings import ErrorType, Finding
from bridge.demo.label_studio_server import LabelStudioServer, default_venv
from bridge.demo.project import label_config
from bridge.dialects.label_studio import box_region, parse_label_config
from bridge.flows import report_data
from bridge.flows.progress import silent
from bridge.flows.push import PushOptions, push
from bridge.flows.report import build_report
from bridge.flows.score import ScoreOptions, score
from bridge.formats.coco import CocoDataset
from bridge.scorers.object_review import ObjectReview
from bridge.settings import Settings
from bridge.tools.label_studio import LabelStudio
from bridge.tools.label_studio_client import LabelStudioClient

WORDS = {
    ErrorType.MISSING: "missing",
    ErrorType.EXTRA: "spurious",
    ErrorType.IMPRECISE: "badloc",
    ErrorType.WRONG_CLASS: "swap",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "label-studio-loop")
    parser.add_argument("--keep-score", type=float, default=0.01)
    parser.add_argument("--min-score", type=float, default=0.5)
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    home = Path(os.environ.get("LABELBRIDGE_HOME") or "~/.labelbridge").expanduser()
    with LabelStudioServer(default_venv(home), options.out / "label-studio", print) as server:
        run(options, server)


def run(options: argparse.Namespace, server: LabelStudioServer) -> None:
    dataset = CocoDataset.open(options.folder / "corrupted.json", options.images)
    records = dataset.records(0, len(dataset))
    settings = Settings.load(
        flags={
            "home": options.out / "home",
            "label_studio_url": server.url,
            "label_studio_api_key": server.token,
        }
    )
    client = wiring.label_studio_client(settings)
    with Clock("import", client):
        project = import_records(client, server, records, options.images, dataset.labels.names)
    tool = LabelStudio(client, project)
    source = wiring.prediction_source(
        tool,
        wiring.SourceOptions(
            predictions=options.folder / "predictions_frcnn.json", predictions_index=options.folder / "corrupted.json"
        ),
        settings,
    )
    with wiring.open_journal(settings) as journal:
        with Clock("score", client):
            scored = score(
                tool,
                source,
                ObjectReview(),
                journal,
                options=ScoreOptions(keep=options.keep_score),
                page_size=settings.page_size,
                progress=silent,
            )
        chosen = journal.store.run(scored.run_id)
        print(f"  {scored.counts}\n  findings {scored.findings}")
        send = partial(
            push,
            tool,
            chosen,
            journal,
            options=PushOptions(min_score=options.min_score),
            chunk=settings.push_chunk,
            progress=silent,
        )
        with Clock("push", client) as clock:
            pushed = send()
        print(f"  {pushed.pushed} findings pushed, {100 * clock.requests / max(pushed.pushed, 1):.1f} requests per 100")
        with Clock("push again", client):
            again = send()
        print(f"  {again.pushed} pushed the second time")
        with Clock("report", client):
            data = report_data.collect(
                journal.store, chosen, gallery=60, created_at=journal.now(), min_score=options.min_score
            )
            html = build_report(data, report_data.view_reader(tool, journal.store, chosen, settings))
        (options.out / "report.html").write_text(html, encoding="utf-8")
        print(f"  {options.out / 'report.html'}, {len(html) / 1e6:.1f} MB")
        findings = [s.finding for s in journal.store.findings(run_id=chosen.id)]
    evaluate(options.folder, findings, records)


def import_records(
    client: LabelStudioClient, server: LabelStudioServer, records: Sequence[Record], images: Path, names: Sequence[str]
) -> int:
    """Tasks with the annotations as people's; the region ids are COCO's annotation ids."""
    folder = server.files_root / "images"
    folder.mkdir(parents=True, exist_ok=True)
    config = label_config(names)
    control = parse_label_config(config).control_for("rectanglelabels")
    assert control is not None
    project = int(client.create_project({"title": "Blood cells", "label_config": config})["id"])
    storage = {"project": project, "title": "images", "path": str(folder), "use_blob_urls": True}
    client.call("POST", "/api/storages/localfiles", json=storage)
    tasks: list[dict[str, Any]] = []
    for record in records:
        item = record.item
        shutil.copy(images / item.name, folder / item.name)
        assert item.width is not None
        assert item.height is not None
        regions = [
            box_region(a.id, control, a.label, a.shape, item.width, item.height)
            for a in record.submissions[0].annotations
            if isinstance(a.shape, Box)
        ]
        url = f"/data/local-files/?d=images/{item.name}"
        tasks.append({"data": {"image": url}, "annotations": [{"result": regions, "ground_truth": False}]})
    for start in range(0, len(tasks), 100):
        client.import_tasks(project, tasks[start : start + 100])
    return project


def evaluate(folder: Path, findings: Sequence[Finding], records: Sequence[Record]) -> None:
    """Average precision by the folder's own evaluation."""
    spec = importlib.util.spec_from_file_location("evaluate", folder.parent / "evaluate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    images = {record.item.name: int(record.item.id) for record in records}
    rows = [in_their_words(f, images) for f in findings if f.error in WORDS]
    figures = module.evaluate(str(folder), rows)
    for name in (*WORDS.values(), "any", "any_typed"):
        row = figures[name]
        print(f"  {name:10} AP {row['AP']:.3f}  P@100 {row['P@100']:.2f}  of {row['total']}")


def in_their_words(finding: Finding, images: dict[str, int]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "image_id": images[finding.item_name],
        "type": WORDS[finding.error],
        "ann_id": int(finding.annotation_ids[0].rpartition(":")[2]) if finding.annotation_ids else None,
        "score": finding.score,
    }
    if isinstance(finding.fix.shape, Box) and not finding.annotation_ids:
        x1, y1, x2, y2 = finding.fix.shape.xyxy
        row["bbox"] = [x1, y1, x2 - x1, y2 - y1]
    return row


class Clock:
    """Prints the seconds and the requests of a block."""

    def __init__(self, name: str, client: LabelStudioClient) -> None:
        self.name = name
        self.client = client
        self.requests = 0
        self._before = math.nan
        self._begun = client.requests_made

    def __enter__(self) -> Clock:
        self._before = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.requests = self.client.requests_made - self._begun
        print(f"{self.name}: {time.perf_counter() - self._before:.1f} s, {self.requests} requests", flush=True)


if __name__ == "__main__":
    main()
