"""Journeys against a tool in memory, with a runner that can be killed at any step."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from fakes.colour_detector import ColourDetector
from fakes.memory_tool import MemoryTool, Objects
from fakes.pictures import TRUTH, draw

from bridge.errors import LabelbridgeError
from bridge.flows.durable import Step
from bridge.flows.progress import silent
from bridge.flows.push import PushOptions, PushResult, push
from bridge.flows.score import Journal, ScoreOptions, ScoreResult, score
from bridge.flows.sources import ImageReader, ModelPredictions, PredictionSource, StoredPredictions
from bridge.flows.sync import SyncResult, sync
from bridge.scorers.object_review import ObjectReview
from bridge.store import Store, StoredFinding
from bridge.tools import Review

T = TypeVar("T")


class Killed(BaseException):
    """The process is gone."""


@dataclass
class MemoryDurable:
    """Keeps the promises of :class:`bridge.flows.durable.Durable`, in memory.

    ``kill_after`` names a step: the process dies when its work is done and not yet remembered.
    """

    kill_after: str = ""
    left: dict[str, list[bytes]] = field(default_factory=dict)

    def run(self, name: str, options: object, journey: Callable[[Step], T]) -> T:
        key = f"{name} {options!r}"
        done = self.left.setdefault(key, [])
        position = itertools.count()

        def step(step_name: str, work: Callable[[], Any]) -> Any:
            here = next(position)
            if here == len(done):
                result = pickle.dumps(work())
                if step_name == self.kill_after:
                    self.kill_after = ""
                    raise Killed
                done.append(result)
            return pickle.loads(done[here])

        try:
            result = journey(cast(Step, step))
        except LabelbridgeError:
            del self.left[key]
            raise
        del self.left[key]
        return cast(T, pickle.loads(pickle.dumps(result)))


@dataclass
class Desk:
    """A tool, a journal, and the journeys between them."""

    tool: MemoryTool
    journal: Journal
    durable: MemoryDurable

    @property
    def store(self) -> Store:
        return self.journal.store

    def picture(self, *submitted: Objects, shows: Objects = TRUTH) -> str:
        """Add an item; no two pictures are alike."""
        return self.tool.add_item(draw(shows, backdrop=len(self.tool.images)), *submitted)

    def make_all_the_same_file(self) -> None:
        first = next(iter(self.tool.images.values()))
        self.tool.images.update(dict.fromkeys(self.tool.images, first))

    def model(self, batch: int = 2, label_of: dict[str, str] | None = None) -> ModelPredictions:
        labels = {"cat": "cat", "dog": "dog"} if label_of is None else label_of
        return ModelPredictions(ImageReader(self.tool, 10**6), ColourDetector(), labels, batch)

    def score(self, source: PredictionSource | None = None, page_size: int = 2, **options: Any) -> ScoreResult:
        return score(
            self.tool,
            source or self.model(),
            ObjectReview(),
            self.journal,
            options=ScoreOptions(**options),
            page_size=page_size,
            progress=silent,
        )

    def score_stored(self) -> ScoreResult:
        return self.score(StoredPredictions())

    def push(self, chunk: int = 2, **options: Any) -> PushResult:
        run = self.store.latest_run(self.tool.target)
        assert run
        return push(self.tool, run, self.journal, options=PushOptions(**options), chunk=chunk, progress=silent)

    def sync(self, chunk: int = 2) -> SyncResult:
        review = Review("review", "memory://review", created=False)
        return sync(self.tool, [review], self.journal, chunk=chunk, progress=silent)

    def findings(self, **wanted: Any) -> list[StoredFinding]:
        return self.store.findings(target=self.tool.target, **wanted)

    def finding(self, item_id: str, error: str) -> StoredFinding:
        (found,) = self.findings(item_ids=[item_id], errors=[error])
        return found

    def states(self) -> list[str]:
        return sorted(str(f.state) for f in self.findings())


def labels(objects: Sequence[tuple[str, Any]]) -> list[str]:
    return sorted(label for label, _ in objects)
