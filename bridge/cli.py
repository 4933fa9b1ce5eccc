"""The command line: parse, call a journey, print, exit status."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer

from bridge import wiring
from bridge.commands import audit
from bridge.commands.backup import backup, restore
from bridge.commands.export import export
from bridge.commands.options import AsJson, Config, Detector, Target
from bridge.commands.plan import init, plan
from bridge.commands.status import status
from bridge.console import Output
from bridge.core.assignment import Who
from bridge.core.class_balance import ClassBalance, warnings_of
from bridge.core.findings import REVIEWED_TYPES, ErrorType, State
from bridge.core.fingerprints import ALIKE
from bridge.errors import ConfigError, DataError, LabelbridgeError, NotFound, UsageError
from bridge.flows import report_data
from bridge.flows.accept import AcceptOptions
from bridge.flows.accept import accept as run_accept
from bridge.flows.accept import chosen as would_accept
from bridge.flows.cross_fit import CrossFitPredictions
from bridge.flows.failures import raise_if_any
from bridge.flows.independence import Independence
from bridge.flows.outlook import outlook
from bridge.flows.prelabel import prelabel as run_prelabel
from bridge.flows.push import PushOptions, choose
from bridge.flows.push import push as run_push
from bridge.flows.ranking import rank
from bridge.flows.report import build_report
from bridge.flows.sample import SampleSize
from bridge.flows.score import Journal, ScoreOptions
from bridge.flows.score import score as run_score
from bridge.flows.sync import sync as run_sync
from bridge.flows.train import TrainOptions, TrainResult
from bridge.flows.train import train as run_train
from bridge.flows.training_record import copy_out
from bridge.flows.undo import UndoOptions
from bridge.flows.undo import undo as run_undo
from bridge.listings import show_choice, show_findings, show_held_back, show_precision, show_would_accept
from bridge.plan import load_plan
from bridge.scorers.planted_review import PlantedReview
from bridge.service.parts import Part
from bridge.service.set_up import remove_hooks, settle_hooks
from bridge.settings import Settings
from bridge.store import Run, Store
from bridge.tools import AnnotationTool, Review
from bridge.tools.cvat import Cvat
from bridge.tools.cvat_handover import SentBack
from bridge.tools.cvat_issue_list import Issue, read_issues, to_csv
from bridge.tools.cvat_review_plan import ReviewMode, ReviewPlan
from bridge.tools.label_studio import LabelStudio
from bridge.tools.label_studio_connect import connect as connect_backend
from bridge.tools.label_studio_connect import disconnect as disconnect_backend

app = typer.Typer(
    name="labelbridge",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Suggestions in the editor your annotators use, and their likely label errors back as review work.",
    epilog=(
        "Exit status: 0 done, 1 error, 2 wrong words, 3 settings, 4 data, 5 annotation tool, 6 model, "
        "7 data folder, 8 done but for some items, 9 plugin, 130 stopped with Ctrl-C."
    ),
)

app.add_typer(audit.app, name="audit")
app.command()(init)
app.command()(plan)
app.command()(status)
app.command()(backup)
app.command()(restore)
app.command()(export)

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


def _settings(config: Path | None) -> Settings:
    return Settings.load(config)


@app.command()
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
    output, settings = Output(as_json), _settings(config)
    tool = wiring.open_target(target, settings)
    options = _source_options(detector, weights, classes, threshold, label_map)
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


@app.command()
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
    output, settings = Output(as_json), _settings(config)
    tool = wiring.open_target(target, settings, images)
    options = _source_options(detector, weights, classes, threshold, label_map, predictions, predictions_index, model)
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


@app.command()
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
    output, settings = Output(as_json), _settings(config)
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


@app.command()
def runs(
    target: Annotated[str | None, typer.Argument(help="Only this target's runs.")] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List scoring runs, newest first."""
    output, settings = Output(as_json), _settings(config)
    with wiring.open_journal(settings) as journal:
        found = journal.store.runs(target)
    if not found:
        output.say("No runs yet. Start one with `labelbridge score TARGET`.")
    else:
        for r in found:
            state = "finished  " if r.finished_at else "unfinished"
            output.say(f"{r.id}  {r.started_at[:16].replace('T', ' ')}  {state}  {r.target}  {r.title}")
            if r.finished_at:
                model = r.model or "the stored predictions"
                output.say(f"      {r.counts['findings']} findings on {r.counts['items']} items, against {model}")
    output.value([_run_dict(r) for r in found])


