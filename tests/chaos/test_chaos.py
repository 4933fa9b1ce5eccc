"""Small storms, so that the big ones stay possible: ``python -m tests.chaos`` makes those."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos.main import Weather, on_cvat, on_label_studio

from bridge.demo.label_studio_server import LabelStudioServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

QUICK = Weather(pause_s=0.05, alive_s=4.0, patience_s=150.0)


def test_nothing_is_lost_doubled_or_overwritten_in_cvat(tmp_path: Path) -> None:
    outcome = on_cvat(tmp_path, 150, 1, QUICK)
    assert outcome.differences == [], str(outcome)


def test_nothing_is_lost_doubled_or_overwritten_in_label_studio(
    label_studio: LabelStudioServer, tmp_path: Path
) -> None:
    outcome = on_label_studio(label_studio, tmp_path, 100, 1, QUICK)
    assert outcome.differences == [], str(outcome)
