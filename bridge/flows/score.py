"""SCORE: freeze what people submitted, hold it against the predictions, store the findings."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from bridge.core.annotations import Item, LabelSet, Record
from bridge.core.class_balance import ClassBalance, count_balance
from bridge.core.findings import ErrorType, Event, Finding, State, finding_id, once_each
from bridge.core.fingerprints import thumbnail
from bridge.core.objects import Workload, build_workload
from bridge.core.team import Team, team_of
from bridge.errors import DataError, ImageError
from bridge.flows.durable import Runner, Step
from bridge.flows.failures import Failure
from bridge.flows.fixed import is_fixed, order_of
from bridge.flows.independence import Independence
from bridge.flows.progress import Progress
from bridge.flows.recall import recalled
from bridge.flows.relabeled import AcceptedFixes
from bridge.flows.sources import PredictionSource
from bridge.images import decode_small, size_of
from bridge.scorers import RecordReview, Scorer, explain
from bridge.scorers.class_review import ClassReview
from bridge.scorers.consensus_review import ConsensusReview, beside
from bridge.scorers.data_checks import ImageFacts, check_images, check_records
from bridge.scorers.in_sample import lowered
from bridge.scorers.instance_review import InstanceReview
from bridge.scorers.map_review import MapReview
from bridge.scorers.near_duplicate_review import NearDuplicateReview, without_known
from bridge.scorers.span_review import SpanReview
from bridge.store import Store
from bridge.tools import AnnotationTool, TargetInfo

#: Found only by opening the image files.
_NEED_IMAGES = (
    ErrorType.UNREADABLE_IMAGE,
    ErrorType.SMALL_IMAGE,
    ErrorType.DUPLICATE_IMAGE,
    ErrorType.SIZE_MISMATCH,
)
#: Found by comparing images, all of which somebody has opened: this run, its model, or the training before it.
_COMPARE_IMAGES = (ErrorType.INCONSISTENT_LABELS, ErrorType.LEAKAGE, ErrorType.NEAR_DUPLICATE)
#: Pixels of the shorter side that suffice to compare images.
_SMALL = 64

#: What is judged beside boxes and spans.
_RECORD_REVIEWS: tuple[RecordReview, ...] = (ClassReview(), InstanceReview(), MapReview())


@dataclass(frozen=True, slots=True)
class Counts:
    """What a run saw. ``unpredicted`` items were submitted but no model looked at them: they are not scored.

    ``probed`` boxes of the annotations a model was asked about; ``outlined`` objects were held against its class map.
    """

    items: int = 0
    submissions: int = 0
    annotations: int = 0
    predictions: int = 0
    unpredicted: int = 0
    probed: int = 0
    outlined: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.items + other.items,
            self.submissions + other.submissions,
            self.annotations + other.annotations,
            self.predictions + other.predictions,
            self.unpredicted + other.unpredicted,
            self.probed + other.probed,
            self.outlined + other.outlined,
        )


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """One finished run. ``findings`` counts all of them by error type; ``new`` those nobody had seen before.

    ``seconds`` is what judging took, without reading, predicting and storing. ``team`` is what the findings and the
    overlap of the submissions say about those who labelled, ``balance`` how the labels are spread.
    """

    run_id: str
    counts: Counts
    findings: dict[str, int]
    new: int
    withdrawn: int
    snapshot: str
    seconds: float
    team: Team
    independence: Independence
    balance: ClassBalance
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """``keep`` is the lowest score that becomes a finding. ``check_images`` opens every image file.

    With ``recall`` no model looks again at an item that is as it was in the last run with the same predictions.
    """

    keep: float = 0.1
    check_images: bool = False
    recall: bool = False


@dataclass(frozen=True, slots=True)
class Journal:
    """Where a journey writes, and what it takes from outside: the clock and fresh ids."""

    store: Store
    durable: Runner
    now: Callable[[], str]
    new_id: Callable[[], str]


@dataclass(frozen=True, slots=True)
class _PageResult:
    next: str | None
    counts: Counts
    facts: tuple[ImageFacts, ...]
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class _Begun:
    """``earlier`` is the run whose predictions may be used again."""

    run_id: str
    info: TargetInfo
    earlier: str | None


def score(
    tool: AnnotationTool,
    source: PredictionSource,
    scorer: Scorer,
    journal: Journal,
    *,
    options: ScoreOptions,
    page_size: int,
    progress: Progress,
) -> ScoreResult:
    """Score every submission of a target. Resumes after a crash, and doubles no finding when run again.

    Raises:
        DataError: nothing is submitted, or no predictions are there to hold it against.
        ToolError: the tool failed; running again starts the run over.
    """

    def journey(step: Step) -> ScoreResult:
        begun = step("begin", lambda: _begin(tool, source, scorer, journal, options))
        fixes = AcceptedFixes.of(journal.store, tool.target)
        pages: list[_PageResult] = []
        cursor: str | None = None
        while True:
            place = _Place(len(pages), cursor, page_size)
            reading = partial(_page, tool, source, journal.store, fixes, begun, place, options)
            pages.append(step(f"page {len(pages)}", reading))
            progress("reading", sum(p.counts.items for p in pages), begun.info.items)
            cursor = pages[-1].next
            if cursor is None:
                break
        progress("scoring", 0, None)
        return step("score", lambda: _judge(begun, pages, source, scorer, journal, options))

    name = f"score {tool.target}"
    return journal.durable.run(name, [source.key, scorer.name, options.keep, options.check_images], journey)


def _begin(
    tool: AnnotationTool, source: PredictionSource, scorer: Scorer, journal: Journal, options: ScoreOptions
) -> _Begun:
    info = tool.describe()
    run_id = journal.new_id()
    before = journal.store.runs(info.target) if options.recall else ()
    earlier = next((r.id for r in before if r.finished_at and r.options.get("source") == source.key), None)
    journal.store.start_run(
        run_id,
        target=info.target,
        title=info.title,
        kind="object",
        model=source.model or "",
        scorer=scorer.name,
        labels=info.labels,
        started_at=journal.now(),
        options={"keep": options.keep, "check_images": options.check_images, "source": source.key},
    )
    return _Begun(run_id, info, earlier)


@dataclass(frozen=True, slots=True)
class _Place:
    """Which page of the target becomes which chunk of the run's snapshot."""

    position: int
    after: str | None
    limit: int


