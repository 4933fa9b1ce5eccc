"""Findings and what verdicts say of them, as the commands print them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bridge.console import Output
from bridge.core.findings import State
from bridge.flows.push import PushOptions, PushResult
from bridge.flows.ranking import Ranked
from bridge.store import PrecisionRow, StoredFinding


def show_findings(found: Sequence[tuple[StoredFinding, Ranked]], output: Output) -> None:
    """Two lines for each finding; as JSON, all that is known of it."""
    if found:
        output.say(f"{'prob.':<7}{'score':<7}{'error':<13}{'state':<11}{'id':<18}image")
    for stored, ranked in found:
        f = stored.finding
        output.say(f"{ranked.probability:<7.2f}{f.score:<7.2f}{f.error:<13}{stored.state:<11}{f.id:<18}{f.item_name}")
        output.say(f"       {f.reason}")
    output.value([_finding_dict(stored, ranked) for stored, ranked in found])


def show_held_back(result: PushResult, options: PushOptions, target: str, output: Output) -> None:
    """What was not pushed because of verdicts, and how to push it all the same."""
    if result.held_back:
        output.say(
            f"Held back: {result.held_back} findings that score {options.min_score:g} or more, as reviewers rejected "
            "most of their like. "
            f"To push them all the same: labelbridge push {target} --min-score {options.min_score:g}"
        )


def show_would_accept(found: Sequence[StoredFinding], output: Output) -> None:
    """What a bulk accept would take, by error type and class; as JSON, their ids."""
    kinds = Counter((str(s.finding.error), s.finding.label) for s in found)
    waiting = sum(s.state is State.PUSHED for s in found)
    output.say(f"{len(found)} findings would be accepted; {waiting} of them are up for review and would leave it.")
    output.table("", ("error", "label", "findings"), [(*kind, count) for kind, count in sorted(kinds.items())])
    output.value([s.finding.id for s in found])


def show_precision(rows: Sequence[PrecisionRow], output: Output) -> None:
    """How often reviewers agreed, with the interval in which the share of real errors lies."""
    if rows:
        output.table(
            "Reviewed so far",
            ("scorer", "error", "label", "accepted", "rejected", "share", "95 % interval"),
            [
                (r.scorer, r.error, r.label, r.accepted, r.rejected, r.share, "{:.2f} to {:.2f}".format(*r.interval))
                for r in rows
            ],
        )


def _finding_dict(stored: StoredFinding, ranked: Ranked) -> dict[str, Any]:
    return {
        **stored.finding.to_dict(),
        "probability": ranked.probability,
        "value": ranked.value,
        "state": str(stored.state),
        "pushed": [asdict(p) for p in stored.pushed],
        "verdict": stored.verdict.decision if stored.verdict else None,
    }
