"""Reviews of spans give one answer, in whatever order the spans come."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ugly import confidences

from bridge.core.annotations import Annotation, Item, LabelSet, Prediction, Record, Submission, TextSpan
from bridge.scorers import RecordReview
from bridge.scorers.consensus_review import ConsensusReview
from bridge.scorers.span_review import SpanReview

LABELS = LabelSet(("cat", "dog"))
TEXT = "A cat, a dog. And a cow  "
kinds = st.sampled_from((*LABELS.names, "not in the set"))
spans = st.tuples(st.integers(-1, 22), st.integers(0, 6)).map(
    lambda t: TextSpan(t[0], t[0] + t[1], TEXT[max(t[0], 0) : max(t[0] + t[1], 0)])
)
REVIEWS = [SpanReview(), ConsensusReview()]


@st.composite
def texts(draw: st.DrawFn) -> list[Record]:
    records = []
    for i in range(draw(st.integers(0, 3))):
        work = []
        for who in ("ann", "bob", "cid")[: draw(st.integers(0, 3))]:
            drawn = draw(st.lists(st.tuples(kinds, spans), max_size=4))
            objects = tuple(Annotation(f"{i}.{who}.{k}", label, shape) for k, (label, shape) in enumerate(drawn))
            work.append(Submission(f"{i}.{who}", who, objects))
        seen = draw(st.lists(st.builds(Prediction, kinds, spans, confidences, st.sampled_from("mn")), max_size=4))
        records.append(Record(Item(str(i), f"text {i}", "", text=TEXT), tuple(work), tuple(seen), predicted_by=("m",)))
    return records


@pytest.mark.parametrize("review", REVIEWS, ids=lambda r: r.name)
@settings(deadline=None)
@given(records=texts())
def test_findings_keep_the_contract(review: RecordReview, records: list[Record]) -> None:
    found = review.find("t", LABELS, records)
    assert len({f.id for f in found}) == len(found)
    about = [(f.error, a) for f in found for a in f.annotation_ids]
    assert len(set(about)) == len(about)
    assert all(0 < f.score <= 1 for f in found)
    given_spans = {a.id: a for r in records for s in r.submissions for a in s.annotations}
    for f in found:
        assert [given_spans[a].revision for a in f.annotation_ids] == list(f.revisions)
        assert f.fix.shape is None or (isinstance(f.fix.shape, TextSpan) and not f.fix.shape.problem())


@pytest.mark.parametrize("review", REVIEWS, ids=lambda r: r.name)
@settings(max_examples=60, deadline=None)
@given(records=texts(), random=st.randoms(use_true_random=False))
def test_the_order_of_texts_people_spans_and_predictions_does_not_matter(
    review: RecordReview, records: list[Record], random: object
) -> None:
    def shuffled(values: tuple) -> tuple:
        values = list(values)
        random.shuffle(values)
        return tuple(values)

    mixed = [
        replace(
            r,
            submissions=shuffled(
                tuple(replace(s, annotations=shuffled(s.annotations)) for s in r.submissions)
                if isinstance(review, SpanReview)
                else r.submissions
            ),
            predictions=shuffled(r.predictions),
        )
        for r in shuffled(tuple(records))
    ]
    first, again = ({f.id: f for f in review.find("t", LABELS, rs)} for rs in (records, mixed))
    assert first.keys() == again.keys()
    for key, finding in first.items():
        assert finding.score == pytest.approx(again[key].score)
