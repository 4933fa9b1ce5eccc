"""Answers that are written once and get fresh ids each time."""

from __future__ import annotations

import itertools
from typing import Any

import orjson
import pytest

from ml_backend.template import NewId, Template


def counting() -> NewId:
    numbers = itertools.count()
    return lambda: f"id{next(numbers)}"


@pytest.mark.parametrize("groups", [(), (1,), (1, 1, 1), (2,), (2, 1, 2)])
def test_ids_are_fresh_and_shared_where_they_were(groups: tuple[int, ...]) -> None:
    def make(new_id: NewId) -> dict[str, Any]:
        result = []
        for entries in groups:
            region = new_id()
            result += [{"id": region, "value": {"x": 1.5, "label": 'a "quoted" ü'}} for _ in range(entries)]
        return {"score": 0.5, "result": result}

    template, new_id = Template(make), counting()
    wanted = counting()
    for _ in range(3):
        assert orjson.loads(orjson.dumps([template.filled(new_id)])) == [make(wanted)]
