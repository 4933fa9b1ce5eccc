"""What the server knows about the projects that ask it: their label configurations and their extra parameters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from bridge.core.label_map import match_labels
from bridge.dialects.label_studio import MAX_CONFIG, LabelConfig, parse_label_config
from bridge.errors import LabelbridgeError
from bridge.logs import Log
from ml_backend.entry import ModelEntry
from ml_backend.label_studio_answers import Answers, suggestable
from ml_backend.lru import Lru
from ml_backend.models import Kind

_CONFIGS = 128
_PROJECTS = 1024
#: Characters of all schemas that are kept.
_SCHEMAS = 64 * MAX_CONFIG


class _Unusable:
    """Stands for a configuration that was found to be of no use."""


class Projects:
    """Remembers what configurations say by their text, and thresholds by project. For one event loop.

    Problems with a configuration are logged, once for each text that is remembered, and never raised.

    Args:
        entry: the model whose classes are matched with the labels of projects. One model serves many projects: entries
            of its label map whose label a project does not have do not count there.
    """

    def __init__(self, entry: ModelEntry, log: Log) -> None:
        self._entry = entry
        self._log = log
        self._configs: Lru[str, LabelConfig | _Unusable] = Lru(_CONFIGS)
        self._answers: Lru[str, Answers] = Lru(_CONFIGS)
        self._thresholds: Lru[str, float] = Lru(_PROJECTS)
        self._schemas: Lru[str, str] = Lru(_SCHEMAS, len)

    def remember(self, project: str, schema: Any, extra_params: Any) -> None:
        """What Label Studio says in its setup call: it repeats it before each prediction."""
        if isinstance(schema, str) and len(schema) <= MAX_CONFIG:
            self._schemas.put(project, schema)
        threshold = self._threshold_in(extra_params, project)
        self._thresholds.put(project, self._entry.threshold if threshold is None else threshold)

    def threshold(self, project: str) -> float:
        """Detections below this are not shown in the project."""
        known = self._thresholds.get(project)
        return self._entry.threshold if known is None else known

    def schema(self, project: str) -> str:
        """The configuration from the last setup call; empty where there was none."""
        return self._schemas.get(project) or ""

    def config(self, text: str) -> LabelConfig | None:
        """The configuration; None where it shows no image, or is broken: then nothing can be suggested."""
        known = self._configs.get(text)
        if known is None:
            try:
                known = parse_label_config(text)
            except LabelbridgeError as error:
                self._log.warning("label_config_unusable", **error.as_dict())
                known = _Unusable()
            if len(text) <= MAX_CONFIG:
                self._configs.put(text, known)
        return None if isinstance(known, _Unusable) else known

    def answers(self, text: str, config: LabelConfig) -> Answers:
        """How the model's detections are shown in the configuration ``text``."""
        known = self._answers.get(text)
        if known is None:
            card = self._entry.card
            kind: Kind = "rectangle" if card.role == "interactor" else card.role
            known = Answers(config, self._match(suggestable(config, kind), card.classes), kind)
            self._answers.put(text, known)
        return known

    def _match(self, labels: Sequence[str], classes: tuple[str, ...]) -> tuple[str | None, ...]:
        named = self._entry.label_map.items()
        explicit = {name: label for name, label in named if label in labels and name in classes}
        if not classes:
            return ()
        try:
            mapping = match_labels(classes, labels, explicit)
        except LabelbridgeError as error:
            self._log.warning("labels_do_not_match", **error.as_dict())
            return (None,) * len(classes)
        self._log.info(
            "labels_matched",
            labels={c: t for c, t in zip(mapping.classes, mapping.targets, strict=True) if t is not None},
            classes_dropped=list(mapping.unmatched_classes),
            labels_never_suggested=list(mapping.unmatched_labels),
        )
        return mapping.targets

    def _threshold_in(self, extra_params: Any, project: str) -> float | None:
        """``{"threshold": 0.4}``, as an object or as text: Label Studio sends what was entered as it was entered."""
        if isinstance(extra_params, str):
            try:
                extra_params = json.loads(extra_params)
            except (ValueError, RecursionError):
                return None
        value = extra_params.get("threshold") if isinstance(extra_params, dict) else None
        if value is None:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
            return float(value)
        self._log.warning("threshold_ignored", project=project, found=repr(value)[:80], expected="0 to 1")
        return None
