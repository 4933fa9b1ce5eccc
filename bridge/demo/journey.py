"""The whole journey on drawn scenes, from nothing to a table of what was found."""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bridge import wiring
from bridge.clients import label_studio_client
from bridge.console import Output
from bridge.core.findings import Finding, State
from bridge.core.planting import PlantedRow, match_planted
from bridge.demo import dataset as demo_dataset
from bridge.demo import project as demo_project
from bridge.demo.backend import Backend
from bridge.demo.dataset import Dataset
from bridge.demo.label_studio_server import LabelStudioServer, default_venv
from bridge.errors import UsageError
from bridge.flows import report_data
from bridge.flows.prelabel import prelabel
from bridge.flows.push import PushOptions, push
from bridge.flows.report import build_report
from bridge.flows.score import Journal, ScoreOptions, score
from bridge.scorers.planted_review import PlantedReview
from bridge.settings import Settings, sqlite_url
from bridge.store import Run, Store
from bridge.tools import AnnotationTool
from bridge.tools.files import open_files
from bridge.tools.label_studio import LabelStudio
from bridge.tools.label_studio_connect import connect

_MARKER = ".labelbridge-demo"


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """``folder`` is emptied at every start. ``stay`` keeps the servers running until Ctrl-C."""

    folder: Path
    items: int
    stay: bool


