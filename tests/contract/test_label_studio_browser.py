"""What only a browser can tell about the things that are put into Label Studio."""

from __future__ import annotations

import pytest
from harness import Photo
from label_studio_harness import LabelStudioHarness
from live import Studio
from playwright.sync_api import Page, expect

from bridge.core.annotations import Box


@pytest.mark.browser
def test_the_flagged_tab_opens_and_stays_as_it_is(studio: Studio, page: Page) -> None:
    harness = LabelStudioHarness(studio, [Photo(((("cat", Box(16, 16, 80, 64)),),))] * 4)
    flagged = harness.project.tasks[1:3]
    address = harness.tool.flag_tab([str(t) for t in flagged])
    before = harness.client.views(harness.project.id)
    broken: list[str] = []
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.goto(f"{studio.server.url}/user/login/")
    page.fill("input[name=email]", studio.server.email)
    page.fill("input[name=password]", studio.server.password)
    page.click("button[type=submit]")
    page.wait_for_url("**/")
    with page.expect_response(lambda answer: "/api/tasks?" in answer.url and "view=" in answer.url) as listed:
        page.goto(address)
    assert [task["id"] for task in listed.value.json()["tasks"]] == flagged
    expect(page.get_by_text(f"Tasks: {len(flagged)} / 4")).to_be_visible()
    assert broken == []
    assert harness.client.views(harness.project.id) == before, "the browser understood the filter and kept it"
