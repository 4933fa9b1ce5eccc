"""The tables. Every change here needs a migration in ``migrations/versions`` and a new :data:`SCHEMA`.

JSON is kept as text in one canonical spelling, because digests are taken over it.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

#: The migration that this version of labelbridge works with.
SCHEMA = "0005"

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)

#: ``started_key`` is ``started_at`` in one spelling, so that texts sort as times do. What a run saw and found is no
#: longer kept where it is ``forgotten_at`` some time.
runs = Table(
    "runs",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("target", String, nullable=False),
    Column("title", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("model", String, nullable=False),
    Column("scorer", String, nullable=False),
    Column("labels", Text, nullable=False),
    Column("started_at", String, nullable=False),
    Column("started_key", String, nullable=False),
    Column("finished_at", String),
    Column("snapshot", String(64)),
    Column("forgotten_at", String),
    Column("options", Text, nullable=False),
    Column("counts", Text, nullable=False),
    Index(None, "target", "started_key"),
)

#: Compressed records, each distinct content once.
chunks = Table(
    "chunks",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("body", LargeBinary, nullable=False),
)

#: ``annotations`` is the snapshot hash of the chunk alone: the part that a sealed snapshot must not change.
run_chunks = Table(
    "run_chunks",
    metadata,
    Column("run_id", String, ForeignKey("runs.id"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("chunk", String(64), ForeignKey("chunks.hash"), nullable=False, index=True),
    Column("annotations", String(64), nullable=False),
)

#: ``body`` is the whole finding; the other columns repeat what is searched for.
findings = Table(
    "findings",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("target", String, nullable=False),
    Column("item_id", String, nullable=False),
    Column("error", String, nullable=False),
    Column("label", String, nullable=False),
    Column("scorer", String, nullable=False),
    Column("score", Float, nullable=False),
    Column("state", String, nullable=False),
    Column("first_run", String, ForeignKey("runs.id"), nullable=False),
    Column("last_run", String, ForeignKey("runs.id"), nullable=False),
    Column("body", Text, nullable=False),
    Index(None, "target", "score"),
)

run_findings = Table(
    "run_findings",
    metadata,
    Column("run_id", String, ForeignKey("runs.id"), primary_key=True),
    Column("finding_id", String(64), ForeignKey("findings.id"), primary_key=True),
)

#: ``reviewer`` is who is to judge, where that is anybody in particular; a case with ``withdrawn_at`` stands no more.
pushes = Table(
    "pushes",
    metadata,
    Column("finding_id", String(64), ForeignKey("findings.id"), primary_key=True),
    Column("review_ref", String, primary_key=True),
    Column("ref", String, nullable=False),
    Column("url", String, nullable=False),
    Column("pushed_at", String, nullable=False),
    Column("reviewer", String),
    Column("withdrawn_at", String),
    Index(None, "review_ref"),
)

#: Pushes whose answer is not there yet; ``cut_off`` ones were sent again since, so that a finding may stand twice.
sendings = Table(
    "sendings",
    metadata,
    Column("finding_id", String(64), ForeignKey("findings.id"), primary_key=True),
    Column("review_ref", String, primary_key=True),
    Column("sent_at", String, nullable=False),
    Column("cut_off", Boolean, nullable=False),
)

#: One place for each way of reviewing (``mode``) that was used.
reviews = Table(
    "reviews",
    metadata,
    Column("target", String, primary_key=True),
    Column("mode", String, primary_key=True),
    Column("ref", String, nullable=False),
    Column("url", String, nullable=False),
)

#: ``decided_key`` is ``decided_at`` spelt likewise. ``scorer``, ``error``, ``label`` and ``score`` are those of the
#: finding when it was judged: a later run may find it again with another scorer.
verdicts = Table(
    "verdicts",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("finding_id", String(64), ForeignKey("findings.id"), nullable=False),
    Column("decision", String, nullable=False),
    Column("reviewer", String, nullable=False),
    Column("decided_at", String, nullable=False),
    Column("decided_key", String, nullable=False),
    Column("source", String, nullable=False),
    Column("scorer", String, nullable=False),
    Column("error", String, nullable=False),
    Column("label", String, nullable=False),
    Column("score", Float, nullable=False),
    Column("fix", Text),
    Column("recorded_at", String, nullable=False),
    UniqueConstraint("finding_id", "source", "decided_at", "decision"),
)

#: The findings of a run that were drawn by chance; ``size`` findings were in their stratum then.
samples = Table(
    "samples",
    metadata,
    Column("run_id", String, ForeignKey("runs.id"), primary_key=True),
    Column("finding_id", String(64), ForeignKey("findings.id"), primary_key=True),
    Column("stratum", Integer, nullable=False),
    Column("size", Integer, nullable=False),
    Column("drawn_at", String, nullable=False),
)

fixes = Table(
    "fixes",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("finding_id", String(64), ForeignKey("findings.id"), nullable=False, index=True),
    Column("outcome", String, nullable=False),
    Column("message", Text, nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
    Column("recorded_at", String, nullable=False),
)

#: Objects that undoing a deletion put back under another id: a finding about one is still the same finding.
renewals = Table(
    "renewals",
    metadata,
    Column("target", String, primary_key=True),
    Column("object_id", String, primary_key=True),
    Column("former_id", String, nullable=False),
)

#: Who annotated a job before it went to a reviewer; ``place`` is the job's address.
handovers = Table(
    "handovers",
    metadata,
    Column("place", String, primary_key=True),
    Column("annotator", String, nullable=False),
    Column("recorded_at", String, nullable=False),
)

#: What a model suggested in a tool that keeps no predictions; ``place`` is the job's address, ``revision`` tells the
#: object as it was suggested.
suggestions = Table(
    "suggestions",
    metadata,
    Column("place", String, primary_key=True),
    Column("frame", Integer, primary_key=True, autoincrement=False),
    Column("revision", String(16), primary_key=True),
    Column("model", String, primary_key=True),
    Column("label", String, nullable=False),
    Column("shape", Text, nullable=False),
    Column("confidence", Float, nullable=False),
    Column("recorded_at", String, nullable=False),
)

#: The audit log. Rows are only ever added; ``hash`` covers the row and ``prev_hash``.
events = Table(
    "events",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at", String, nullable=False),
    Column("actor", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("subject", String, nullable=False, index=True),
    Column("detail", Text, nullable=False),
    Column("prev_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)

#: One row, ``id`` 1: where the audit log ends. Writers lock it, and it shows when the last events were removed.
event_head = Table(
    "event_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", Integer, nullable=False),
    Column("hash", String(64), nullable=False),
)

#: Webhooks that came in, each once (``digest`` is over the raw body). They only say where to look, so no body is kept.
#: ``places`` lists where the event happened, from the narrowest; ``moment`` is the tool's own time, where it tells one.
hints = Table(
    "hints",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("tool", String, nullable=False),
    Column("places", Text, nullable=False),
    Column("event", String, nullable=False),
    Column("moment", String),
    Column("digest", String(64), nullable=False, unique=True),
    Column("received_at", String, nullable=False),
    Column("taken_at", String, index=True),
)

#: What the standing service knows about a target that it watches. ``cursor`` is how far its changes were read, in the
#: tool's own terms; ``failures`` counts the polls that failed since one succeeded.
watches = Table(
    "watches",
    metadata,
    Column("target", String, primary_key=True),
    Column("cursor", Text),
    Column("polled_at", String),
    Column("next_poll_at", String),
    Column("failures", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Column("run_to_push", String),
    Column("answers_since", String),
    Column("synced_at", String),
)

#: What changed in a watched target and was not dealt with yet. ``kind`` is ``new`` or ``work``; ``moment`` is the
#: tool's time of the change, the other two are ours.
changes = Table(
    "changes",
    metadata,
    Column("target", String, primary_key=True),
    Column("kind", String, primary_key=True),
    Column("item_id", String, primary_key=True),
    Column("moment", String, nullable=False),
    Column("first_at", String, nullable=False),
    Column("last_at", String, nullable=False),
)

#: How each journey through a watched target went last; ``failures`` counts those since one succeeded.
turns = Table(
    "turns",
    metadata,
    Column("target", String, primary_key=True),
    Column("journey", String, primary_key=True),
    Column("ended_at", String, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("retry_at", String),
)
