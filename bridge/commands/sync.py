"""The commands that bring verdicts home, and send work back to annotators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from bridge import wiring
from bridge.commands.lookup import find_run, review_places
from bridge.commands.options import (
    AsJson,
    Config,
    Target,
)
from bridge.console import Output
from bridge.core.findings import State
from bridge.errors import NotFound, UsageError
from bridge.flows.failures import raise_if_any
from bridge.flows.outlook import outlook
from bridge.flows.ranking import rank
from bridge.flows.sync import sync as run_sync
from bridge.listings import show_precision
from bridge.settings import Settings
from bridge.tools.cvat import Cvat
from bridge.tools.cvat_handover import SentBack


def sync(target: Target, config: Config = None, as_json: AsJson = False) -> None:
    """Bring reviewers' verdicts home and write accepted fixes, never over a newer human edit."""
    output, settings = Output(as_json), Settings.load(config)
    tool = wiring.open_target(target, settings)
    with wiring.open_journal(settings, alone_with=target) as journal:
        reviews = review_places(journal.store, target)
        if not reviews and not journal.store.findings(target, states=(State.ACCEPTED, State.APPLIED), limit=1):
            raise NotFound(
                f"nothing of {target} was pushed for review from this data folder ({settings.home})",
                todo=f"Run `labelbridge push {target}` first",
            )
        with output.progress() as progress:
            result = run_sync(tool, reviews, journal, chunk=settings.push_chunk, progress=progress)
        sent_back = tool.send_back_rejected() if isinstance(tool, Cvat) else []
        precision = journal.store.precision(target)
        chosen = find_run(journal.store, target, None)
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


def send_back(target: Target, config: Config = None, as_json: AsJson = False) -> None:
    """Return CVAT's jobs in review to those who annotated them. `sync` does it for jobs that a reviewer rejected."""
    output = Output(as_json)
    tool = wiring.open_target(target, Settings.load(config))
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
