"""One JSON object per line, with secrets masked."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any, TextIO

import structlog

Log = structlog.typing.FilteringBoundLogger


def json_logger(stream: TextIO, secrets: Iterable[str] = (), level: int = 20) -> Log:
    """A logger that writes to ``stream``; configures nothing outside itself.

    Args:
        secrets: texts that are replaced by ``***`` wherever they would appear.
        level: as in :mod:`logging`; 20 is info.
    """
    hidden = sorted((secret for secret in secrets if secret), key=len, reverse=True)

    def mask(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {key: _masked(value, hidden) for key, value in event.items()}

    log: Log = structlog.wrap_logger(
        structlog.WriteLogger(stream),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            mask,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )
    return log


def _masked(value: Any, hidden: list[str]) -> Any:
    if isinstance(value, str):
        for secret in hidden:
            value = value.replace(secret, "***")
        return value
    if isinstance(value, dict):
        return {key: _masked(one, hidden) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(one, hidden) for one in value]
    return value
