from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.label_map import match_labels, parse_label_map
from bridge.errors import ConfigError, ModelError

NAMES = st.lists(st.sampled_from(["cat", "Cat", " cat", "dog", "DOG", "Straße", "STRASSE", "x"]), unique=True)


def test_exact_names_go_before_alike_ones() -> None:
    found = match_labels(["cat", "Dog", "tree"], ["Cat", "cat", "dog", "rock"])
    assert found.targets == ("cat", "dog", None)
    assert found.unmatched_classes == ("tree",)
    assert found.unmatched_labels == ("Cat", "rock")
    assert found.label_of(1) == "dog"


def test_two_alike_labels_are_no_match() -> None:
    assert match_labels(["CAT", "dog"], ["cat", "Cat", "dog"]).targets == (None, "dog")


def test_the_explicit_map_goes_first_and_may_merge_classes() -> None:
    found = match_labels(
        ["car", "truck", "person"], ["vehicle", "person", "car"], {"car": "vehicle", "truck": "vehicle"}
    )
    assert found.targets == ("vehicle", "vehicle", "person")
    assert found.unmatched_labels == ("car",)


def test_nothing_in_common_lists_both_sides() -> None:
    with pytest.raises(ModelError, match="the model has 'cat', 'dog'; the project has 'tree'"):
        match_labels(["cat", "dog"], ["tree"])
    with pytest.raises(ModelError, match="the project has none"):
        match_labels(["cat"], [])


def test_strange_names_in_the_explicit_map_are_all_listed() -> None:
    with pytest.raises(
        ModelError, match=r"'Car' not among the model's classes: 'car'; 'bus' not among the project's labels: 'van'"
    ):
        match_labels(["car"], ["van"], {"Car": "bus"})


@given(NAMES, NAMES)
def test_laws(classes: list[str], labels: list[str]) -> None:
    try:
        found = match_labels(classes, labels)
    except ModelError:
        assert not set(classes) & set(labels)
        return
    assert len(found.targets) == len(classes)
    assert set(found.targets) - {None} == set(labels) - set(found.unmatched_labels)
    for name, target in zip(classes, found.targets, strict=True):
        if name in labels:
            assert target == name
        if target is not None:
            assert target.strip().casefold() == name.strip().casefold()


def test_inline_form() -> None:
    assert parse_label_map("car=vehicle, person = human being") == {"car": "vehicle", "person": "human being"}


@pytest.mark.parametrize("text", ["car", "=x", "car=", "a=b=c", "a=b,,c=d", "a=b,a=c", " "])
def test_broken_inline_forms(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_label_map(text)
