"""Findings on images that the model was trained on: they count for less, and say so.

Such a model repeats errors that it was shown. How sure its surprise makes us was learned from planted errors, which it
was not shown. So with a chance of ``1 - WORTH`` what it says is taken to be an echo, which is no evidence, and without
evidence hardly any label is wrong. What is left of a score is ``WORTH * score``: the order of such findings stays, and
they stand behind equal ones from images that the model had not seen.

``WORTH`` is about the share of errors that are still found. On drawn scenes with planted errors, a cross-fit gave 63 of
them a score of 0.5 or more and the final model, after 8 passes over the images, 48; after 30 passes it was 22 and 15.
What still stood out was an error more often, not less (63 of 66 findings against 85 of 103). So a lowered score is
careful; what is lost are the errors that are not listed, which no score can tell.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from bridge.core.annotations import Record
from bridge.core.findings import Finding

#: What evidence from a model's own training image is worth, as a share of that from any other.
WORTH = 0.75


def lowered(findings: Sequence[Finding], records: Sequence[Record], independent: Collection[str]) -> list[Finding]:
    """The same findings in the same order, those on images in a model's sample with a lower score.

    Args:
        records: tell which images were in the sample of which models.
        independent: names of scorers whose scores do not rest on a model; their findings stay as they are.
    """
    seen = {record.item.id for record in records if "in" in record.samples}
    return [f if f.item_id not in seen or f.scorer in independent else _lowered(f) for f in findings]


def _lowered(finding: Finding) -> Finding:
    return replace(
        finding,
        score=WORTH * finding.score,
        reason=f"{finding.reason} The model was trained on this image.",
        evidence={**finding.evidence, "in_sample": True},
    )
