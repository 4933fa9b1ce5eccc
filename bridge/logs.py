"""One JSON object per line, with secrets masked."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson
import structlog

_LINE = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z

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
            _as_json,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )
    return log


class AccessLog:
    """One line about each request, of the same form as other lines; made by hand, because there are so many.

    Args:
        stream: where lines go.
        secrets: texts that are replaced by ``***`` in paths.
    """

    def __init__(self, stream: TextIO, secrets: Iterable[str] = ()) -> None:
        self._write = stream.write
        self._flush = stream.flush
        self._hidden = sorted((secret for secret in secrets if secret), key=len, reverse=True)

    def note(self, request_id: str, method: str, path: str, status: int, seconds: float) -> None:
        line = {
            "request_id": request_id,
            "method": method,
            "path": _masked(path, self._hidden),
            "status": status,
            "ms": round(seconds * 1000, 1),
            "event": "request",
            "level": "info",
            "timestamp": datetime.now(UTC),
        }
        self._write(orjson.dumps(line, option=_LINE).decode())
        self._flush()


def _as_json(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()


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
