"""What reviewing a finding is worth: the gain of a repaired error, by its probability, per second of review."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bridge.core.findings import ErrorType

#: What a repaired error is worth. A box of the right class that is somewhat off still teaches a detector most of it.
GAIN: Mapping[ErrorType, float] = {**dict.fromkeys(ErrorType, 1.0), ErrorType.IMPRECISE: 0.7}

#: Seconds to judge one finding: rough figures, to be replaced by your own. One box or one class is a glance; what is
#: not labelled has to be told from what is, and two outlines have to be compared.
SECONDS: Mapping[ErrorType, float] = {
    **dict.fromkeys(ErrorType, 5.0),
    ErrorType.MISSING: 6.0,
    ErrorType.IMPRECISE: 7.0,
}


@dataclass(frozen=True, slots=True)
class Worth:
    """``gain`` and ``seconds`` by error type, above 0; types that are left out have the usual figures."""

    gain: Mapping[ErrorType, float] = field(default_factory=dict)
    seconds: Mapping[ErrorType, float] = field(default_factory=dict)

    def seconds_of(self, error: ErrorType) -> float:
        return self.seconds.get(error, SECONDS[error])

    def per_second(self, error: ErrorType, probability: float) -> float:
        """The expected gain of a second of review."""
        return probability * self.gain.get(error, GAIN[error]) / self.seconds_of(error)
