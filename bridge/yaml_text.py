"""YAML from anybody: plain values, and nothing that grows when it is read.

Aliases let a text of a few lines stand for billions of values ("billion laughs"). PyYAML shares them, so that reading
costs nothing; whoever writes the value out, in an error message for one, never ends.
"""

from __future__ import annotations

from typing import Any

import yaml

#: Values in one text, each counted as often as it is used. Files of classes and models have a few thousand.
_MOST_VALUES = 1_000_000


def load_yaml(text: str | bytes, kind: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """The value of one YAML document, of dicts, lists and scalars only.

    Args:
        kind: a loader that wants more of a document.

    Raises:
        yaml.YAMLError: it is no YAML, holds a date or number that is none, is nested too deeply, or aliases make more
            of it than anybody writes.
    """
    try:
        loader = kind(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return None
            if _values(root, {}) > _MOST_VALUES:
                raise yaml.YAMLError(f"its aliases stand for more than {_MOST_VALUES:,} values")
            return loader.construct_document(root)
        finally:
            loader.dispose()
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    except ValueError as error:  # 2001-99-99, or a number of thousands of digits
        raise yaml.YAMLError(str(error)) from None


def _values(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for; endless where it holds itself."""
    found = known.get(id(node))
    if found is None:
        known[id(node)] = _MOST_VALUES + 1
        children: list[Any] = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = (part for child in children for part in (child if isinstance(child, tuple) else (child,)))
        found = known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return found
