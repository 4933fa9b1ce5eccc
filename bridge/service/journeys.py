"""The journeys as the standing service takes them: with what the plan says, and striking off what they dealt with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, cast

from bridge import wiring
from bridge.clients import Clients
from bridge.core.changes import ChangeKind
from bridge.core.findings import State
from bridge.core.policy import Journey
from bridge.core.predictor import Predictor
from bridge.errors import ConfigError, DataError
from bridge.flows.durable import Inline, Step
from bridge.flows.failures import Failure
from bridge.flows.prelabel import prelabel
from bridge.flows.progress import silent
from bridge.flows.push import choose, push
from bridge.flows.score import Journal, ScoreOptions, score
from bridge.flows.sync import sync
from bridge.logs import Log
from bridge.plan import Plan, ProjectPlan
from bridge.scorers.planted_review import PlantedReview
from bridge.service.one_at_a_time import OneAtATime
from bridge.store import Store
from bridge.tools import AnnotationTool, Review
from bridge.tools.cvat import Cvat


@dataclass(frozen=True, slots=True)
class _Target:
    project: ProjectPlan
    tool: AnnotationTool
    step: Step


class Journeys:
    """Each as one call with the steps of a durable workflow; see :data:`bridge.service.engine.Work`.

    Args:
        now: the time, aware.
        log: told of each item that failed, as nobody reads what a command would print.
    """

    def __init__(self, plan: Plan, store: Store, *, now: Callable[[], datetime], log: Log) -> None:
        self._plan = plan
        self._store = store
        self._now = now
        self._log = log
        self._models = _Models()
        self._clients = Clients(plan.settings)

    def take(self, journey: str, target: str, step: Step) -> str:
        """Take a journey through a target; answers what came of it, in a sentence.

        Raises:
            ConfigError: the plan no longer has the target.
            LabelbridgeError: whatever the journey raised.
        """
        project = self._plan.projects.get(target)
        if project is None:
            raise ConfigError(f"{target} is not among the projects", todo="Put it back into the settings file")
        take = {
            Journey.PRELABEL: self._prelabel,
            Journey.SCORE: self._score,
            Journey.PUSH: self._push,
            Journey.SYNC: self._sync,
        }[Journey(journey)]
        tool = wiring.open_target(target, self._plan.settings, plan=project.review, clients=self._clients)
        return take(_Target(project, tool, step))

    def _prelabel(self, target: _Target) -> str:
        project, tool, step, settings = target.project, target.tool, target.step, self._plan.settings
        seen = step("seen", partial(self._seen, tool.target, "new"))
        model = self._models.load(project.model, settings.device)
        mapping = wiring.map_labels(tool, model, project.model.label_map)
        source = wiring.model_source(tool, model, mapping, settings, project.model.threshold)
        result = prelabel(
            tool,
            source,
            self._journal(step),
            page_size=settings.push_chunk,
            progress=silent,
            late=partial(self._score_again, tool.target) if project.source.is_stored else None,
        )
        step("strike", lambda: self._store.strike(tool.target, "new", seen))
        self._tell(tool.target, result.failures)
        return f"{result.written} of {result.items} items pre-labelled: {result.predictions} suggestions"

    def _score_again(self, target: str, item_ids: Sequence[str]) -> None:
        """What is held against the predictions that the tool holds changes with them."""
        self._store.note_work(target, item_ids, self._now().isoformat())

    def _score(self, target: _Target) -> str:
        project, tool, step, settings = target.project, target.tool, target.step, self._plan.settings
        seen = step("seen", partial(self._seen, tool.target, "work"))
        source = wiring.prediction_source(tool, project.source, settings, self._models.load)
        # What the tool holds may have changed without the item; what a model says of the same image does not.
        options = ScoreOptions(recall=not project.source.is_stored)
        run: str | None = None
        try:
            result = score(
                tool,
                source,
                PlantedReview(),
                self._journal(step),
                options=options,
                page_size=settings.page_size,
                progress=silent,
            )
        except DataError as error:
            # It stays so until somebody changes something, and then it is tried again anyway.
            outcome = f"not scored: {error}"
        else:
            run = result.run_id
            outcome = f"run {run}: {sum(result.findings.values())} findings, {result.new} new"
            outcome += f", {result.withdrawn} withdrawn" if result.withdrawn else ""
            self._tell(tool.target, result.failures)
        step("strike", lambda: self._scored(tool.target, seen, run))
        return outcome

    def _scored(self, target: str, seen: dict[str, str], run: str | None) -> None:
        if run is not None:
            self._store.note_run(target, run)
            self._store.forget_runs(target, self._plan.settings.keep_runs, self._now().isoformat(timespec="seconds"))
        self._store.strike(target, "work", seen)

    def _push(self, target: _Target) -> str:
        project, tool, step, settings = target.project, target.tool, target.step, self._plan.settings
        run = step("run", partial(self._store.latest_finished_run, tool.target))
        outcome = "nothing is scored yet"
        options, policy = project.push_options(settings.worth), project.policy.push
        if run is not None and options is not None and policy is not None:
            journal = self._journal(step)
            if policy.dry_run:
                chosen = choose(self._store, run, options, journal.now())
                outcome = f"dry run: {len(chosen.ids)} findings would be pushed"
            else:
                result = push(tool, run, journal, options=options, chunk=settings.push_chunk, progress=silent)
                step("flag", lambda: wiring.flag_waiting(tool, self._store))
                self._tell(tool.target, result.failures)
                outcome = f"{result.pushed} findings pushed for review"
        step("strike", lambda: self._store.note_run(tool.target, None))
        return outcome

    def _sync(self, target: _Target) -> str:
        tool, step, settings = target.tool, target.step, self._plan.settings
        begun = step("begun", lambda: self._now().isoformat())
        places = step("places", lambda: self._store.reviews_of(tool.target))
        accepted = step("accepted", lambda: len(self._store.findings(tool.target, states=(State.ACCEPTED,), limit=1)))
        outcome = "nothing is up for review"
        if places or accepted:
            reviews = [Review(place.ref, place.url, created=False, mode=place.mode) for place in places]
            result = sync(tool, reviews, self._journal(step), chunk=settings.push_chunk, progress=silent)
            if isinstance(tool, Cvat):
                step("send back", lambda: len(tool.send_back_rejected()))
            if result.verdicts:
                # What verdicts teach may let other findings through, and a reviewer who has answered has room again.
                step("push again", partial(self._push_again, tool.target))
            self._tell(tool.target, result.failures)
            verdicts, fixes = sum(result.verdicts.values()), sum(result.fixes.values())
            outcome = (
                f"{verdicts} verdicts, {fixes} fixes, {result.verified} verified, {len(result.conflicts)} conflicts"
            )
        step("strike", lambda: self._store.note_sync(tool.target, begun))
        return outcome

    def _push_again(self, target: str) -> None:
        run = self._store.latest_finished_run(target)
        self._store.note_run(target, run.id if run else None)

    def _seen(self, target: str, kind: ChangeKind) -> dict[str, str]:
        return {change.item_id: change.last_at for change in self._store.changes(target, kind)}

    def _journal(self, step: Step) -> Journal:
        return Journal(self._store, Inline(step), lambda: self._now().isoformat(timespec="seconds"), wiring.fresh_id)

    def _tell(self, target: str, failures: Sequence[Failure]) -> None:
        for failure in failures:
            self._log.warning("item_failed", target=target, item=failure.item, reason=failure.message)


class _Models:
    """Each model loaded once, for all targets."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: dict[tuple[Any, ...], Predictor] = {}

    def load(self, options: wiring.SourceOptions, device: str, threshold: float | None = None) -> Predictor:
        key = (options.detector, options.weights, options.classes, options.threshold, device, threshold)
        with self._lock:
            if key not in self._loaded:
                self._loaded[key] = cast(Predictor, OneAtATime(wiring.load_model(options, device, threshold)))
            return self._loaded[key]
