"""What is laid over CVAT's compose file, and what the documents tell to set."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.settings import Settings

REPO = Path(__file__).resolve().parents[2]
COMPOSE = REPO / "docker" / "compose.cvat.yaml"
SETTINGS = {f"LABELBRIDGE_{name.upper()}" for name in Settings.model_fields}


@pytest.fixture
def services() -> Any:
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]


@pytest.mark.parametrize("name", ["cvat_server", "cvat_worker_annotation"])
def test_both_services_that_call_functions_are_told_how(services: Any, name: str) -> None:
    assert services[name]["environment"] == {"CVAT_SERVERLESS": "1", "CVAT_NUCLIO_INVOKE_METHOD": "dashboard"}


def test_the_server_has_the_name_and_the_port_that_cvat_assumes(services: Any) -> None:
    ours = services["labelbridge"]
    assert ours["networks"] == {"cvat": {"aliases": ["nuclio"]}}
    assert ours["environment"]["LABELBRIDGE_NUCLIO_PORT"] == "8070"


def test_nothing_without_a_password_is_published(services: Any) -> None:
    ours = services["labelbridge"]
    assert "ports" not in ours
    assert "network_mode" not in ours
    assert ours["environment"]["LABELBRIDGE_BACKEND_HOST"] == "127.0.0.1"


@pytest.mark.parametrize("path", [COMPOSE, REPO / "docs" / "cvat.md"], ids=lambda path: path.name)
def test_settings_that_are_named_exist(path: Path) -> None:
    named = set(re.findall(r"\bLABELBRIDGE_[A-Z_]+\b", path.read_text(encoding="utf-8")))
    # Compose itself reads the name of the image.
    assert named - {"LABELBRIDGE_IMAGE"} <= SETTINGS
    assert "LABELBRIDGE_NUCLIO_PORT" in named
