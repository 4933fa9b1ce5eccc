"""How the findings of a CVAT go to review."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ReviewMode(StrEnum):
    """``issues``: one issue for each finding, in the job it is about. ``task``: a review task with the flagged frames.

    ``overlay``: issues, and beside them a ground truth job which the editor draws over the annotations.
    """

    ISSUES = "issues"
    TASK = "task"
    OVERLAY = "overlay"


@dataclass(frozen=True, slots=True)
class ReviewPlan:
    """What a push does.

    Attributes:
        reviewer: user names, joined by commas; who gets the jobs, or the review tasks. Empty: nobody in particular.
        hand_over: whether the jobs of the findings go to the stage of validation; not in the mode ``task``.
    """

    mode: ReviewMode = ReviewMode.ISSUES
    reviewer: str = ""
    hand_over: bool = True

    @property
    def reviewers(self) -> tuple[str, ...]:
        """The names, each once."""
        return tuple(dict.fromkeys(name.strip() for name in self.reviewer.split(",") if name.strip()))
