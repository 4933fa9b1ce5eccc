"""bridge.core.worth: what is reviewed first pays most."""

from __future__ import annotations

import pytest

from bridge.core.findings import ErrorType
from bridge.core.worth import GAIN, SECONDS, Worth


def test_gain_by_probability_per_second() -> None:
    usual = Worth()
    assert usual.per_second(ErrorType.MISSING, 0.9) == pytest.approx(0.9 / 6)
    assert usual.per_second(ErrorType.IMPRECISE, 0.9) == pytest.approx(0.9 * 0.7 / 7)
    own = Worth(gain={ErrorType.MISSING: 3.0}, seconds={ErrorType.MISSING: 12.0, ErrorType.EXTRA: 2.0})
    assert own.per_second(ErrorType.MISSING, 0.8) == pytest.approx(0.8 * 3 / 12)
    assert own.per_second(ErrorType.EXTRA, 0.8) == pytest.approx(0.8 / 2)
    assert own.seconds_of(ErrorType.IMPRECISE) == 7
    assert own.per_second(ErrorType.WRONG_CLASS, 0.5) == usual.per_second(ErrorType.WRONG_CLASS, 0.5)


def test_every_type_has_its_figures() -> None:
    assert set(GAIN) == set(SECONDS) == set(ErrorType)
    assert min(*GAIN.values(), *SECONDS.values()) > 0
