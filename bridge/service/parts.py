"""The parts of the standing service."""

from __future__ import annotations

from enum import StrEnum


class Part(StrEnum):
    """What may run in a process of its own."""

    MODELS = "models"
    HOOKS = "hooks"
    WORKERS = "workers"
