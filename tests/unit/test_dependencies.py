"""Everything that is installed for the tests and in the image is pinned to the version that was tested."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPO = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())
PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([\w.-]+)==(\S+)$", (REPO / "constraints.txt").read_text(), re.MULTILINE)
}
#: Its SDK asks for other versions than ours, so that who needs it installs it beside; docs/security.md says so.
UNPINNED_EXTRAS = {"label-studio-ml"}


def direct() -> list[Requirement]:
    """What the project itself asks for."""
    extras = PROJECT["project"]["optional-dependencies"]
    groups = [asked for name, asked in extras.items() if name not in UNPINNED_EXTRAS]
    groups += [PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"].values()]
    return [Requirement(one) for group in groups for one in group]


def test_each_line_of_the_file_is_one_exact_version() -> None:
    lines = (REPO / "constraints.txt").read_text().splitlines()
    assert len(PINS) == len(lines)


def test_what_the_project_asks_for_is_pinned_to_a_version_that_fits() -> None:
    for asked in direct():
        pin = PINS.get(canonicalize_name(asked.name))
        assert pin is not None, f"{asked.name} is not pinned: make constraints"
        assert asked.specifier.contains(pin, prereleases=True), f"{asked} and {pin}"


def test_so_is_all_that_comes_along() -> None:
    seen: set[str] = set()
    waiting = direct()
    while waiting:
        asked = waiting.pop()
        name = canonicalize_name(asked.name)
        if name in seen:
            continue
        seen.add(name)
        try:
            further = [Requirement(line) for line in distribution(name).requires or ()]
        except PackageNotFoundError:
            continue  # for another platform, or another version of Python
        assert name in PINS, f"{name} is not pinned: make constraints"
        waiting += [one for one in further if one.marker is None or one.marker.evaluate({"extra": ""})]
    assert len(seen) > 50
