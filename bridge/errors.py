"""Every error labelbridge raises on purpose, and the exit status the command line gives it.

    LabelbridgeError                 1
    ├── UsageError                   2   the command's words cannot be understood
    ├── ConfigError                  3   a setting is missing or wrong
    ├── DataError                    4   a file or an annotation cannot be used
    │   └── ImageError               4   an image cannot be decoded, or is larger than allowed
    ├── ToolError                    5   the annotation tool refused, or answered something unusable
    │   ├── ToolUnreachable          5   no answer: wrong address, not running, time-out, too many requests
    │   ├── AuthError                5   the token is wrong, expired or not allowed
    │   └── NotFound                 5   the project, task or annotation does not exist
    ├── ModelError                   6   weights, classes or label map do not fit
    ├── StoreError                   7   the data folder cannot be read or written
    │   └── Busy                     7   another process is running the same journey
    ├── PartialFailure               8   the run ended, but some items failed; running again retries just those
    └── PluginError                  9   an adapter broke its contract: a bug in it, not in the input

A message has three parts: what was expected, what was found, and what to do about it.
"""

from __future__ import annotations


class LabelbridgeError(Exception):
    """Base of the tree.

    Args:
        found: what is wrong, naming the thing (file, task id, setting): one sentence.
        expected: what would have been right; empty when ``found`` makes it obvious.
        todo: what the reader should do next.
    """

    exit_status = 1

    def __init__(self, found: str, *, expected: str = "", todo: str = "") -> None:
        self.found = found
        self.expected = expected
        self.todo = todo
        super().__init__(str(self))

    def __str__(self) -> str:
        parts = [self.found, f"Expected {self.expected}" if self.expected else "", self.todo]
        return " ".join(part if part.endswith("?") else f"{part.rstrip('.')}." for part in parts if part)

    def __reduce__(self) -> tuple[object, ...]:
        """Errors are stored by the workflow engine, so keyword-only arguments must survive pickling."""
        return _rebuild, (type(self), self.found, self.expected, self.todo)

    def as_dict(self) -> dict[str, str]:
        """The error as the ``--json`` output and the HTTP bodies show it."""
        return {
            "error": type(self).__name__,
            "found": self.found,
            "expected": self.expected,
            "todo": self.todo,
        }


def _rebuild(kind: type[LabelbridgeError], found: str, expected: str, todo: str) -> LabelbridgeError:
    return kind(found, expected=expected, todo=todo)


class UsageError(LabelbridgeError):
    exit_status = 2


class ConfigError(LabelbridgeError):
    exit_status = 3


class DataError(LabelbridgeError):
    exit_status = 4


class ImageError(DataError):
    pass


class ToolError(LabelbridgeError):
    exit_status = 5


class ToolUnreachable(ToolError):
    """``retry_after_s``: seconds after which the server itself wants to be asked again; None where it does not say."""

    retry_after_s: float | None = None


class AuthError(ToolError):
    pass


class NotFound(ToolError):
    pass


class ModelError(LabelbridgeError):
    exit_status = 6


class StoreError(LabelbridgeError):
    exit_status = 7


class Busy(StoreError):
    pass


class PartialFailure(LabelbridgeError):
    exit_status = 8


class PluginError(LabelbridgeError):
    exit_status = 9
