"""How a team labels: how far its people agree, and which errors each of them makes.

Agreement is measured where two people or more labelled one item. Their objects are clustered (an outline by the box
around it; the one tag of an image is a cluster too), and everybody who looked says of each cluster which class it is,
or that nothing is there; see :mod:`bridge.core.consensus`, from which the consensus comes. Models have no say.

*Alpha* is Krippendorff's over all clusters, "absent" being one more class. The *kappa* of a class is that of all pairs
of people, of a person that against the consensus over all classes, both in the form for objects
(:func:`bridge.core.agreement.object_kappa`).

Errors are the findings that are more likely real than not, per 100 objects that the person labelled.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.core.agreement import krippendorff_alpha, object_kappa
from bridge.core.annotations import Annotation, Box, LabelSet, Record, Submission, Tag
from bridge.core.consensus import Votes, cluster_objects, weigh_votes
from bridge.core.findings import REVIEWED_TYPES, Finding
from bridge.core.objects import outline_envelope

Ints = npt.NDArray[np.int64]

#: Below it the people of a project understand a class differently: time to look at its guideline.
LOW_KAPPA = 0.75
#: A finding from this score on counts as an error.
LIKELY = 0.5


@dataclass(frozen=True, slots=True)
class ClassAgreement:
    """``objects`` is how many things somebody gave this class; ``kappa`` is None where nobody looked twice."""

    label: str
    objects: int
    kappa: float | None

    @property
    def is_low(self) -> bool:
        return self.kappa is not None and self.kappa < LOW_KAPPA


@dataclass(frozen=True, slots=True)
class Person:
    """One annotator.

    Attributes:
        submissions, objects: how much this person labelled.
        shared: submissions of items that somebody else labelled too.
        kappa: against the consensus of those; None without any.
        errors: for each reviewed type of error, how many of 100 objects; None without objects.
    """

    name: str
    submissions: int
    objects: int
    shared: int
    kappa: float | None
    errors: Mapping[str, float | None]

    @property
    def is_low(self) -> bool:
        return self.kappa is not None and self.kappa < LOW_KAPPA


@dataclass(frozen=True, slots=True)
class Team:
    """The figures of one run.

    Attributes:
        items: how many were labelled by two people or more.
        alpha: over all that was labelled there, in [-1, 1]; None where it has no answer.
        classes: in the order of the label set, those that were used there.
        people: who makes the most errors per object first; who has no name is left out.
    """

    items: int = 0
    alpha: float | None = None
    classes: tuple[ClassAgreement, ...] = ()
    people: tuple[Person, ...] = ()

    @property
    def by_kappa(self) -> list[ClassAgreement]:
        """The classes, the least agreed upon first."""
        return sorted(self.classes, key=lambda c: (2.0 if c.kappa is None else c.kappa, c.label))

    @property
    def unclear(self) -> list[ClassAgreement]:
        """Those of them whose guideline wants a look."""
        return [c for c in self.by_kappa if c.is_low]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Team:
        """Inverse of :meth:`to_dict`."""
        classes = tuple(ClassAgreement(**c) for c in data["classes"])
        return cls(data["items"], data["alpha"], classes, tuple(Person(**p) for p in data["people"]))


def team_of(labels: LabelSet, records: Sequence[Record], findings: Iterable[Finding]) -> Team:
    """The figures of everybody whose submissions are among ``records``; the order of the records does not matter."""
    board = _Board(labels)
    several = [record for record in records if len(record.submissions) > 1]
    for record in several:
        board.add(record)
    consensus = board.consensus()
    return Team(
        items=len(several),
        alpha=board.alpha(),
        classes=tuple(board.classes()),
        people=tuple(sorted(_people(records, findings, board.kappas(consensus)), key=_worst_first)),
    )


class _Board:
    """What everybody says of every cluster: one vote for each person who looked, -1 for "nothing is there"."""

    def __init__(self, labels: LabelSet) -> None:
        self.index = labels.index()
        self.names = labels.names
        self.person: list[str] = []
        self.place: list[int] = []
        self.cluster: list[int] = []
        self.label: list[int] = []
        self.items: Counter[str] = Counter()
        self.total = self.clusters = 0

    def add(self, record: Record) -> None:
        people = [s.annotator or f"submission {s.id}" for s in record.submissions]
        self.total += 1
        self.items.update(set(people))
        for said in [*self._objects(record.submissions), *self._tags(record.submissions)]:
            for place, name in enumerate(people):
                self.person.append(name)
                self.place.append(place)
                self.cluster.append(self.clusters)
                self.label.append(said.get(place, -1))
            self.clusters += 1

    def _objects(self, submissions: Sequence[Submission]) -> list[dict[int, int]]:
        """For each cluster the class that each submission gives it; those that have nothing there are left out."""
        rows = [
            (place, self.index[a.label], box)
            for place, submission in enumerate(submissions)
            for a in submission.annotations
            if a.label in self.index and (box := _box(a)) is not None
        ]
        if not rows:
            return []
        rater = np.array([place for place, _, _ in rows], dtype=np.int64)
        columns = np.array([box for _, _, box in rows], dtype=np.float64)
        clusters: dict[int, dict[int, int]] = defaultdict(dict)
        cluster = cluster_objects(rater, columns[:, :4], columns[:, 4])
        for k, (place, label, _) in zip(cluster.tolist(), rows, strict=True):
            clusters[k][place] = label
        return [clusters[k] for k in sorted(clusters)]

    def _tags(self, submissions: Sequence[Submission]) -> list[dict[int, int]]:
        """The tags of the whole image, where nobody has more than one."""
        tags = [
            [self.index[a.label] for a in s.annotations if isinstance(a.shape, Tag) and a.label in self.index]
            for s in submissions
        ]
        if max(map(len, tags)) != 1:
            return []
        return [{place: own[0] for place, own in enumerate(tags) if own}]

    def alpha(self) -> float | None:
        if not self.label or len(set(self.label) - {-1}) < 2:
            return None  # with one class in use all that could be told apart by chance is presence
        absent = len(self.names)
        ratings = np.full((self.clusters, 1 + max(self.place)), -1, dtype=np.int64)
        label = np.array(self.label)
        ratings[self.cluster, self.place] = np.where(label < 0, absent, label)
        return krippendorff_alpha(ratings)

    def classes(self) -> list[ClassAgreement]:
        label, cluster = np.array(self.label, dtype=np.int64), np.array(self.cluster, dtype=np.int64)
        lookers = np.bincount(cluster, minlength=self.clusters)
        found = []
        for k in np.unique(label[label >= 0]).tolist():
            said = np.bincount(cluster[label == k], minlength=self.clusters)
            agreed = int((said * (said - 1)).sum()) // 2
            marked = int((said * (lookers - 1)).sum())
            found.append(ClassAgreement(self.names[k], int((said > 0).sum()), object_kappa(agreed, marked)))
        return found

    def consensus(self) -> Ints:
        """(C,) int64: what each cluster is to all of them, -1 for nothing."""
        if not self.label:
            return np.zeros(0, dtype=np.int64)
        names = sorted(self.items)
        number = {name: k for k, name in enumerate(names)}
        votes = Votes(
            cluster=np.array(self.cluster),
            rater=np.array([number[name] for name in self.person]),
            label=np.array(self.label),
            loudness=np.ones(len(self.label)),
            images=np.array([self.items[name] for name in names]),
            total=self.total,
            classes=len(self.names),
        )
        best = weigh_votes(votes).posterior.argmax(axis=1)
        return np.where(best == len(self.names), -1, best)

    def kappas(self, consensus: Ints) -> dict[str, float | None]:
        """Of each person against the consensus, over what the person looked at."""
        agreed: Counter[str] = Counter()
        marked: Counter[str] = Counter()
        for name, k, label in zip(self.person, self.cluster, self.label, strict=True):
            agreed[name] += int(label >= 0 and label == consensus[k])
            marked[name] += int(label >= 0) + int(consensus[k] >= 0)
        return {name: object_kappa(agreed[name], marked[name]) for name in marked}


def _people(
    records: Sequence[Record], findings: Iterable[Finding], kappas: Mapping[str, float | None]
) -> Iterable[Person]:
    owner = {(r.item.id, s.id): s.annotator for r in records for s in r.submissions}
    submissions, shared, objects = Counter[str](), Counter[str](), Counter[str]()
    for record in records:
        for submission in record.submissions:
            submissions[submission.annotator] += 1
            shared[submission.annotator] += len(record.submissions) > 1
            objects[submission.annotator] += len(submission.annotations)
    errors: dict[str, Counter[str]] = defaultdict(Counter)
    for finding in findings:
        if finding.error in REVIEWED_TYPES and finding.score >= LIKELY:
            errors[owner.get((finding.item_id, finding.submission_id), "")][str(finding.error)] += 1
    for name in filter(None, submissions):
        rates = {
            str(error): 100 * errors[name][str(error)] / objects[name] if objects[name] else None
            for error in REVIEWED_TYPES
        }
        yield Person(name, submissions[name], objects[name], shared[name], kappas.get(name), rates)


def _worst_first(person: Person) -> tuple[float, str]:
    return -sum(rate or 0.0 for rate in person.errors.values()), person.name


def _box(annotation: Annotation) -> tuple[float, float, float, float, float] | None:
    """x1, y1, x2, y2 and rotation; None for what has no extent."""
    shape = annotation.shape
    if isinstance(shape, Box):
        return (*shape.xyxy, shape.rotation) if shape.problem() is None else None
    around = outline_envelope(shape)
    return None if around is None or not math.isfinite(sum(around)) else (*around, 0.0)