@app.command()
def findings(
    target: Target,
    run: RunId = None,
    min_score: Annotated[
        float | None, typer.Option("--min-score", min=0, max=1, help="Lowest score, as the scorer gave it.")
    ] = None,
    types: Types = None,
    states: Annotated[list[State] | None, typer.Option("--state", help="Only this state; may be repeated.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List findings in the order in which their review pays, and say how many real errors to expect."""
    output, settings = Output(as_json), _settings(config)
    with wiring.open_journal(settings) as journal:
        chosen = _find_run(journal.store, target, run)
        ranking = rank(journal.store, chosen, settings.worth)
        wanted = [
            row
            for row in ranking.rows
            if row.head.score >= (min_score or 0)
            and (not types or row.head.error in types)
            and (not states or row.head.state in states)
        ][:limit]
        found = journal.store.findings_of([row.head.id for row in wanted])
        ahead = outlook(journal.store, chosen, ranking, settings.min_score)
    output.say(f"Run {chosen.id} of {target}: {len(found)} of {len(ranking.rows)} findings")
    for warning in Independence.from_dict(chosen.counts.get("independence", {})).warnings(target):
        output.warn(warning)
    show_findings(list(zip(found, wanted, strict=True)), output)
    for line in ahead.lines:
        output.say(line)


@app.command()
def push(
    target: Target,
    run: RunId = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            "--min-score",
            min=0,
            max=1,
            help="Lowest score, whatever verdicts say (default: setting min_score, for the probability they leave).",
        ),
    ] = None,
    types: Types = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most this many, those first that are worth most.")
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option(help="A sample drawn by chance instead, as in 100 or 10%: it tells how many of all are errors."),
    ] = None,
    requeue: Annotated[
        bool, typer.Option("--requeue", help="Queue the items again for a blind second annotator, in the same project.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be pushed.")] = False,
    mode: Annotated[
        ReviewMode, typer.Option("--mode", help="CVAT: as issues, as a review task, or as issues with an overlay.")
    ] = ReviewMode.ISSUES,
    reviewer: Annotated[
        str,
        typer.Option(
            "--reviewer",
            help="Who judges: others (than the annotator), annotator, anyone. CVAT: users too, as in others,mia,zoe.",
        ),
    ] = "",
    open_at_most: Annotated[
        int | None,
        typer.Option("--open-at-most", min=1, help="At most this many without an answer, for each reviewer."),
    ] = None,
    hand_over: Annotated[
        bool,
        typer.Option(
            "--hand-over/--no-hand-over", help="CVAT: whether the jobs with issues go to the stage of validation."
        ),
    ] = True,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Send a run's findings back into the tool as review work. Pushing again sends only what is new."""
    output, settings = Output(as_json), _settings(config)
    who, names = _reviewer(reviewer)
    plan = ReviewPlan(mode, names, hand_over)
    tool = wiring.open_target(target, settings, plan=plan)
    if plan != ReviewPlan() and not isinstance(tool, Cvat):
        raise UsageError(f"{target} is not in CVAT", expected="no --mode, --no-hand-over or names of reviewers there")
    if sample is not None and (min_score, types, limit, open_at_most, requeue) != (None, None, None, None, False):
        raise UsageError(
            "--sample is drawn from all undecided findings",
            expected="no --min-score, --type, --limit, --open-at-most or --requeue",
        )
    if requeue and (who == "annotator" or open_at_most):
        raise UsageError("--requeue always asks others", expected="no --reviewer annotator and no --open-at-most")
    if dry_run and (requeue or sample is not None):
        raise UsageError("--dry-run shows what is pushed by value", expected="no --sample or --requeue")
    options = PushOptions(
        min_score=settings.min_score if min_score is None else min_score,
        by_score=min_score is not None,
        limit=limit,
        errors=tuple(types) if types else REVIEWED_TYPES,
        worth=settings.worth,
        reviewer=who,
        open_per_reviewer=open_at_most,
        sample=None if sample is None else SampleSize.parse(sample),
    )
    with wiring.open_journal(settings, alone_with=None if dry_run else target) as journal:
        chosen = _find_run(journal.store, target, run)
        if dry_run:
            show_choice(journal.store, chosen, options, journal.now(), output)
            return
        if requeue:
            _requeue(tool, journal, chosen, options, output)
            return
        with output.progress() as progress:
            result = run_push(tool, chosen, journal, options=options, chunk=settings.push_chunk, progress=progress)
        # Also when nothing went now: an earlier push may have been cut off before it came to this.
        flagged = wiring.flag_waiting(tool, journal.store) if journal.store.reviews_of(target) else None
        ahead = outlook(journal.store, chosen, rank(journal.store, chosen, settings.worth), settings.min_score)
    if result.review is None:
        output.say(_nothing_to_push(chosen, options))
    else:
        output.say(f"{result.pushed} findings pushed for review: {result.review.url}")
        output.say(f"When reviewers have answered: labelbridge sync {target}")
    for note in tool.notes if isinstance(tool, Cvat) else ():
        output.warn(note)
    if flagged:
        output.say(f"Flagged items in the project itself: {flagged}")
    show_held_back(result, options, target, output)
    if result.no_room:
        output.say(f"{result.no_room} more wait until a reviewer who may judge them has room.")
    for line in ahead.lines:
        output.say(line)
    output.value({**asdict(result), "flagged": flagged, "outlook": asdict(ahead)})
    raise_if_any(result.failures, result.pushed, "pushed")


def _reviewer(text: str) -> tuple[Who, str]:
    """Who is to judge, and the names among the words."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    who = [word for word in words if word in get_args(Who)]
    if len(who) > 1:
        raise UsageError(f"--reviewer {text} says {' and '.join(who)}", expected="one of them")
    return cast(Who, who[0] if who else "anyone"), ",".join(word for word in words if word not in who)


@app.command()
def sync(target: Target, config: Config = None, as_json: AsJson = False) -> None:
    """Bring reviewers' verdicts home and write accepted fixes, never over a newer human edit."""
    output, settings = Output(as_json), _settings(config)
    tool = wiring.open_target(target, settings)
    with wiring.open_journal(settings, alone_with=target) as journal:
        reviews = _reviews(journal.store, target)
        if not reviews and not journal.store.findings(target, states=(State.ACCEPTED, State.APPLIED), limit=1):
            raise NotFound(
                f"nothing of {target} was pushed for review from this data folder ({settings.home})",
                todo=f"Run `labelbridge push {target}` first",
            )
        with output.progress() as progress:
            result = run_sync(tool, reviews, journal, chunk=settings.push_chunk, progress=progress)
        sent_back = tool.send_back_rejected() if isinstance(tool, Cvat) else []
        precision = journal.store.precision(target)
        chosen = _find_run(journal.store, target, None)
        ahead = outlook(journal.store, chosen, rank(journal.store, chosen, settings.worth), settings.min_score)
    if not result.changed and not result.failures and not sent_back:
        output.say("Nothing new: no verdict has come in since the last sync.")
    else:
        verdicts = ", ".join(f"{n} {d}" for d, n in sorted(result.verdicts.items())) or "none"
        fixes = ", ".join(f"{n} {o}" for o, n in sorted(result.fixes.items())) or "none"
        output.say(f"Verdicts: {verdicts}. Fixes: {fixes}. Verified {result.verified}, reopened {result.reopened}.")
    if result.withdrawn:
        output.say(f"{result.withdrawn} findings are no longer suspected, and were taken out of review.")
    for doubt in result.doubted:
        output.say(f"Fixed as the reviewer wanted it: {doubt}")
    for note in tool.notes if isinstance(tool, Cvat) else ():
        output.warn(note)
    _show_sent_back(sent_back, output)
    if result.foreign:
        output.say(f"{result.foreign} answers are about findings of another data folder, and were left to it.")
    for conflict in result.conflicts:
        output.warn(f"Conflict, left as it is: {conflict}")
    show_precision(precision, output)
    for line in ahead.lines:
        output.say(line)
    output.value(
        {
            **asdict(result),
            "precision": [asdict(p) for p in precision],
            "sent_back": [asdict(j) for j in sent_back],
            "outlook": asdict(ahead),
        }
    )
    raise_if_any(result.failures, sum(result.verdicts.values()), "synced")


@app.command()
def accept(
    target: Target,
    min_score: Annotated[float, typer.Option("--min-score", min=0, max=1, help="Lowest probability.")],
    types: Types = None,
    label: Annotated[str | None, typer.Option("--label", help="Only objects labelled so.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many, the likeliest first.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be accepted.")] = False,
    run: RunId = None,
    by: By = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Accept many findings without a reviewer. The next `sync` writes their fixes; `undo --batch` takes them back."""
    output, settings = Output(as_json), _settings(config)
    tool = wiring.open_target(target, settings)
    if not tool.describe().writable:
        raise UsageError(f"{target} is read-only: no fix could be written", expected="a target such as ls:project/7")
    options = AcceptOptions(min_score, tuple(types) if types else REVIEWED_TYPES, label, limit)
    with wiring.open_journal(settings, alone_with=None if dry_run else target) as journal:
        chosen = _find_run(journal.store, target, run)
        if dry_run:
            show_would_accept(would_accept(journal.store, chosen, options), output)
            return
        reviews = _reviews(journal.store, target)
        with output.progress() as progress:
            result = run_accept(
                tool,
                reviews,
                chosen,
                journal,
                options=options,
                by=by or wiring.operator(),
                chunk=settings.push_chunk,
                progress=progress,
            )
    output.say(f"{result.accepted} findings accepted as batch {result.batch}.")
    if result.left:
        output.say(f"Left to reviewers, who have begun to judge them: {', '.join(result.left)}")
    if result.accepted:
        output.say(f"Next: labelbridge sync {target}   ·   labelbridge undo {target} --batch {result.batch}")
    output.value(asdict(result))


@app.command()
def undo(
    target: Target,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[FINDING]...", help="Ids of findings.")] = None,
    since: Annotated[
        str | None, typer.Option(help="All fixes written since then, as in 2026-11-20T14:00 (local time).")
    ] = None,
    batch: Annotated[str | None, typer.Option(help="What `accept` accepted as this batch.")] = None,
    by: By = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Take written fixes back, only where the object is just as the fix left it."""
    output, settings = Output(as_json), _settings(config)
    if sum(map(bool, (ids, since, batch))) != 1:
        raise UsageError("what is to be undone is not clear", expected="ids of findings, --since or --batch")
    options = UndoOptions(tuple(ids or ()), None if since is None else _moment(since), batch)
    tool = wiring.open_target(target, settings)
    with wiring.open_journal(settings, alone_with=target) as journal, output.progress() as progress:
        by, chunk = by or wiring.operator(), settings.push_chunk
        result = run_undo(tool, journal, options=options, by=by, chunk=chunk, progress=progress)
    output.say(
        f"{result.undone} fixes undone. {result.unwritten} findings taken back of which nothing was written yet."
    )
    for conflict in result.conflicts:
        output.warn(f"Not undone, left as it is: {conflict}")
    output.value(asdict(result))


def _moment(text: str) -> str:
    try:
        return datetime.fromisoformat(text).astimezone().isoformat()
    except ValueError:
        raise UsageError(f"--since {text!r} is no point in time", expected="such as 2026-11-20T14:00") from None


def _reviews(store: Store, target: str) -> list[Review]:
    return [Review(p.ref, p.url, created=False, mode=p.mode) for p in store.reviews_of(target)]


@app.command("send-back")
def send_back(target: Target, config: Config = None, as_json: AsJson = False) -> None:
    """Return CVAT's jobs in review to those who annotated them. `sync` does it for jobs that a reviewer rejected."""
    output = Output(as_json)
    tool = wiring.open_target(target, _settings(config))
    if not isinstance(tool, Cvat):
        raise UsageError(f"{target} has no jobs", expected="a target in CVAT, like cvat:job/45")
    sent_back = tool.send_back()
    if not sent_back:
        output.say(f"Nothing to send back: no job of {target} is past annotation.")
    _show_sent_back(sent_back, output)
    output.value([asdict(job) for job in sent_back])


def _show_sent_back(jobs: Sequence[SentBack], output: Output) -> None:
    for job in jobs:
        whom = f"to {job.annotator}" if job.annotator else "to be assigned: nobody is known to have annotated it"
        output.say(f"Job {job.job} was sent back {whom}: {job.url}")


@app.command()
def suggestions(target: Target, config: Config = None, as_json: AsJson = False) -> None:
    """Show what annotators in CVAT made of the suggestions that `prelabel` wrote: kept, changed, removed."""
    output = Output(as_json)
    tool = wiring.open_target(target, _settings(config))
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


@app.command()
def issues(
    target: Target,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write them to this file: .csv for a table, .json for all.")
    ] = None,
    only_open: Annotated[bool, typer.Option("--open", help="Leave resolved issues out.")] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List or export CVAT's issues with their comments, frames and links; also those that people made."""
    output, settings = Output(as_json), _settings(config)
    tool = wiring.open_target(target, settings)
    if not isinstance(tool, Cvat):
        raise UsageError(f"{target} has no issues", expected="a target in CVAT, like cvat:project/3")
    if out is not None and out.suffix.lower() not in (".csv", ".json"):
        raise UsageError(f"{out.name} is no table and no JSON file", expected="a name that ends in .csv or .json")
    found = list(read_issues(tool, only_open=only_open))
    values = [asdict(issue) for issue in found]
    if out is not None:
        text = to_csv(found) if out.suffix.lower() == ".csv" else json.dumps(values, indent=2, ensure_ascii=False)
        out.write_text(text, encoding="utf-8")
        output.say(f"{len(found)} issues written to {out}")
    elif found:
        output.table(
            f"Issues of {target}",
            ("issue", "state", "frame", "last comment", "link"),
            [(i.id, i.state, i.frame_name, _last_words(i), i.url) for i in found],
        )
    else:
        output.say(f"{target} has no {'open ' if only_open else ''}issue.")
    output.value(values)


def _last_words(issue: Issue) -> str:
    if not issue.comments:
        return ""
    last = issue.comments[-1]
    return f"{last.author}: {last.text.splitlines()[0][:80] if last.text.strip() else ''}"


@app.command()
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
    output, settings = Output(as_json), _settings(config)
    tool = wiring.open_target(target, settings, images)
    with wiring.open_journal(settings) as journal:
        chosen = _find_run(journal.store, target, run)
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


@app.command()
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
    options = _source_options(detector, weights, classes, threshold, label_map)
    parts = set(only or (Part if plan.projects else [Part.MODELS]))
    if parts - {Part.MODELS}:
        stop_when_terminated()
    with standing(plan, parts):
        if Part.MODELS in parts:
            wiring.serve(plan.settings, options, interactor=interactor, host=host, port=port)
        else:
            wait_for_the_end()


@app.command()
def connect(
    target: Target,
    backend_url: Annotated[
        str | None, typer.Option("--backend-url", help="The model server's address as Label Studio sees it.")
    ] = None,
    only_hooks: Annotated[bool, typer.Option("--only-hooks", help="Webhooks alone, without the model server.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Disconnect instead, webhooks included.")] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Connect a Label Studio project to the running model server, and tell the tool where to send its webhooks.

    Webhooks need the setting hooks_secret. In CVAT they are all that is set up: it finds the model server by itself.
    """
    output, settings = Output(as_json), _settings(config)
    tool = wiring.open_target(target, settings)
    with Store.open(settings.store_url) as store:
        reviews = store.reviews_of(target)
    studio = None if only_hooks or isinstance(tool, Cvat) else _label_studio(tool)
    server = wiring.backend(settings, backend_url)
    if remove:
        gone = disconnect_backend(studio.client, studio.project_id, server.url) if studio else 0
        hooks = remove_hooks(tool, reviews)
        if studio:
            output.say(
                f"Disconnected {server.url} from {target}." if gone else f"{server.url} was not connected to {target}."
            )
        output.say(f"{hooks} webhooks of {target} removed.")
        output.value({"disconnected": gone, "webhooks": hooks})
        return
    hook = wiring.hook_address(settings)
    if hook is None and studio is None:
        raise ConfigError(
            "LABELBRIDGE_HOOKS_SECRET is not set",
            expected="a secret of 16 characters or more, which the tool proves itself with",
            todo="Set it here and where `labelbridge serve` runs",
        )
    made: dict[str, Any] = {"warnings": ()}
    if studio:
        connection = connect_backend(studio.client, studio.project_id, server)
        output.say(f"{connection.url} is {'now' if connection.created else 'still'} connected to {target}.")
        made = asdict(connection)
    why_not = settle_hooks(tool, hook, reviews) if hook else ()
    made |= {"webhook": hook is not None and not why_not, "warnings": (*made["warnings"], *why_not)}
    for warning in made["warnings"]:
        output.warn(warning)
    if hook is None:
        output.say("No webhooks, as LABELBRIDGE_HOOKS_SECRET is not set: changes are found by polling.")
    elif not why_not:
        output.say(f"Webhooks of {target} go to {hook.base}.")
    output.value(made)


@app.command()
def doctor(
    target: Annotated[str | None, typer.Argument(help="A target to check as well, as in ls:project/7.")] = None,
    backend_url: Annotated[
        str | None, typer.Option("--backend-url", help="The model server's address as Label Studio sees it.")
    ] = None,
    detector: Detector = None,
    label_map: LabelMapOption = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Check settings, tokens, Label Studio's switches, the model server and the label map; print the lines to set."""
    from bridge.doctor import examine

    output = Output(as_json)
    checks = examine(_settings(config), target, backend_url, detector, label_map)
    for check in checks:
        mark = "[green]ok[/green]     " if check.ok else "[red]problem[/red]"
        if not as_json:
            output.out.print(f"{mark} [bold]{check.name}[/bold]", end="  ")
            output.say(check.found)
            for line in check.todo.splitlines():
                output.say(f"          {line}")
    output.value([asdict(c) for c in checks])
    if not all(c.ok for c in checks):
        raise typer.Exit(1)


@app.command()
def demo(
    exit_: Annotated[bool, typer.Option("--exit", help="Stop as soon as the journey is done.")] = False,
    no_server: Annotated[
        bool, typer.Option("--no-server", help="Without Label Studio: on files, writing report.html.")
    ] = False,
    items: Annotated[int, typer.Option(min=8, max=2000, help="How many images.")] = 60,
    folder: Annotated[Path | None, typer.Option(help="Where the demo keeps its files (default: <home>/demo).")] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Run the whole journey on drawn scenes with planted label errors, against a real Label Studio."""
    from bridge.demo import journey

    output, settings = Output(as_json), _settings(config)
    where = folder or settings.home / "demo"
    options = journey.DemoOptions(folder=where, items=items, stay=not exit_)
    if no_server:
        journey.on_files(options, output)
    else:
        journey.on_label_studio(settings, options, output)


def _source_options(
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


def _find_run(store: Store, target: str, run_id: str | None) -> Run:
    run = store.run(run_id) if run_id else next((r for r in store.runs(target) if r.finished_at), None)
    if run is None:
        raise NotFound(f"{target} has not been scored yet", todo=f"Run `labelbridge score {target}` first")
    if run.target != target:
        raise UsageError(f"run {run.id} belongs to {run.target}, not to {target}")
    return run


def _label_studio(tool: AnnotationTool) -> LabelStudio:
    if not isinstance(tool, LabelStudio):
        raise UsageError(f"{tool.target} is not in Label Studio", expected="a target like ls:project/7")
    return tool


def _nothing_to_push(run: Run, options: PushOptions) -> str:
    if options.sample is not None:
        return f"Nothing to push: the sample of run {run.id} is up for review already."
    measure = "scores" if options.by_score else "has a probability of"
    return f"Nothing to push: no undecided finding of run {run.id} {measure} {options.min_score:g} or more."


def _requeue(tool: AnnotationTool, journal: Journal, run: Run, options: PushOptions, output: Output) -> None:
    found = journal.store.findings_of(choose(journal.store, run, options, journal.now()).ids)
    items = list(dict.fromkeys(s.finding.item_id for s in found))
    journal.store.note("requeue", run.target, {"run": run.id, "items": items}, journal.now())
    queued = _label_studio(tool).requeue(items)
    output.say(f"{queued} of {len(items)} flagged items queued again for another annotator.")
    output.value({"requeued": queued, "items": items})


def _run_dict(run: Run) -> dict[str, Any]:
    return {**asdict(run), "labels": list(run.labels.names)}


def main() -> None:
    """Entry point of the console command: no traceback for anything labelbridge raises on purpose."""
    # PyTorch's threads otherwise spin while they wait, and on a busy machine make one another many times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except LabelbridgeError as error:
        Output("--json" in sys.argv).error(error)
        raise SystemExit(error.exit_status) from None
    except SystemExit as ended:
        if ended.code != 130:  # what Typer makes of Ctrl-C
            raise
        Output().err.print("Stopped. Run the same command again to go on.")
        sys.stdout.flush()
        # A step may be waiting for an answer that never comes. It is left as a crash would leave it, which is safe.
        os._exit(130)
