"""What is gained by learning from verdicts: reviews simulated on data whose errors are known.

``python benchmarks/quality/verdicts.py FOLDER [--rounds 40] [--seeds 200]``

FOLDER is as for ``detection.py``. A reviewer who is always right answers the findings in rounds of 50. Before each
round the program says how many of them are real errors, with its 95 % interval, knowing the verdicts of the rounds
before. Three orders are compared: by score; by value for the reviewer's time without learning; and by value, learned.

Scorers: planted review, the formulas alone, and planted review made overconfident (log odds doubled) and underconfident
(2 taken off them), as a foreign scorer may be. Last, planted review where the project has a rule that the model cannot
know: missing objects of the commonest class are left out on purpose, so that none of them is an error.

Then samples of 100 findings, each with another seed, say what share of all findings are real errors.

Last, how honest the probabilities are: the expected calibration error on each half of the images, with no verdicts, and
with verdicts on that many findings of the other half, drawn by chance.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from detection import SHOWN, _evaluation, as_findings, reliability, typed_hits
from detection_input import read_workload

from bridge.core.findings import REVIEWED_TYPES, ErrorType
from bridge.core.sampling import Estimate, estimate_rate, strata, stratified_sample
from bridge.core.track_record import Floats, Ints, Judged, TrackRecord, band_of
from bridge.core.worth import GAIN, SECONDS
from bridge.scorers import Scorer
from bridge.scorers.object_review import ObjectReview
from bridge.scorers.planted_review import PlantedReview

ROUND = 50
MILESTONES = (200, 500, 1000, 2000)
VERDICTS = (0, 50, 100, 200, 500, 1000, 10_000)


@dataclass(frozen=True)
class Known:
    """The findings that people are shown: (N,) error type, class, score, whether each is real, and on which image."""

    error: Ints
    label: Ints
    score: Floats
    real: Ints
    unit: Ints

    @property
    def seconds(self) -> Floats:
        return np.array([SECONDS[e] for e in REVIEWED_TYPES])[self.error]

    @property
    def gain(self) -> Floats:
        return np.array([GAIN[e] for e in REVIEWED_TYPES])[self.error]

    def moved(self, scale: float, shift: float) -> Known:
        """By another scorer, whose log odds are ``scale * z + shift``."""
        odds = np.log(self.score) - np.log1p(-np.minimum(self.score, 1 - 1e-12))
        return replace(self, score=1 / (1 + np.exp(-(scale * odds + shift))))

    def with_a_rule(self) -> Known:
        """Missing objects of the class with most of them are no errors."""
        missing = self.error == REVIEWED_TYPES.index(ErrorType.MISSING)
        common = np.bincount(self.label[missing]).argmax()
        return replace(self, real=np.where(missing & (self.label == common), 0, self.real))


@dataclass
class Review:
    """What a simulated review came to: the rows in the order of review, and the promise for each round."""

    rows: Ints
    promises: list[Estimate]


def read(folder: Path, scorer: Scorer) -> Known:
    coco = json.loads((folder / "corrupted.json").read_text())
    truth = json.loads((folder / "truth.json").read_text())["errors"]
    workload = read_workload(coco, folder / "predictions_frcnn.json")
    suspects = scorer.score(workload)
    hits = typed_hits(_evaluation(folder.parent / "evaluate.py"), truth, as_findings(workload, suspects))
    own = np.where(suspects.given >= 0, workload.given.label[suspects.given], -1)
    label = np.where(own >= 0, own, workload.predicted.label[suspects.predicted])
    unit = np.where(
        suspects.given >= 0, workload.given.unit[suspects.given], workload.predicted.unit[suspects.predicted]
    )
    columns = (suspects.error.astype(np.int64), label, suspects.score, hits.astype(np.int64), unit)
    return Known(*(column[suspects.score >= SHOWN] for column in columns))


def review(known: Known, rounds: int, learn: bool, by_value: bool) -> Review:
    verdict = np.full(len(known.score), -1)
    rows: list[int] = []
    promises = []
    worth = known.gain / known.seconds if by_value else np.ones(len(known.score))
    record = TrackRecord(Judged(known.error, known.label, known.score, verdict))
    for _ in range(min(rounds, len(known.score) // ROUND)):
        if learn:
            record = TrackRecord(Judged(known.error, known.label, known.score, verdict))
        order = np.lexsort((-known.score, -record.probability * worth))
        ahead = order[verdict[order] < 0][:ROUND]
        promises.append(record.expect(ahead))
        verdict[ahead] = known.real[ahead]
        rows += ahead.tolist()
    return Review(np.array(rows), promises)


def print_orders(known: Known, rounds: int) -> None:
    plain, valued = review(known, rounds, False, False), review(known, rounds, False, True)
    learned = review(known, rounds, True, True)
    minutes = min(float(known.seconds[r.rows].sum()) for r in (plain, valued, learned)) / 60
    print(
        f"  {'real errors among the first':34s}" + "".join(f"{m:>7d}" for m in MILESTONES) + f"  in {minutes:.0f} min"
    )
    for name, one in (("by score", plain), ("by value", valued), ("by value, learned", learned)):
        hits = np.cumsum(known.real[one.rows])
        spent = np.cumsum(known.seconds[one.rows]) / 60
        found = [int(hits[m - 1]) if m <= len(hits) else None for m in MILESTONES]
        cells = "".join(f"{'-' if n is None else n:>7}" for n in found)
        print(f"  {name:34s}{cells}  {int(hits[np.searchsorted(spent, minutes - 1e-9)]):>6d}")
    print_promises(known, learned)


def print_promises(known: Known, learned: Review) -> None:
    hits = known.real[learned.rows].reshape(-1, ROUND).sum(axis=1)
    low, value, high = (np.array([getattr(p, n) for p in learned.promises]) for n in ("low", "value", "high"))
    # As people are told it, in whole numbers.
    kept = (np.floor(low) <= hits) & (hits <= np.ceil(high))
    print(f"  promised and found in each round of {ROUND}:")
    print(
        "   " + "  ".join(f"{v:.0f} ({a:.0f}-{b:.0f}) {h}" for v, a, b, h in zip(value, low, high, hits, strict=True))
    )
    print(
        f"  kept in {kept.mean():.0%} of {len(kept)} rounds, {kept[1:].mean():.0%} after the first; off by "
        f"{np.abs(value - hits).mean():.1f} on average; half an interval is {((high - low) / 2).mean():.1f}"
    )


def print_samples(known: Known, seeds: int, count: int = 100) -> None:
    keys = [str(k) for k in range(len(known.score))]
    kind = zip(known.error.tolist(), band_of(known.score).tolist(), known.label.tolist(), strict=True)
    stratum = strata(list(kind), count)
    size = np.bincount(stratum)
    truth = known.real.mean()
    estimates = []
    for seed in range(seeds):
        rows = stratified_sample(keys, stratum, count, seed)
        judged = np.bincount(stratum[rows], minlength=len(size))
        estimates.append(
            estimate_rate(size, judged, np.bincount(stratum[rows[known.real[rows] == 1]], None, len(size)))
        )
    values = np.array([e.value for e in estimates])
    kept = np.mean([e.low <= truth <= e.high for e in estimates])
    half = np.mean([(e.high - e.low) / 2 for e in estimates])
    print(
        f"  samples of {count}: {truth:.3f} of {len(keys)} are real; estimates average {values.mean():.3f}, half an "
        f"interval is {half:.3f} (unstratified {1.96 * np.sqrt(truth * (1 - truth) / count):.3f}), "
        f"and {kept:.0%} of {seeds} hold the truth"
    )


def print_calibration(known: Known, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    half = rng.integers(0, 2, known.unit.max() + 1)[known.unit]
    drawn = rng.permutation(len(half))
    for count in VERDICTS:
        probability = np.zeros(len(half))
        for k in range(2):
            rows = drawn[half[drawn] == k][:count]
            verdict = np.full(len(half), -1)
            verdict[rows] = known.real[rows]
            record = TrackRecord(Judged(known.error, known.label, known.score, verdict))
            probability = np.where(half != k, record.probability, probability)
        findings = [{"score": p} for p in probability.tolist()]
        _, off = reliability(findings, known.real, 0.0)
        print(f"  calibration error with {min(count, min(np.bincount(half))):5d} verdicts: {off:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=40, help=f"of {ROUND} findings each")
    parser.add_argument("--seeds", type=int, default=200, help="samples drawn")
    options = parser.parse_args()
    folder = options.folder.resolve()
    planted = read(folder, PlantedReview())
    scorers = {
        "planted review": planted,
        "the formulas alone": read(folder, ObjectReview()),
        "planted review, overconfident": planted.moved(2.0, 0.0),
        "planted review, underconfident": planted.moved(1.0, -2.0),
        "planted review, a class left out on purpose": planted.with_a_rule(),
    }
    for name, known in scorers.items():
        print(f"\n{name}: {len(known.score)} findings, {known.real.sum()} of them real")
        print_orders(known, options.rounds)
    print()
    print_samples(planted, options.seeds)
    print_calibration(planted)


if __name__ == "__main__":
    main()
