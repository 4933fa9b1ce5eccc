"""Pictures that are there more than once: labelled otherwise, in several splits, or merely superfluous.

Only submitted items whose image was opened are compared. The score is the degree to which two images are one picture
(:mod:`bridge.core.near_duplicates`). That their labels differ is a fact, but for crops and boxes on the verge of
matching, which a single difference is likelier to be than several. There is no fix: which of two labels is right, and
which copy goes, only a person can tell.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bridge.core.annotations import Annotation, LabelSet, Record
from bridge.core.findings import ErrorType, Finding, Fix, finding_id
from bridge.core.fingerprints import CELLS
from bridge.core.label_difference import Difference, difference, relative_objects
from bridge.core.near_duplicates import Alike, find_alike
from bridge.core.splits import learned_from_first

_NOTHING_TO_DO = Fix("none")
#: How many members of a group are compared with one another to find out what most of them say.
_JURY = 24
#: So many differences are as likely as not to be no error.
_DOUBT = 0.25
_NAMED = 10


@dataclass(frozen=True, slots=True)
class _Member:
    """One record of a group, and how surely it is the picture of the group's centre."""

    record: Record
    score: float

    @property
    def order(self) -> tuple[tuple[bool, str], float, str]:
        item = self.record.item
        return learned_from_first(item.split), -self.score, item.id


class NearDuplicateReview:
    """See the module's text; a :class:`~bridge.scorers.RecordReview`. The order of the records does not matter."""

    name = "near-duplicates-1"

    def find(self, target: str, labels: LabelSet, records: Sequence[Record]) -> list[Finding]:
        del labels
        seen = [record for record in records if record.thumbnail and record.submissions]
        if len(seen) < 2:
            return []
        pixels = np.frombuffer(b"".join(r.thumbnail for r in seen), np.uint8).reshape(-1, CELLS, CELLS)
        alike = find_alike(pixels)
        findings = []
        for group in _groups(seen, alike):
            findings += [*self._inconsistent(target, group), *self._superfluous(target, group)]
        return findings + list(self._leaks(target, seen, alike))

    def _superfluous(self, target: str, group: Sequence[_Member]) -> Iterator[Finding]:
        """All members but the first of each split: what is in two splits leaks, which is another finding."""
        first: dict[str, _Member] = {}
        for member in group:
            original = first.setdefault(member.record.item.split, member)
            if original is not member:
                others = [m for m in group if m is not member]
                reason = f"This is almost certainly the same picture as {_named(original.record)}"
                if member.score < 0.95:
                    reason = f"This looks like the same picture as {_named(original.record)}"
                more = f", one of {len(group)} that are alike." if len(group) > 2 else "."
                score = min(member.score, original.score)
                yield self._finding(
                    target, member.record, ErrorType.NEAR_DUPLICATE, score, reason + more, original.record, others
                )

    def _inconsistent(self, target: str, group: Sequence[_Member]) -> Iterator[Finding]:
        """The members that are labelled otherwise than the one with which most agree."""
        told = [
            (member, objects)
            for member in group
            if (objects := relative_objects(member.record.item, member.record.submissions[0])) is not None
        ]
        if len(told) < 2:
            return
        jury = told[:_JURY]
        against = [sum(len(difference(mine, theirs)) for _, theirs in jury) for _, mine in jury]
        typical, usual = told[int(np.argmin(against))]
        for member, mine in told:
            found = difference(mine, usual)
            if len(found):
                reason = (
                    f"The same picture as {_named(typical.record)} is labelled otherwise there: {found.sentence()}."
                )
                score = min(member.score, typical.score) * len(found) / (len(found) + _DOUBT)
                others = [m for m in group if m is not member]
                yield self._finding(
                    target, member.record, ErrorType.INCONSISTENT_LABELS, score, reason, typical.record, others, found
                )

    def _leaks(self, target: str, records: Sequence[Record], alike: Alike) -> Iterator[Finding]:
        """Images that show what is in a split that is learned from, the training split first."""
        by_node: defaultdict[int, dict[str, Record]] = defaultdict(dict)
        for record, node in sorted(zip(records, alike.node.tolist(), strict=True), key=lambda rn: rn[0].item.id):
            if node >= 0 and record.item.split:
                by_node[node].setdefault(record.item.split, record)
        near: defaultdict[int, list[tuple[float, int]]] = defaultdict(list)
        for a, b, score in zip(alike.first.tolist(), alike.second.tolist(), alike.score.tolist(), strict=True):
            near[a].append((score, b))
            near[b].append((score, a))
        for record, node in zip(records, alike.node.tolist(), strict=True):
            mine = learned_from_first(record.item.split)
            found = [
                (learned_from_first(split), -score, other.item.id, other)
                for score, where in [(1.0, node), *near[node]]
                for split, other in by_node.get(where, {}).items()
                if learned_from_first(split) < mine
            ]
            if record.item.split and found:
                _, falling, _, source = min(found, key=lambda f: f[:3])
                reason = (
                    f"This picture of {record.item.split!r} is in {source.item.split!r} too, as {_named(source)}: "
                    f"what is measured on it says too much good."
                )
                yield self._finding(target, record, ErrorType.LEAKAGE, -falling, reason, source)

    def _finding(
        self,
        target: str,
        record: Record,
        error: ErrorType,
        score: float,
        reason: str,
        original: Record,
        others: Sequence[_Member] = (),
        found: Difference | None = None,
    ) -> Finding:
        here: tuple[Annotation, ...] = found.here if found else ()
        ids = tuple(sorted(a.id for a in here))
        revision = {a.id: a.revision for a in here}
        submission = record.submissions[0].id if found else ""
        evidence: dict[str, Any] = {
            "same_picture_as": original.item.id,
            "group": sorted(m.record.item.id for m in others)[:_NAMED],
            "group_size": len(others) + 1 if others else 2,
        }
        if record.item.split or original.item.split:
            evidence["splits"] = [record.item.split, original.item.split]
        if found:
            evidence["differences"] = len(found)
        return Finding(
            id=finding_id(target, record.item.id, submission, ids, error, _NOTHING_TO_DO),
            target=target,
            item_id=record.item.id,
            item_name=record.item.name,
            submission_id=submission,
            annotation_ids=ids,
            error=error,
            label=min((a.label for a in here), default=""),
            score=score,
            reason=reason,
            fix=_NOTHING_TO_DO,
            scorer=self.name,
            revisions=tuple(revision[i] for i in ids),
            evidence=evidence,
        )


