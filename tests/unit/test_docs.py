"""The documents say what the program does."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from bridge.cli import app

REPO = Path(__file__).resolve().parents[2]
DOCS = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md")), REPO / "docker" / "README.md"]


def test_reference_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("reference", REPO / "scripts" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (REPO / "docs" / "reference.md").read_text(encoding="utf-8")
    assert written == module.reference(), "run: python scripts/reference.py --write"


def commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Commands by name, a group by its own and with each of its commands."""
    for name, command in group.commands.items():
        yield f"{before}{name}", command
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")


@pytest.mark.parametrize("path", DOCS, ids=lambda p: p.name)
def test_commands_in_the_docs_exist(path: Path) -> None:
    known = {
        name: {option for p in command.params for option in (*p.opts, *p.secondary_opts)} | {"--help"}
        for name, command in commands(typer.main.get_command(app))
    }
    for line in re.findall(r"labelbridge ([a-z].*)", path.read_text(encoding="utf-8")):
        words = re.split(r"[\s`]+", re.split(r"\s#|`|·", line)[0].strip())
        if " ".join(words[:2]) in known:
            words[:2] = [" ".join(words[:2])]
        if words[0] not in known:
            assert not re.search(rf"(\$ |`)labelbridge {re.escape(words[0])}\b", path.read_text()), words
            continue
        for option in (w.split("=")[0] for w in words if w.startswith("--")):
            assert option in known[words[0]], f"labelbridge {words[0]} has no {option}"


@pytest.mark.parametrize("path", DOCS, ids=lambda p: p.name)
def test_links_in_the_docs_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
        if not link.startswith("http"):
            assert (path.parent / link).exists(), link


def test_no_machine_path_or_registry_host_is_named() -> None:
    # Put together from halves, so that this file does not name them either.
    halves = (("/ro", "ot/"), ("/wo", "rk/"), ("pypi", r"\.org"), ("files.python", "hosted"), ("debian", r"\.org"))
    pattern = re.compile("|".join(a + b for a, b in halves))
    listed = subprocess.run(["git", "ls-files"], cwd=REPO, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        text = (REPO / name).read_text(encoding="utf-8", errors="ignore") if (REPO / name).is_file() else ""
        assert not pattern.search(text), name
