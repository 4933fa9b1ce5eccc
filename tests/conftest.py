"""Fixtures that many tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["live", "browser"]

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images, annotations and predictions that lies beside the checkout."""
    folder = REPO.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder}")
    return folder
