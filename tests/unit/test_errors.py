"""How an error reads."""

from __future__ import annotations

import pytest

from bridge.errors import DataError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (DataError("it is broken"), "It is broken."),
        (
            DataError("it is broken.", expected="a whole one", todo="Mend it."),
            "It is broken. Expected a whole one. Mend it.",
        ),
        (DataError("it is broken", todo="Did you mean this?"), "It is broken. Did you mean this?"),
    ],
)
def test_each_part_is_a_sentence(error: DataError, text: str) -> None:
    assert str(error).capitalize() == text.capitalize()
