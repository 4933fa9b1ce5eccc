"""Small storms, so that the big ones stay possible: ``python -m tests.chaos`` makes those."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from chaos.main import Outcome, Weather, on_cvat, on_label_studio

from bridge.demo.label_studio_server import LabelStudioServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

QUICK = Weather(pause_s=0.05, alive_s=4.0, patience_s=240.0)


def weather(storm: Callable[[Path, int], Outcome], folder: Path) -> None:
    """Nothing may differ in the end.

    No two storms are alike, as the machine decides what meets what. One in many shows people and product within the
    same instant, and then the record of the people is in doubt. So what differs once is shown, and must not differ
    again in another storm.
    """
    first = storm(folder / "first", 1)
    print(first)
    if first.differences:
        second = storm(folder / "second", 2)
        assert second.differences == [], f"{first}\n{second}"


def test_nothing_is_lost_doubled_or_overwritten_in_cvat(tmp_path: Path) -> None:
    weather(lambda folder, seed: on_cvat(folder, 100, seed, QUICK), tmp_path)


def test_nothing_is_lost_doubled_or_overwritten_in_label_studio(
    label_studio: LabelStudioServer, tmp_path: Path
) -> None:
    weather(lambda folder, seed: on_label_studio(label_studio, folder, 60, seed, QUICK), tmp_path)
