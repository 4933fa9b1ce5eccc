"""What the server remembers of projects, whoever names them."""

from __future__ import annotations

import io

from serving_kit import CONFIG, SquareFinder

from bridge.dialects.label_studio import MAX_CONFIG
from bridge.logs import json_logger
from ml_backend.entry import ModelEntry
from ml_backend.models.catalogue import ModelCard
from ml_backend.projects import Projects


def projects() -> Projects:
    card = ModelCard(SquareFinder.name, "rectangle", SquareFinder.classes)
    return Projects(ModelEntry("squares", card, SquareFinder, 0.5, {}), json_logger(io.StringIO()))


def test_a_configuration_without_end_is_not_remembered() -> None:
    known, long = projects(), "<View>" + "x" * MAX_CONFIG
    known.remember("1.1", long, None)
    assert known.schema("1.1") == ""
    assert known.config(long) is None
    assert len(known._configs) == 0
    known.remember("1.1", CONFIG, None)
    assert known.schema("1.1") == CONFIG


def test_all_together_stay_within_bounds() -> None:
    known = projects()
    for number in range(100):
        known.remember(str(number), "x" * MAX_CONFIG, None)
    assert known._schemas.used <= 64 * MAX_CONFIG
    assert known.schema("99")
    assert not known.schema("0")
