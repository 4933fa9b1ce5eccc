"""Findings and what verdicts say of them, as the commands print them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bridge.console import Output
from bridge.core.findings import State
from bridge.flows.push import PushOptions, PushResult, choose
from bridge.flows.ranking import Ranked, rank
from bridge.plan import Plan, ProjectPlan
from bridge.store import PrecisionRow, Run, Store, StoredFinding


def show_findings(found: Sequence[tuple[StoredFinding, Ranked]], output: Output) -> None:
    """Two lines for each finding; as JSON, all that is known of it."""
    if found:
        output.say(f"{'prob.':<7}{'score':<7}{'error':<13}{'state':<11}{'id':<18}image")
    for stored, ranked in found:
        f = stored.finding
        output.say(f"{ranked.probability:<7.2f}{f.score:<7.2f}{f.error:<13}{stored.state:<11}{f.id:<18}{f.item_name}")
        output.say(f"       {f.reason}")
    output.value([_finding_dict(stored, ranked) for stored, ranked in found])


def show_choice(store: Store, run: Run, options: PushOptions, now: str, output: Output) -> None:
    """The findings that a push would send now, in the order in which they would go."""
    ids = choose(store, run, options, now).ids
    ranked = {row.head.id: row for row in rank(store, run, options.worth).rows}
    output.say(f"{len(ids)} findings of run {run.id} of {run.target} would be pushed now.")
    show_findings([(stored, ranked[stored.finding.id]) for stored in store.findings_of(ids)], output)


def show_plan(plan: Plan, would_go: Mapping[str, int | None], output: Output) -> None:
    """A line for each project: what is done by itself, and how many findings would be pushed now."""
    if not plan.projects:
        output.say("The settings file has no projects: nothing is done by itself. `labelbridge init` drafts one.")
    else:
        rows = [(p.target, *_policy_words(p), would_go[p.target]) for p in plan.projects.values()]
        output.table("", ("project", "pre-label", "score", "push", "sync", "would push now"), rows)
    output.value([{**asdict(p), "would_push": would_go[p.target]} for p in plan.projects.values()])


def _policy_words(project: ProjectPlan) -> tuple[str, str, str, str]:
    policy = project.policy
    score, push, sync = policy.score, policy.push, policy.sync_every_s
    return (
        "on" if policy.prelabel else "off",
        f"{score.at_least} items or {_span(score.at_latest_s)}" if score else "off",
        "off" if push is None else f"from {push.min_score:g}{', only noted' if push.dry_run else ''}",
        f"every {_span(sync)}" if sync else "off",
    )


def _span(seconds: float) -> str:
    """``90s``, ``15m``, ``2h``: in the largest unit of which it is a whole number."""
    size, unit = next((u for u in ((86400, "d"), (3600, "h"), (60, "m")) if seconds % u[0] == 0), (1, "s"))
    return f"{seconds / size:g}{unit}"


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
