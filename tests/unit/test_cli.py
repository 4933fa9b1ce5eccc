"""What the console command answers before any command."""

from __future__ import annotations

import tomllib
from pathlib import Path

from typer.testing import CliRunner

from bridge.cli import app

PROJECT = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())["project"]


def test_tells_its_version_without_a_command() -> None:
    told = CliRunner().invoke(app, ["--version"])
    assert (told.exit_code, told.output) == (0, f"labelbridge {PROJECT['version']}\n")


def test_says_how_it_is_used_when_it_is_told_nothing() -> None:
    told = CliRunner().invoke(app, [])
    assert "prelabel" in told.output
    assert "--version" in told.output
