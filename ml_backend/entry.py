"""One model that is served: its id, what is known of it, and how it is loaded."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bridge.errors import ConfigError
from ml_backend.inference import ModelSource
from ml_backend.models import Interactor, Predictor
from ml_backend.models.catalogue import ModelCard

#: CVAT puts ids into URLs that take nothing else.
_ID = re.compile(r"[a-zA-Z0-9_.-]{1,64}")


def is_id(text: str) -> bool:
    """Whether a model can be called so."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """Attributes:
    id: under which callers name it; letters, digits, ``_ . -``.
    card: what is known of it before it is loaded.
    load: loads it; called in a thread of its own, again after it was unloaded.
    threshold: suggestions below it are not shown, unless a caller says otherwise.
    label_map: model class -> project label, for classes whose names differ.
    """

    id: str
    card: ModelCard
    load: Callable[[], Predictor | Interactor]
    threshold: float = 0.5
    label_map: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not is_id(self.id):
            raise ConfigError(
                f"a model cannot be called {self.id!r}",
                expected="1 to 64 letters, digits and the signs _ . -",
                todo="Give it another id in the models file",
            )

    @property
    def interactive(self) -> bool:
        """Whether it answers prompts; else it finds objects on its own."""
        return self.card.role == "interactor"

    @property
    def source(self) -> ModelSource:
        """The model, not loaded yet."""
        return ModelSource(self.card.name, self.load)
