"""The standing service as the product: it receives webhooks, watches, and works by itself."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from bridge.core.moments import parse_moment
from bridge.store import Store

_PLAN = """
defaults:
  prelabel: on
  score: {{settle: 1s, at_least: 1, at_latest: 5s, against: {against}}}
  push: {{min_score: 0}}
  sync: 10s
  model: {{detector: colour}}
projects:
  {target}:
"""


@dataclass(frozen=True, slots=True)
class Service:
    """`labelbridge serve` without the model server; what it works with is in ``home``."""

    home: Path
    target: str

    def command(self) -> list[str]:
        config = self.home / "labelbridge.yaml"
        # Label Studio keeps the predictions of the model; CVAT keeps none.
        against = "model" if self.target.startswith("cvat") else "stored"
        config.write_text(_PLAN.format(against=against, target=self.target), encoding="utf-8")
        parts = ("--only", "hooks", "--only", "workers", "--config", str(config))
        return [sys.executable, "-m", "bridge", "serve", *parts]

    def is_quiet(self, since: float) -> bool:
        """It has looked at all since then, and nothing waits, and nothing failed."""
        with Store.open(f"sqlite:///{self.home}/labelbridge.db") as store:
            watch, waiting, turns = store.watch(self.target), store.waiting(self.target), store.turns(self.target)
            # What a push that was cut off has left behind is tidied up a minute later.
            left = [store.cut_off(self.target, place.ref, "9") for place in store.reviews_of(self.target)]
        if watch is None or not watch.polled_at or not watch.synced_at:
            return False
        # What a run no longer finds leaves the tool with the sync behind it.
        last = max([since, *(_seconds(turn.ended_at) for turn in turns if turn.journey == "score")])
        looked = _seconds(watch.polled_at) > since and _seconds(watch.synced_at) > last
        busy = waiting.new_items or waiting.changed or waiting.run_to_push or waiting.answers
        return looked and not busy and not any(left) and not any(turn.failures for turn in turns)


def _seconds(moment: str) -> float:
    return parse_moment(moment).timestamp()
