"""An unbiased preview: a sample of the findings drawn by chance, and what its verdicts say about all of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from bridge.core.annotations import digest
from bridge.core.findings import REVIEWED_TYPES, UNDECIDED
from bridge.core.moments import parse_moment
from bridge.core.sampling import Estimate, estimate_rate, strata, stratified_sample
from bridge.core.track_record import band_of
from bridge.errors import UsageError
from bridge.store import Run, SampledFinding, Store


@dataclass(frozen=True, slots=True)
class SampleSize:
    """A number of findings, or a share of them in percent."""

    amount: float
    in_percent: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """``50`` or ``10%``. Raises ``UsageError``."""
        found = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?) ?%", text.strip())
        amount = float(found[1] or found[2]) if found else 0.0
        in_percent = bool(found and found[2])
        if amount <= 0 or (in_percent and amount > 100):
            raise UsageError(
                f"a sample of {text!r}", expected="a number of findings such as 50, or a share such as 10%"
            )
        return cls(amount, in_percent)

    def of(self, total: int) -> int:
        """How many of ``total``; at least 1."""
        return min(total, max(1, round(self.amount * total / 100)) if self.in_percent else int(self.amount))


@dataclass(frozen=True, slots=True)
class SampleStanding:
    """What is known from a sample.

    Attributes:
        run_id: the run whose findings were sampled.
        drawn, judged: findings in the sample, and those of them with a verdict.
        total: undecided findings when it was drawn, the sample among them.
        rate: the share of real errors among those.
        left: how many real errors among those nobody has accepted yet.
    """

    run_id: str
    drawn: int
    judged: int
    total: int
    rate: Estimate
    left: Estimate


def draw(store: Store, run: Run, size: SampleSize, now: str) -> list[str]:
    """Draw a sample of a run's undecided findings, and note it; the ids of its members, in an order of chance.

    A run has one sample: asked for again, it is that one. What is drawn depends on the run and its findings alone.

    Raises:
        UsageError: the run has a sample of another size.
    """
    known = store.sample(run.id)
    if known:
        fitting = size.of(_total(known))
        if fitting != len(known):
            raise UsageError(
                f"run {run.id} has a sample of {len(known)} findings already, not of {fitting}",
                expected="one sample of a run: two cannot be judged as one",
                todo=f"Go on with --sample {len(known)}, or score again and sample the new run",
            )
    else:
        known = _drawn(store, run, size, now)
        store.put_sample(run.id, known)
    return sorted((member.finding_id for member in known), key=lambda key: digest(["order", run.id, key]))


def standing(store: Store, target: str) -> SampleStanding | None:
    """What the verdicts on the target's latest sample say so far; None where none was drawn."""
    run_id = store.latest_sampled_run(target)
    if run_id is None:
        return None
    drawn = store.sample(run_id)
    # Findings that came back after their fix was undone have an older verdict too, which is not about this sample.
    since = parse_moment(drawn[0].drawn_at)
    real = {j.finding_id: j.real for j in store.judged(target) if parse_moment(j.recorded_at) >= since}
    stratum = np.array([member.stratum for member in drawn])
    size = np.zeros(stratum.max() + 1, np.int64)
    size[stratum] = [member.size for member in drawn]
    has_verdict = np.array([member.finding_id in real for member in drawn])
    is_real = np.array([real.get(member.finding_id, False) for member in drawn])
    judged, hits = (np.bincount(stratum[rows], minlength=len(size)) for rows in (has_verdict, is_real))
    rate, total = estimate_rate(size, judged, hits), _total(drawn)
    found = sum(real.get(head.id, False) for head in store.heads(run_id) if head.error in REVIEWED_TYPES)
    left = Estimate(*(max(0.0, share * total - found) for share in (rate.value, rate.low, rate.high)))
    return SampleStanding(run_id, len(drawn), int(judged.sum()), total, rate, left)


def _drawn(store: Store, run: Run, size: SampleSize, now: str) -> list[SampledFinding]:
    heads = [h for h in store.heads(run.id) if h.error in REVIEWED_TYPES and h.state in UNDECIDED]
    count = size.of(len(heads))
    band = band_of(np.array([h.score for h in heads], dtype=np.float64)).tolist()
    stratum = strata([(h.error, b, h.label) for h, b in zip(heads, band, strict=True)], count)
    members = np.bincount(stratum)
    rows = stratified_sample([h.id for h in heads], stratum, count, run.id)
    return [SampledFinding(heads[r].id, int(stratum[r]), int(members[stratum[r]]), now) for r in rows.tolist()]


def _total(drawn: Sequence[SampledFinding]) -> int:
    return sum({member.stratum: member.size for member in drawn}.values())