def on_label_studio(settings: Settings, options: DemoOptions, output: Output) -> None:
    """Start a Label Studio and a model server, and run the journey through both.

    Raises:
        LabelbridgeError: a step failed; says which, and what to do. Everything that was started is stopped.
    """
    folder = _fresh(options.folder)
    say = output.say
    say(f"Drawing {options.items} scenes and planting label errors")
    data = demo_dataset.make(folder / "label-studio" / "files" / "images", options.items, max(1, options.items // 10))
    with (
        _interruptible(),
        LabelStudioServer(default_venv(settings.home), folder / "label-studio", say) as server,
        Backend(server.url, server.token, folder / "model-server.log") as backend,
    ):
        mine = _settings(folder, server)
        client = label_studio_client(mine)
        say(f"Making a project of {len(data.records)} labelled and {len(data.unlabelled)} unlabelled tasks")
        project = demo_project.create(client, data, "images")
        tool = LabelStudio(client, project)
        say(f"Connecting the model server {backend.url}")
        connect(client, project, wiring.backend(mine, backend.url))
        with wiring.open_journal(mine) as journal:
            result = _journey(mine, tool, journal, data, output)
        _farewell(output, server, project, result, options, folder)


def on_files(options: DemoOptions, output: Output) -> None:
    """The same journey on a COCO file: no server, and a report instead of a review project."""
    folder = _fresh(options.folder)
    output.say(f"Drawing {options.items} scenes and planting label errors")
    data = demo_dataset.make(folder / "images", options.items, 0)
    demo_dataset.write_coco(data.records, folder / "annotations.json")
    mine = _settings(folder)
    tool = open_files(f"coco:{folder / 'annotations.json'}", folder / "images")
    source = wiring.prediction_source(tool, wiring.SourceOptions(detector="embedded"), mine)
    with wiring.open_journal(mine) as journal, output.progress() as progress:
        scored = score(
            tool,
            source,
            PlantedReview(),
            journal,
            options=ScoreOptions(),
            page_size=mine.push_chunk,
            progress=progress,
        )
        run = journal.store.run(scored.run_id)
        table = _table(journal.store, run, data, mine.min_score)
        report = _write_report(tool, journal, run, mine, Path("report.html"))
    _print_table(output, table)
    output.say(f"Report: {report}")
    output.value({"table": [asdict(row) for row in table], "report": str(report)})


@dataclass(frozen=True, slots=True)
class _Result:
    table: tuple[PlantedRow, ...]
    review_url: str
    flagged_url: str
    pushed: int
    report: Path


def _journey(settings: Settings, tool: LabelStudio, journal: Journal, data: Dataset, output: Output) -> _Result:
    predictor = wiring.load_model(wiring.SourceOptions(), settings.device)
    source = wiring.model_source(tool, predictor, wiring.map_labels(tool, predictor, None), settings)
    with output.progress() as progress:
        output.say(f"Pre-labelling with {predictor.name}")
        prelabel(tool, source, journal, page_size=settings.push_chunk, progress=progress)
        output.say("Scoring what the annotators submitted")
        scored = score(
            tool,
            wiring.prediction_source(tool, wiring.SourceOptions(detector="embedded"), settings),
            PlantedReview(),
            journal,
            options=ScoreOptions(),
            page_size=settings.page_size,
            progress=progress,
        )
        run = journal.store.run(scored.run_id)
        output.say("Pushing the likely errors into a review project")
        options = PushOptions(min_score=settings.min_score, worth=settings.worth)
        pushed = push(tool, run, journal, options=options, chunk=settings.push_chunk, progress=progress)
    waiting = journal.store.findings(target=tool.target, states=(State.PUSHED,))
    flagged = tool.flag_tab(list(dict.fromkeys(s.finding.item_id for s in waiting)))
    report = _write_report(tool, journal, run, settings, settings.home / "report.html")
    table = _table(journal.store, run, data, settings.min_score)
    return _Result(table, pushed.review.url if pushed.review else "", flagged, pushed.pushed, report)


def _farewell(
    output: Output,
    server: LabelStudioServer,
    project: int,
    result: _Result,
    options: DemoOptions,
    folder: Path,
) -> None:
    project_url = f"{server.url}/projects/{project}"
    _print_table(output, result.table)
    output.say("")
    for name, text in (
        ("Label Studio", server.url),
        ("log in with", f"{server.email}   {server.password}"),
        ("the project", f"{project_url}   (open a task: the suggestions are there)"),
        ("flagged items", result.flagged_url),
        ("review project", f"{result.review_url}   ({result.pushed} findings; Label All Tasks, then accept or reject)"),
        ("report", str(result.report)),
    ):
        output.say(f"  {name:<15} {text}")
    output.value(
        {
            "url": server.url,
            "email": server.email,
            "password": server.password,
            "project": project_url,
            "review": result.review_url,
            "flagged": result.flagged_url,
            "report": str(result.report),
            "pushed": result.pushed,
            "table": [asdict(row) for row in result.table],
        }
    )
    if not options.stay:
        return
    output.say("")
    output.say("After reviewing, in another terminal:")
    output.say(f"  export LABELBRIDGE_HOME={folder} LABELBRIDGE_LABEL_STUDIO_URL={server.url}")
    output.say(f"  export LABELBRIDGE_LABEL_STUDIO_API_KEY_FILE={_token_file(folder, server)}")
    output.say(f"  labelbridge sync ls:project/{project}")
    output.say("")
    output.say("Everything runs until you press Ctrl-C.")
    threading.Event().wait()


def _token_file(folder: Path, server: LabelStudioServer) -> Path:
    """The token in a file for its owner's eyes, so that it need not be printed."""
    path = folder / "token"
    path.touch(mode=0o600)
    path.write_text(server.token, encoding="utf-8")
    return path


def _settings(folder: Path, server: LabelStudioServer | None = None) -> Settings:
    """The user's settings, with a data folder of the demo's own, so that the real one stays clean."""
    flags = {"home": folder, "store_url": sqlite_url(folder), "page_size": 100}
    if server is not None:
        flags |= {"label_studio_url": server.url, "label_studio_api_key": server.token}
    return Settings.load(flags=flags)


def _table(store: Store, run: Run, data: Dataset, min_score: float) -> tuple[PlantedRow, ...]:
    found = [s.finding for s in store.findings(run_id=run.id, min_score=min_score)]
    records = [record for chunk in store.chunks(run.id) for record in chunk]
    items = {r.item.name: r.item.id for r in records}
    names = {record.item.id: record.item.name for record in data.records}
    located = [replace(error, item_id=items[names[error.item_id]]) for error in data.planted]
    return tuple(match_planted(_without_prefix(found), located))


def _without_prefix(findings: Sequence[Finding]) -> list[Finding]:
    """Label Studio's annotation ids are ``submission:region``, and the demo's region ids are the data set's."""
    return [replace(f, annotation_ids=tuple(a.rpartition(":")[2] for a in f.annotation_ids)) for f in findings]


def _print_table(output: Output, table: Sequence[PlantedRow]) -> None:
    output.table(
        "Planted label errors, and what the pushed findings found of them",
        ("error", "planted", "found", "recall", "findings", "precision"),
        [(row.error, row.planted, row.found, row.recall, row.findings, row.precision) for row in table],
    )


def _write_report(tool: AnnotationTool, journal: Journal, run: Run, settings: Settings, path: Path) -> Path:
    data = report_data.collect(
        journal.store,
        run,
        gallery=60,
        created_at=journal.now(),
        min_score=settings.min_score,
        worth=settings.worth,
    )
    path.write_text(build_report(data, report_data.view_reader(tool, journal.store, run, settings)), encoding="utf-8")
    return path.resolve()


def _fresh(folder: Path) -> Path:
    """An empty folder of the demo's own; one that holds anything else is never emptied."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / _MARKER).exists():
            raise UsageError(
                f"{folder} holds files that the demo did not make", todo="Name an empty folder: --folder DIR"
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARKER).touch()
    return folder


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does, so that the servers are stopped then too."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