def _page(
    tool: AnnotationTool,
    source: PredictionSource,
    store: Store,
    fixes: AcceptedFixes,
    begun: _Begun,
    place: _Place,
    options: ScoreOptions,
) -> _PageResult:
    page = tool.read_page(place.after, place.limit, model=source.model)
    submitted = [record for record in page.records if record.submissions or record.problems]
    known = recalled(store, begun.earlier, place.position, submitted) if begun.earlier else {}
    fresh, failures = source.attach([record for record in submitted if record.item.id not in known])
    known |= {record.item.id: record for record in fresh}
    records = [fixes.mark(known[record.item.id]) for record in submitted]
    # That an item names no image is told by its record.
    looks = [_look(tool, r.item) for r in page.records if r.item.image] if options.check_images else []
    records = _with_thumbnails(records, looks)
    store.put_chunk(begun.run_id, place.position, records)
    counts = Counts(
        items=len(page.records),
        submissions=sum(len(r.submissions) for r in records),
        annotations=sum(len(s.annotations) for r in records for s in r.submissions),
        predictions=sum(len(r.predictions) for r in records),
        unpredicted=sum(1 for r in records if r.submissions and not r.predicted_by),
        probed=sum(len(r.probes) for r in records),
        outlined=sum(n.kind == "label" for r in records for n in r.notes),
    )
    return _PageResult(page.next, counts, tuple(facts for facts, _ in looks), tuple(failures))


def _look(tool: AnnotationTool, item: Item) -> tuple[ImageFacts, bytes]:
    """What an item's image file shows, and the image's thumbnail; that is empty where it cannot be decoded."""
    try:
        data = tool.read_image(item)
        width, height = size_of(data)
    except ImageError as error:
        return ImageFacts(item, None, None, None, str(error)), b""
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        pixels = decode_small(data, f"{item.name} (item {item.id})", _SMALL)
    except ImageError as error:
        return ImageFacts(item, sha256, width, height, str(error)), b""
    return ImageFacts(item, sha256, width, height, None), thumbnail(pixels).tobytes()


def _with_thumbnails(records: Sequence[Record], looks: Sequence[tuple[ImageFacts, bytes]]) -> list[Record]:
    """Records with what was seen of their images: thumbnails, and sizes that nobody had said."""
    seen = {facts.item.id: (facts, small) for facts, small in looks if small}
    done: list[Record] = []
    for record in records:
        if record.item.id in seen:
            facts, small = seen[record.item.id]
            item = record.item
            item = replace(item, width=item.width or facts.width, height=item.height or facts.height)
            record = replace(record, item=item, thumbnail=small)
        done.append(record)
    return done