def without_known(findings: Sequence[Finding], same_file: Mapping[str, str]) -> list[Finding]:
    """The findings but for near-duplicates that are the very same file, which the data checks tell.

    Args:
        same_file: SHA-256 of image files, by item id.
    """

    def is_known(finding: Finding) -> bool:
        mine = same_file.get(finding.item_id)
        return mine is not None and mine == same_file.get(finding.evidence["same_picture_as"])

    return [f for f in findings if f.error is not ErrorType.NEAR_DUPLICATE or not is_known(f)]


def _groups(records: Sequence[Record], alike: Alike) -> Iterator[list[_Member]]:
    """Groups of two and more, each with what is learned from first."""
    centres = alike.centres()
    pairs = zip(alike.first.tolist(), alike.second.tolist(), alike.score.tolist(), strict=True)
    score = {pair: value for a, b, value in pairs for pair in ((a, b), (b, a))}
    groups: defaultdict[int, list[_Member]] = defaultdict(list)
    for record, node in zip(records, alike.node.tolist(), strict=True):
        if node >= 0:
            centre = int(centres[node])
            groups[centre].append(_Member(record, 1.0 if centre == node else score[node, centre]))
    for centre in sorted(groups):
        if len(groups[centre]) > 1:
            yield sorted(groups[centre], key=lambda member: member.order)


def _named(record: Record) -> str:
    return f"{record.item.name} ({record.item.id})"
