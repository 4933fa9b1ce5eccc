"""Label Studio's Community edition assigns nobody: what it cannot see to is refused, with what it can do instead."""

from __future__ import annotations

import pytest

from bridge.core.assignment import Who
from bridge.errors import UsageError
from bridge.tools.label_studio import LabelStudio
from bridge.tools.label_studio_client import LabelStudioClient

TOOL = LabelStudio(LabelStudioClient("http://127.0.0.1:9", "0" * 40), 7)


@pytest.mark.parametrize(
    ("who", "what"),
    [
        ("others", "the annotator does not judge their own work"),
        ("annotator", "only the annotator judges"),
    ],
)
def test_nobody_can_be_kept_out(who: Who, what: str) -> None:
    with pytest.raises(UsageError, match=f"nobody can see to it that {what}") as caught:
        TOOL.seats([], who)
    assert "--requeue" in caught.value.todo


def test_anyone_may_judge() -> None:
    assert TOOL.seats([], "anyone").reviewers == ()
