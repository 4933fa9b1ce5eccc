"""Items that could not be done, while the rest of the run went on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bridge.errors import PartialFailure


@dataclass(frozen=True, slots=True)
class Failure:
    """``item`` names the image (id and name), ``message`` says what happened and what to do."""

    item: str
    message: str

    def __str__(self) -> str:
        return self.message if self.item in self.message else f"{self.item}: {self.message}"


def raise_if_any(failures: Sequence[Failure], done: int, what: str) -> None:
    """Raise PartialFailure naming the first few items when there are failures.

    Raises:
        PartialFailure: with the number of failed items and how to retry just those.
    """
    if not failures:
        return
    shown = "".join(f"\n  - {f}" for f in failures[:5])
    more = f"\n  and {len(failures) - 5} more" if len(failures) > 5 else ""
    raise PartialFailure(
        f"{len(failures)} of {done + len(failures)} items could not be {what}:{shown}{more}",
        todo="The rest is done. Repair these and run the same command again",
    )