def _judge(
    begun: _Begun,
    pages: Sequence[_PageResult],
    source: PredictionSource,
    scorer: Scorer,
    journal: Journal,
    options: ScoreOptions,
) -> ScoreResult:
    store, run_id, target = journal.store, begun.run_id, begun.info.target
    counts = sum((p.counts for p in pages), Counts())
    records = [record for chunk in store.chunks(run_id) for record in chunk]
    begun_at = time.perf_counter()
    findings = check_records(target, begun.info.labels, records)
    facts = [fact for p in pages for fact in p.facts]
    findings += check_images(target, facts)
    failures = tuple(f for p in pages for f in p.failures)
    workload = _workload(begun.info, records, counts, failures)
    findings += suspicions(target, begun.info.labels, records, workload, scorer, options.keep)
    findings = once_each(findings)
    same_file = {fact.item.id: fact.sha256 for fact in facts if fact.sha256 is not None}
    copies = NearDuplicateReview().find(target, begun.info.labels, records)
    findings += without_known([f for f in copies if f.score >= options.keep], same_file)
    independence = Independence.of(records, source, workload)
    team = team_of(begun.info.labels, records, findings)
    findings = _under_former_ids(findings, store.former_ids(target))
    seconds = time.perf_counter() - begun_at
    _reopen_undone(store, target, findings, records, journal.now())
    put = store.put_findings(run_id, findings)
    # What was found in an item that could not be looked at now has not gone away.
    compared = all(record.thumbnail for record in records if record.submissions)
    not_looked_for = (*(() if options.check_images else _NEED_IMAGES), *(() if compared else _COMPARE_IMAGES))
    looked_for = [e for e in ErrorType if e not in not_looked_for]
    withdrawn = 0 if failures else store.withdraw_missing(run_id, looked_for)
    snapshot = store.seal_snapshot(run_id)
    result = ScoreResult(
        run_id=run_id,
        counts=counts,
        findings=dict(sorted(Counter(str(f.error) for f in findings).items())),
        new=put.new,
        withdrawn=withdrawn,
        snapshot=snapshot,
        seconds=seconds,
        team=team,
        independence=independence,
        balance=count_balance(begun.info.labels, records),
        failures=failures,
    )
    store.finish_run(
        run_id,
        finished_at=journal.now(),
        counts={
            "items": counts.items,
            "submissions": counts.submissions,
            "annotations": counts.annotations,
            "predictions": counts.predictions,
            "unpredicted": counts.unpredicted,
            "probed": counts.probed,
            "outlined": counts.outlined,
            "findings": len(findings),
            "team": team.to_dict(),
            "independence": independence.to_dict(),
        },
    )
    return result


def _reopen_undone(store: Store, target: str, findings: Sequence[Finding], records: Sequence[Record], at: str) -> None:
    """Reopen what is found again although it was fixed, because somebody has undone the fix."""
    again = {finding.id for finding in findings}
    by_item = {record.item.id: record for record in records}
    for stored in store.findings(target=target, states=(State.APPLIED, State.VERIFIED)):
        finding = stored.finding
        if finding.id in again and not is_fixed(order_of(stored), by_item.get(finding.item_id)):
            store.transition(finding.id, Event.REOPEN, at, "labelbridge", {})


def _workload(info: TargetInfo, records: Sequence[Record], counts: Counts, failures: Sequence[Failure]) -> Workload:
    target = info.target
    if not counts.submissions:
        raise DataError(
            f"nothing is submitted in {target}: {counts.items} items, no annotations",
            expected="at least one submitted annotation",
            todo=f"{info.to_submit}, then score again",
        )
    predicted = [record for record in records if record.predicted_by]
    if not predicted and all(len(record.submissions) < 2 for record in records):
        todo = "Run `labelbridge prelabel` first, or name a source: --detector NAME or --predictions FILE"
        failed = ""
        if any(record.item.text is not None for record in records):
            todo = "Import a model's predictions into the project, or let several people label the same texts"
        elif failures:
            failed = f": {len(failures)} images could not be looked at. The first: {failures[0]}"
            todo = "Repair or replace these images, then score again"
        raise DataError(
            f"no predictions for any of the {counts.submissions} submissions of {target}{failed}",
            expected="predictions to hold the annotations against",
            todo=todo,
        )
    return build_workload(target, info.labels, predicted)


def suspicions(
    target: str, labels: LabelSet, records: Sequence[Record], workload: Workload, scorer: Scorer, keep: float
) -> list[Finding]:
    """What is suspected of the submissions of some records, with a score of ``keep`` or more."""
    suspects = scorer.score(workload)
    scored = explain.findings(workload, suspects.rows(suspects.score >= keep), scorer.name)
    scored += SpanReview().find(target, labels, records)
    findings = beside(ConsensusReview().find(target, labels, records), scored, records)
    for review in _RECORD_REVIEWS:
        findings += review.find(target, labels, records)
    findings = lowered(findings, records, independent=(ConsensusReview().name,))
    return [finding for finding in findings if finding.score >= keep]


def _under_former_ids(findings: Sequence[Finding], former: Mapping[str, str]) -> list[Finding]:
    """What is found of an object that was put back under another id is what was found of it before."""
    return [
        replace(
            f,
            id=finding_id(
                f.target, f.item_id, f.submission_id, tuple(former.get(i, i) for i in f.annotation_ids), f.error, f.fix
            ),
        )
        if former.keys() & f.annotation_ids
        else f
        for f in findings
    ]
