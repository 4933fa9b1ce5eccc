"""What a reviewer is asked about a finding, in words: the same in every tool."""

from __future__ import annotations

from bridge.core.annotations import TextSpan
from bridge.core.findings import ErrorType, Finding


def title_of(finding: Finding) -> str:
    """What the task asks, in a few words."""
    new = finding.fix.label or finding.label
    match finding.error:
        case ErrorType.MISSING:
            return f"Missing {new}?"
        case ErrorType.EXTRA:
            return f"Is there no {finding.label} here?"
        case ErrorType.WRONG_CLASS:
            return f"Labelled {finding.label}: is it {new}?"
        case ErrorType.IMPRECISE:
            thing = "span" if isinstance(finding.current_shape, TextSpan) else "box"
            return f"Does the {finding.label} {thing} fit?"
        case _:
            return str(finding.error).replace("_", " ").capitalize() + "?"
