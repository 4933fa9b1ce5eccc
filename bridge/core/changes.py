"""What changed in a target, as its tool tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ChangeKind = Literal["new", "work"]


@dataclass(frozen=True, slots=True)
class Change:
    """An item that came (``new``), or whose submitted work changed or went away (``work``).

    ``moment`` is when, by the tool's own clock, in ISO 8601. The item may be gone.
    """

    item_id: str
    kind: ChangeKind
    moment: str
