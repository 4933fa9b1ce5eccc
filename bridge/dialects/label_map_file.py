"""The three ways people write a label map: a mapping, ``car=vehicle,person=human``, or a JSON or YAML file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bridge.core.label_map import parse_label_map
from bridge.errors import ConfigError
from bridge.yaml_text import load_yaml

_FILE_ENDINGS = (".json", ".yaml", ".yml")


def read_label_map(value: Mapping[str, str] | str | Path | None) -> dict[str, str]:
    """Model class -> project label, however it was written; empty for None or an empty text.

    A text that ends in ``.json``, ``.yaml`` or ``.yml`` names a file holding one object of texts; any other text is
    read as the inline form.

    Raises:
        ConfigError: the file cannot be read, or what it holds is no mapping of names to names.
    """
    if value is None or value == "":
        return {}
    if isinstance(value, Mapping):
        return _checked(value, "the label map")
    if isinstance(value, Path) or value.lower().endswith(_FILE_ENDINGS):
        return _read_file(Path(value))
    return parse_label_map(value)


def _read_file(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the label map {path} cannot be read: {error}",
            expected="a JSON or YAML file",
            todo="Correct the path, or write the map inline as car=vehicle,person=human",
        ) from None
    try:
        data = json.loads(text) if path.suffix.lower() == ".json" else load_yaml(text)
    except (json.JSONDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(
            f"the label map {path} cannot be parsed: {error}",
            expected='one object, as in {"car": "vehicle"} or car: vehicle',
            todo="Correct the file",
        ) from None
    return _checked(data, f"the label map {path}")


def _checked(data: Any, where: str) -> dict[str, str]:
    if not isinstance(data, Mapping):
        raise ConfigError(
            f"{where} holds {type(data).__name__}",
            expected='one object, as in {"car": "vehicle"}',
            todo="Write model classes on the left and project labels on the right",
        )
    strange = [f"{k!r}: {v!r}" for k, v in data.items() if not (isinstance(k, str) and isinstance(v, str) and k and v)]
    if strange:
        raise ConfigError(
            f"{where} has entries that are not names: {', '.join(strange[:10])}",
            expected="texts on both sides",
            todo="Put the names in quotes: YAML reads words like no, on and 1 as something else",
        )
    return dict(data)
