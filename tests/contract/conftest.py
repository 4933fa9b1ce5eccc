"""Every tool that writes, as the contract suite asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cvat_harness import CvatHarness
from cvat_live_harness import CvatLiveHarness, LiveCvat
from fakes.cvat_server import FakeCvat
from harness import CAT, DOG, TURNED, Harness, Open, Photo
from label_studio_harness import LabelStudioHarness


@pytest.fixture(params=["label_studio", "cvat", "cvat-live"])
def open_target(request: pytest.FixtureRequest) -> Iterator[Open]:
    if request.param == "cvat":
        with FakeCvat() as server:
            yield lambda photos: CvatHarness(server, photos)
        return
    if request.param == "cvat-live":
        with LiveCvat.from_environment() as live:
            yield lambda photos: CvatLiveHarness(live, photos)
        return
    studio = request.getfixturevalue("studio")
    yield lambda photos: LabelStudioHarness(studio, photos)


@pytest.fixture
def cats(open_target: Open) -> Harness:
    """Four items with the same three objects each."""
    return open_target([Photo(((("cat", CAT), ("dog", DOG), ("dog", TURNED)),))] * 4)
