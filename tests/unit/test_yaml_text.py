"""YAML that means harm."""

from __future__ import annotations

import time

import pytest
import yaml

from bridge.yaml_text import load_yaml


def laughs(key: str = "", merge: bool = False) -> str:
    """A few lines that stand for a billion values."""
    lines = ["a: &a {k: v}" if merge else "a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    for name, last in zip("bcdefghij", "abcdefghi", strict=True):
        ten = ", ".join([f"*{last}"] * 10)
        lines.append(f"{name}: &{name} " + (f"{{<<: [{ten}]}}" if merge else f"[{ten}]"))
    return "\n".join(lines) + (f"\n{key}: *j\n" if key else "\n")


def test_plain_values_and_a_few_aliases_pass() -> None:
    assert load_yaml("a: &a [1, x]\nb: *a\nc: {<<: {d: 1}}") == {"a": [1, "x"], "b": [1, "x"], "c": {"d": 1}}
    assert load_yaml("") is None
    assert load_yaml(b"- \xc3\xa4\n") == ["ä"]


@pytest.mark.parametrize(
    "text",
    [
        laughs(),
        laughs(merge=True),
        "a: &a [*a]",
        "&a {b: *a}",
        "[" * 5000,
        "a: " * 5000,
        "a: 2001-99-99",
        "a: " + "1" * 5000,
        "!!python/object/apply:os.system [id]",
        "!!python/name:os.system",
        "a: *nobody",
    ],
    ids=lambda text: text[:20],
)
def test_the_rest_is_an_error_at_once(text: str) -> None:
    began = time.monotonic()
    with pytest.raises(yaml.YAMLError):
        load_yaml(text)
    assert time.monotonic() - began < 20
