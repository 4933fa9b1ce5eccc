"""One model for many threads."""

from __future__ import annotations

import functools
import threading
from typing import Any


class OneAtATime:
    """Whatever ``model`` is and can, but one call after the other, as models need it."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._model, name)
        if not callable(value):
            return value

        @functools.wraps(value)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                return value(*args, **kwargs)

        return call
