"""Fresh ids, for suggested regions and for requests."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable


def fresh_ids() -> Callable[[], str]:
    """A function that gives another id of 16 characters at each call.

    Random once and counted from there: ids of two servers, and of one before and after a restart, differ, and none
    costs more than a number.
    """
    prefix = uuid.uuid4().hex[:9]
    numbers = itertools.count()
    return lambda: f"{prefix}{next(numbers):07x}"
