"""The command that sends findings to review."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, cast, get_args

import typer

from bridge import wiring
from bridge.commands.lookup import find_run, label_studio
from bridge.commands.options import (
    AsJson,
    Config,
    RunId,
    Target,
    Types,
)
from bridge.console import Output
from bridge.core.assignment import Who
from bridge.core.findings import REVIEWED_TYPES
from bridge.errors import UsageError
from bridge.flows.failures import raise_if_any
from bridge.flows.outlook import outlook
from bridge.flows.push import PushOptions, choose
from bridge.flows.push import push as run_push
from bridge.flows.ranking import rank
from bridge.flows.sample import SampleSize
from bridge.flows.score import Journal
from bridge.listings import show_choice, show_held_back
from bridge.settings import Settings
from bridge.store import Run
from bridge.tools import AnnotationTool
from bridge.tools.cvat import Cvat
from bridge.tools.cvat_review_plan import ReviewMode, ReviewPlan


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
    output, settings = Output(as_json), Settings.load(config)
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
        chosen = find_run(journal.store, target, run)
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


def _nothing_to_push(run: Run, options: PushOptions) -> str:
    if options.sample is not None:
        return f"Nothing to push: the sample of run {run.id} is up for review already."
    measure = "scores" if options.by_score else "has a probability of"
    return f"Nothing to push: no undecided finding of run {run.id} {measure} {options.min_score:g} or more."


def _requeue(tool: AnnotationTool, journal: Journal, run: Run, options: PushOptions, output: Output) -> None:
    found = journal.store.findings_of(choose(journal.store, run, options, journal.now()).ids)
    items = list(dict.fromkeys(s.finding.item_id for s in found))
    journal.store.note("requeue", run.target, {"run": run.id, "items": items}, journal.now())
    queued = label_studio(tool).requeue(items)
    output.say(f"{queued} of {len(items)} flagged items queued again for another annotator.")
    output.value({"requeued": queued, "items": items})
