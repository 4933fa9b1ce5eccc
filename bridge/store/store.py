"""The store: runs, snapshots, findings and what became of them, and the audit log, in one database."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine

from bridge.core.annotations import LabelSet, Record
from bridge.core.changes import Change, ChangeKind
from bridge.core.findings import Event, Finding, State, Verdict
from bridge.core.policy import Waiting
from bridge.core.tool_memory import Suggestion
from bridge.store import (
    audit,
    engine,
    findings,
    fixes,
    hints,
    memory,
    retention,
    reviews,
    runs,
    samples,
    snapshots,
    turns,
    verdicts,
    watches,
)
from bridge.store.chain import Mark
from bridge.store.exclusive import exclusive
from bridge.store.rows import (
    AuditEvent,
    FindingHead,
    FixRecord,
    Hint,
    JudgedFinding,
    PrecisionRow,
    Push,
    PutCounts,
    ReviewPlace,
    Run,
    SampledFinding,
    StoredChange,
    StoredFinding,
    Turn,
    WaitingHint,
    Watch,
    WrittenFix,
)

#: Who is named in the audit log when the caller names nobody.
SELF = "labelbridge"


class Store:
    """Everything labelbridge remembers.

    Every writing method is one transaction together with its audit events: it happens whole or not at all, and it is
    safe to call again after a crash. Times are ISO 8601 texts given by the caller. A Store may be used by many threads
    at once, and a database by many processes; writers wait for each other.

    Raises (every method):
        StoreError: the database cannot be read or written; says what to do about it.
    """

    def __init__(self, db: Engine) -> None:
        self._engine = db

    @classmethod
    def open(cls, url: str, *, busy_timeout_s: float = 30.0) -> Self:
        """Open the database at ``url``, making its folder (mode 0700) and its tables where they are missing.

        Args:
            url: ``sqlite:///relative.db``, ``sqlite:////absolute.db`` or ``postgresql://user@host/name``.
            busy_timeout_s: how long to wait for another writer before giving up.

        Raises:
            StoreError: the folder or file cannot be used, or a newer labelbridge wrote the database.
        """
        return cls(engine.open_engine(url, busy_timeout_s))

    def close(self) -> None:
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> AbstractContextManager[Connection]:
        return engine.transaction(self._engine, write=False)

    def _write(self) -> AbstractContextManager[Connection]:
        return engine.transaction(self._engine, write=True)

    def exclusive(self, target: str, wait_s: float = 0.0) -> AbstractContextManager[None]:
        """Hold ``target`` for a block: nobody else who asks for it gets it meanwhile, in any process.

        Raises:
            Busy: somebody else holds it, ``wait_s`` seconds long.
        """
        return exclusive(self._engine, target, wait_s)

    # --- runs -------------------------------------------------------------------------------------------------------

    def start_run(
        self,
        run_id: str,
        target: str,
        title: str,
        kind: str,
        model: str,
        scorer: str,
        labels: LabelSet,
        started_at: str,
        options: Mapping[str, Any],
    ) -> Run:
        """Note that a run begins. A run that is there already is answered as it is.

        Raises:
            DataError: ``run_id`` belongs to a run over another target.
        """
        run = Run(run_id, target, title, kind, model, scorer, labels, started_at, None, None, dict(options), {})
        with self._write() as db:
            return runs.start(db, run, SELF)

    def finish_run(self, run_id: str, finished_at: str, counts: Mapping[str, Any]) -> Run:
        """Note that a run has ended, with its totals. A run that has ended before stays as it is."""
        with self._write() as db:
            return runs.finish(db, run_id, finished_at, counts, SELF)

    def run(self, run_id: str) -> Run:
        """One run. Raises ``NotFound``."""
        with self._read() as db:
            return runs.get(db, run_id)

    def runs(self, target: str | None = None, limit: int | None = None) -> list[Run]:
        """Runs, the one started last first."""
        with self._read() as db:
            return runs.select_runs(db, target, limit)

    def latest_run(self, target: str) -> Run | None:
        """The run of ``target`` that was started last, finished or not; None when there is none."""
        found = self.runs(target, limit=1)
        return found[0] if found else None

    def latest_finished_run(self, target: str) -> Run | None:
        """The run of ``target`` that was started last among those that have finished; None when there is none."""
        with self._read() as db:
            found = runs.select_runs(db, target, limit=1, finished=True)
        return found[0] if found else None

    def forget_runs(self, target: str, keep: int, at: str) -> int:
        """Forget what old runs of a target saw and found, but for the ``keep`` that were started last.

        Kept as well are runs that a finding at work was found in last, and those of which a sample was drawn.

        Returns:
            How many were forgotten now.
        """
        with self._write() as db:
            return retention.forget(db, target, keep, at, SELF)

    # --- snapshots --------------------------------------------------------------------------------------------------

    def put_chunk(self, run_id: str, position: int, records: Sequence[Record]) -> bool:
        """Keep ``records`` (with their predictions) as chunk ``position``, counted from 0, of a run's snapshot.

        Chunks with the same content are stored once, however many runs hold them. Writing the same again changes
        nothing. Other content replaces the chunk; once the snapshot is sealed only the predictions may change.

        Returns:
            Whether anything was written.

        Raises:
            NotFound: there is no such run.
            DataError: the snapshot is sealed and the annotations differ.
        """
        chunk = snapshots.pack(records)
        with self._write() as db:
            return snapshots.put(db, run_id, position, chunk)

    def chunks(self, run_id: str) -> Iterator[list[Record]]:
        """The chunks of a run's snapshot in order of position, read one at a time.

        Raises:
            StoreError: a chunk is damaged or missing.
        """
        with self._read() as db:
            length = len(snapshots.layout(db, run_id))
        for position in range(length):
            yield self.chunk(run_id, position)

    def chunk(self, run_id: str, position: int) -> list[Record]:
        """One chunk of a run's snapshot; empty where it has none of that number.

        Raises:
            StoreError: the chunk is damaged.
        """
        with self._read() as db:
            found = snapshots.find(db, run_id, position)
        return [] if found is None else snapshots.unpack(*found, f"chunk {position} of run {run_id}")

    def seal_snapshot(self, run_id: str) -> str:
        """Freeze the snapshot: its hash (see :func:`bridge.core.annotations.snapshot_hash`) is kept on the run.

        A snapshot that is sealed already answers with the hash it has.
        """
        with self._read() as db:
            known = runs.get(db, run_id).snapshot
            layout = snapshots.layout(db, run_id)
        if known is not None:
            return known
        # Hashing a large snapshot takes long, so it is done before anyone is locked out.
        value, annotators = snapshots.hash_of(self.chunks(run_id))
        with self._write() as db:
            return snapshots.seal(db, run_id, value, annotators, layout, SELF)

    # --- findings ---------------------------------------------------------------------------------------------------

    def put_findings(
        self, run_id: str, found: Sequence[Finding], *, at: str | None = None, by: str = SELF
    ) -> PutCounts:
        """Keep what a run found, by finding id.

        A finding that is new becomes OPEN. A known one keeps its state, verdicts and pushes, is linked to this run,
        and takes over the new score, reason and evidence. One that was withdrawn is REOPENED. What a reviewer judges
        must not move under their hands: the revisions, the shape and the fix are taken over only while the finding is
        neither up for review nor decided. Where an id stands twice in ``found``, the higher score counts.

        Args:
            at: time of the audit events; by default that of the run's start.

        Raises:
            NotFound: there is no such run.
            DataError: a finding belongs to another target than the run.
        """
        with self._write() as db:
            return findings.put(db, run_id, found, at, by)

    def withdraw_missing(
        self, run_id: str, errors: Collection[str] | None = None, *, at: str | None = None, by: str = SELF
    ) -> int:
        """Withdraw the undecided findings of the run's target that earlier runs found and this one did not.

        ``errors`` are the types that the run has looked for; None means all.

        Decided findings stay as they are; those that are up for review are to be taken out of the tool, see
        :meth:`to_withdraw`. Call it only after a run over the whole target. Returns how many were withdrawn.
        """
        with self._write() as db:
            return findings.withdraw_missing(db, run_id, errors, at, by)

    def findings(
        self,
        target: str | None = None,
        run_id: str | None = None,
        states: Collection[str] | None = None,
        errors: Collection[str] | None = None,
        item_ids: Collection[str] | None = None,
        min_score: float | None = None,
        limit: int | None = None,
    ) -> list[StoredFinding]:
        """Findings by falling score, then by id. None means no restriction; an empty collection matches nothing."""
        wanted = findings.Wanted(target, run_id, states, errors, item_ids, min_score, limit)
        with self._read() as db:
            return findings.select_findings(db, wanted)

    def findings_of(self, ids: Sequence[str]) -> list[StoredFinding]:
        """The findings with these ids, in this order. Raises ``NotFound``."""
        with self._read() as db:
            return findings.of_ids(db, ids)

    def heads(self, run_id: str) -> list[FindingHead]:
        """All findings of a run by id, without what only a reader needs. Raises ``NotFound``."""
        with self._read() as db:
            return findings.heads(db, run_id)

    def finding(self, finding_id: str) -> StoredFinding:
        """One finding, by its id or by the beginning of its id.

        Raises:
            NotFound: no id begins like that.
            UsageError: several do.
        """
        with self._read() as db:
            return findings.get(db, finding_id)

    def counts(self, run_id: str) -> dict[str, dict[str, int]]:
        """How many findings of a run there are now, as ``{error: {state: count}}``."""
        with self._read() as db:
            return findings.counts(db, run_id)

    def states(self, target: str) -> dict[State, int]:
        """How many findings of a target are in each state now; those that none is in are left out."""
        with self._read() as db:
            return findings.states(db, target)

    def transition(
        self, finding_id: str, event: Event, at: str, by: str, detail: Mapping[str, Any] | None = None
    ) -> State:
        """Take a finding (full id) from its state to the next, as :data:`bridge.core.findings.TRANSITIONS` says.

        Returns:
            The state it has now.

        Raises:
            NotFound: there is no such finding.
            DataError: the event makes no sense in its state; nothing was changed.
        """
        with self._write() as db:
            return findings.advance(db, finding_id, event, at, by, detail or {})

    # --- reviews and pushes -----------------------------------------------------------------------------------------

    def put_review(self, target: str, ref: str, url: str, mode: str = "") -> None:
        """Note where the findings of ``target`` are reviewed; the place known before for this mode is replaced."""
        with self._write() as db:
            reviews.put(db, ReviewPlace(target, ref, url, mode))

    def reviews_of(self, target: str) -> list[ReviewPlace]:
        """Where the findings of ``target`` are reviewed, one place for each mode; empty when no review was opened."""
        with self._read() as db:
            return reviews.of_target(db, target)

    def begin_push(self, finding_ids: Sequence[str], review_ref: str, at: str) -> None:
        """Note that findings are about to be pushed. What is begun twice was cut off, and may stand there twice."""
        with self._write() as db:
            reviews.begin_push(db, finding_ids, review_ref, at)

    def end_push(self, finding_ids: Sequence[str], review_ref: str, *, tidied: bool = False) -> None:
        """Note that the push of findings was answered; where an earlier one was cut off, not before it is tidied."""
        with self._write() as db:
            reviews.end_push(db, finding_ids, review_ref, tidied=tidied)

    def cut_off(self, target: str, review_ref: str, before: str) -> dict[str, str]:
        """The findings whose last push began before a moment and may stand twice, or for nothing.

        Returns:
            By finding id the tool's object that is to stay; empty where none is.
        """
        with self._read() as db:
            return reviews.cut_off(db, target, review_ref, before)

    def record_push(
        self, finding_id: str, review_ref: str, ref: str, url: str, at: str, *, reviewer: str = "", by: str = SELF
    ) -> bool:
        """Note that a finding stands in a review as the tool's object ``ref``. Its state is left alone.

        ``reviewer`` is who is to judge it; empty for nobody in particular.

        Returns:
            False when exactly this was noted before.

        Raises:
            NotFound: there is no such finding.
        """
        with self._write() as db:
            return reviews.record_push(db, finding_id, Push(review_ref, ref, url, at, reviewer), by)

    def record_withdrawal(self, finding_id: str, review_ref: str, at: str, *, by: str = SELF) -> bool:
        """Note that a finding stands in a review no more. False when it did not."""
        with self._write() as db:
            return reviews.record_withdrawal(db, finding_id, review_ref, at, by)

    def to_withdraw(self, target: str, review_ref: str) -> list[str]:
        """The findings that stand in a review for nothing: withdrawn, or decided in another one."""
        with self._read() as db:
            return reviews.to_withdraw(db, target, review_ref)

    def awaited(self, target: str) -> dict[str, int]:
        """How many findings of ``target`` await an answer, by reviewer; under "" those for nobody in particular."""
        with self._read() as db:
            return reviews.awaited(db, target)

    def pushed_refs(self, review_ref: str) -> dict[str, str]:
        """The findings that stand in a review: finding id to the tool's object."""
        with self._read() as db:
            return reviews.pushed_refs(db, review_ref)

    # --- verdicts, samples and fixes ----------------------------------------------------------------------------------

    def record_verdict(self, verdict: Verdict, at: str) -> bool:
        """Keep a reviewer's verdict. The finding's state is left alone.

        Returns:
            False when the same source, time and decision were recorded for this finding before.

        Raises:
            NotFound: there is no such finding.
        """
        with self._write() as db:
            return verdicts.record(db, verdict, at)

    def batch(self, batch_id: str) -> list[str]:
        """The ids of the findings that were accepted together as one batch; empty where there was no such batch."""
        with self._read() as db:
            return verdicts.of_batch(db, batch_id)

    def verdicts(self, finding_id: str) -> list[Verdict]:
        """All verdicts on a finding, by the tool's own time, oldest first."""
        with self._read() as db:
            return verdicts.of_finding(db, finding_id)

    def last_verdict_time(self, target: str) -> str | None:
        """The tool's own time of the latest verdict on the target's findings; None when there is none."""
        with self._read() as db:
            return verdicts.last_time(db, target)

    def precision(self, target: str) -> list[PrecisionRow]:
        """How reviewers judged the findings of ``target``, by scorer, kind of error and class."""
        with self._read() as db:
            return verdicts.precision(db, target)

    def judged(self, target: str) -> list[JudgedFinding]:
        """The findings of ``target`` that have a verdict, by id, as they were when it was recorded."""
        with self._read() as db:
            return verdicts.judged(db, target)

    def put_sample(self, run_id: str, drawn: Sequence[SampledFinding], *, by: str = SELF) -> bool:
        """Note which findings of a run were drawn by chance.

        Returns:
            False when the run has a sample already, which stays, or ``drawn`` is empty.
        """
        with self._write() as db:
            return samples.put(db, run_id, drawn, by)

    def sample(self, run_id: str) -> list[SampledFinding]:
        """The sample of a run, by finding id; empty where none was drawn."""
        with self._read() as db:
            return samples.of_run(db, run_id)

    def latest_sampled_run(self, target: str) -> str | None:
        """The run of ``target`` that was started last among those with a sample."""
        with self._read() as db:
            return samples.latest_run(db, target)

    def record_fix(
        self, finding_id: str, outcome: str, message: str, before: Any, after: Any, at: str, *, by: str = SELF
    ) -> bool:
        """Note what became of a fix. ``before`` and ``after`` are JSON-able. The finding's state is left alone.

        Returns:
            False when the last thing noted for this finding is the same.

        Raises:
            NotFound: there is no such finding.
        """
        with self._write() as db:
            return fixes.record(db, finding_id, FixRecord(outcome, message, before, after, at), by)

    def plan_fix(self, finding_id: str, before: Any, after: Any, at: str, *, by: str = SELF) -> bool:
        """Note what a fix is about to change, so that it can be undone even if nothing more comes of this attempt."""
        return self.record_fix(finding_id, fixes.PLANNED, "", before, after, at, by=by)

    def fixes(self, finding_id: str) -> list[FixRecord]:
        """What became of the fixes of a finding, oldest first."""
        with self._read() as db:
            return fixes.of_finding(db, finding_id)

    def written_fixes(self, target: str) -> list[WrittenFix]:
        """The fixes that stand in the target now and were written from here, the latest first."""
        with self._read() as db:
            return fixes.written(db, target)

    def put_renewal(self, target: str, object_id: str, former_id: str) -> None:
        """Note that an object of the target was put back under another id."""
        with self._write() as db:
            fixes.put_renewal(db, target, object_id, former_id)

    def former_ids(self, target: str) -> dict[str, str]:
        """The first ids of those objects of the target that have had several, by the later ones."""
        with self._read() as db:
            return fixes.former_ids(db, target)

    # --- what a tool forgets ----------------------------------------------------------------------------------------

    def put_handover(self, place: str, annotator: str, at: str, *, by: str = SELF) -> None:
        """Note who annotated a job before it went to a reviewer. ``place`` is the job's address."""
        with self._write() as db:
            memory.put_handover(db, place, annotator, at, by)

    def handovers(self, prefix: str) -> dict[str, str]:
        """The annotators by the address of their job, of all addresses that begin with ``prefix``."""
        with self._read() as db:
            return memory.handovers(db, prefix)

    def put_suggestions(self, place: str, frames: Collection[int], suggested: Sequence[Suggestion], at: str) -> None:
        """Note all that was suggested on some frames of a job, in place of what was noted for them before."""
        with self._write() as db:
            memory.put_suggestions(db, place, frames, suggested, at)

    def suggestions(self, place: str) -> list[Suggestion]:
        """What was suggested in a job, by frame."""
        with self._read() as db:
            return memory.suggestions(db, place)

    # --- the standing service ---------------------------------------------------------------------------------------

    def put_poll(self, target: str, changes: Sequence[Change], cursor: str, at: str, next_poll_at: str) -> None:
        """Note what a poll found, and how far it read. Changes that are noted already keep the time of the first."""
        with self._write() as db:
            watches.put_poll(db, target, changes, cursor, at, next_poll_at)

    def note_work(self, target: str, item_ids: Sequence[str], at: str) -> None:
        """Note that the work in some items is to be scored, though nobody changed it."""
        with self._write() as db:
            watches.note_work(db, target, item_ids, at)

    def put_failed_poll(self, target: str, error: str, at: str, next_poll_at: str) -> None:
        """Note that a poll failed; the cursor stays."""
        with self._write() as db:
            watches.put_failed_poll(db, target, error, at, next_poll_at)

    def watch(self, target: str) -> Watch | None:
        """What is known of a watched target; None when it was never polled."""
        with self._read() as db:
            return watches.get(db, target)

    def waiting(self, target: str) -> Waiting:
        """What waits in a target, for :func:`bridge.core.policy.due`."""
        with self._read() as db:
            return watches.waiting(db, target)

    def changes(self, target: str, kind: ChangeKind) -> list[StoredChange]:
        """What changed in a target and was not struck off, in the order in which it was first noted."""
        with self._read() as db:
            return watches.changes(db, target, kind)

    def strike(self, target: str, kind: ChangeKind, seen: Mapping[str, str]) -> None:
        """Strike off what was dealt with: ``last_at`` by item id, as :meth:`changes` told it before.

        An item that changed again meanwhile stays.
        """
        with self._write() as db:
            watches.strike(db, target, kind, seen)

    def note_run(self, target: str, run_id: str | None) -> None:
        """Note a run whose findings are to be considered for pushing; None: they were."""
        with self._write() as db:
            watches.note_run(db, target, run_id)

    def note_answers(self, target: str, at: str | None) -> None:
        """Note that a reviewer may have answered; None: that is dealt with."""
        with self._write() as db:
            watches.note_answers(db, target, at)

    def note_sync(self, target: str, at: str) -> None:
        """Note a sync that *began* at ``at``: it dealt with the answers that were noted until then."""
        with self._write() as db:
            watches.note_sync(db, target, at)

    def put_turn(self, turn: Turn) -> None:
        """Note how a journey through a target went; it replaces the one before."""
        with self._write() as db:
            turns.put(db, turn)

    def turns(self, target: str | None = None) -> list[Turn]:
        """How each journey went last, by target and journey."""
        with self._read() as db:
            return turns.select_turns(db, target)

    # --- webhooks ---------------------------------------------------------------------------------------------------

    def put_hints(self, given: Sequence[Hint]) -> list[bool]:
        """Keep webhooks that came in, each once, by its digest.

        Returns:
            For each of them whether it is new: False where its digest was known, or came before it in ``given``.
        """
        with self._write() as db:
            return hints.put(db, given)

    def waiting_hints(self, limit: int) -> list[WaitingHint]:
        """The hints that nobody has taken, in the order in which they were stored; at most ``limit``."""
        with self._read() as db:
            return hints.waiting(db, limit)

    def take_hints(self, seqs: Collection[int], at: str) -> None:
        """Note that these hints were looked at. One that was taken before stays as it is."""
        with self._write() as db:
            hints.take(db, seqs, at)

    def forget_hints(self, before: str) -> int:
        """Forget the hints that were received before a time, taken or not. Returns how many they were.

        A body whose hint is forgotten is no longer known, so that whoever receives must refuse what is as old.
        """
        with self._write() as db:
            return hints.forget(db, before)

    # --- audit log --------------------------------------------------------------------------------------------------

    def events(self, subject: str | None = None, limit: int | None = None) -> list[AuditEvent]:
        """Audit events in order; the last ``limit`` of them. ``subject`` is a run id or a finding id."""
        with self._read() as db:
            return audit.select_events(db, subject, limit)

    def note(self, kind: str, subject: str, detail: Mapping[str, Any], at: str, *, by: str = SELF) -> bool:
        """Note in the audit log what is kept nowhere else. Secrets MUST NOT be in it, nor what images show.

        Returns:
            False when the last such note about ``subject`` says the same, which is left to stand for both.
        """
        with self._write() as db:
            return audit.note(db, audit.Entry(at, by, kind, subject, detail))

    def event_rows(self, first: int = 1) -> Iterator[dict[str, Any]]:
        """Audit events from number ``first`` on, a thousand at a time, as they are stored: ``detail`` is a text."""
        while True:
            with self._read() as db:
                rows = audit.rows_from(db, first, 1000)
            if not rows:
                return
            yield from rows
            first = rows[-1]["seq"] + 1

    def verify_events(self, kept: Mark | None = None) -> list[str]:
        """Check the whole audit log; one sentence for each event that was changed, removed or moved.

        Whoever can write the database can also forge a whole new chain, or cut off its end. ``kept`` is an earlier
        :meth:`audit_head`, which was noted elsewhere: it shows that too.
        """
        with self._read() as db:
            return audit.verify(db, kept)

    def audit_head(self) -> Mark:
        """Number and hash of the last audit event."""
        with self._read() as db:
            return audit.head(db)
