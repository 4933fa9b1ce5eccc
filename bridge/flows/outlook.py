"""What a lead is told about the findings to come, in the words of the command line and the report."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bridge.core.sampling import Estimate
from bridge.flows.ranking import Ranking
from bridge.flows.sample import SampleStanding, standing
from bridge.store import Run, Store

#: As many findings as a reviewer answers in one sitting.
SITTING = 50


@dataclass(frozen=True, slots=True)
class Outlook:
    """What to expect of a run's review.

    Attributes:
        ahead: how many findings come next, at most :data:`SITTING`.
        expected: how many of those are real errors.
        verdicts: how many verdicts this is learned from.
        sample: what a sample says about all findings; None where none was drawn.
    """

    ahead: int
    expected: Estimate
    verdicts: int
    sample: SampleStanding | None

    @property
    def lines(self) -> list[str]:
        """Sentences for a person; none where nothing is ahead and nothing was sampled."""
        return [*self._of_next(), *self._of_sample()]

    def _of_next(self) -> list[str]:
        if not self.ahead:
            return []
        findings = "finding" if self.ahead == 1 else f"{self.ahead} findings"
        known = "1 verdict" if self.verdicts == 1 else f"{self.verdicts} verdicts"
        basis = f"learned from {known}" if self.verdicts else "by the scores alone, no verdicts yet"
        return [f"Expect {_number(self.expected)} real errors in the next {findings} ({basis})."]

    def _of_sample(self) -> list[str]:
        known = self.sample
        if known is None:
            return []
        home = f"{known.judged} of {known.drawn} sampled findings have a verdict"
        if not known.judged:
            return [f"{home}: no estimate of the rate of errors yet."]
        rate = known.rate
        so_far = f" So far: {home}." if known.judged < known.drawn else ""
        return [
            f"By the sample of run {known.run_id}, {rate.value:.0%} of its {known.total} undecided findings were real "
            f"errors (95 % interval {rate.low:.0%} to {rate.high:.0%}); {_number(known.left)} are still to be accepted."
            f"{so_far}"
        ]


def outlook(store: Store, run: Run, ranking: Ranking, min_score: float) -> Outlook:
    """What to expect of the next findings of a run, and of all. ``min_score`` is what a push asks for."""
    ahead = ranking.ahead(SITTING, min_score)
    return Outlook(
        ahead=len(ahead),
        expected=ranking.expect(ahead),
        verdicts=ranking.verdicts,
        sample=standing(store, run.target),
    )


def _number(estimate: Estimate) -> str:
    """``31 ± 4``, or ``48 (40 to 50)`` where it may differ by more to one side."""
    middle, low, high = round(estimate.value), math.floor(estimate.low), math.ceil(estimate.high)
    below, above = middle - low, high - middle
    return f"{middle} ± {max(below, above)}" if abs(below - above) <= 1 else f"{middle} ({low} to {high})"
