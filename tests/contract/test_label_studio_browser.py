"""What only a browser can tell about the things that are put into Label Studio."""

from __future__ import annotations

import pytest
from harness import Photo
from label_studio_harness import LabelStudioHarness
from live import Studio
from playwright.sync_api import Page, expect

from bridge.core.annotations import Box, TextSpan
from bridge.tools.label_studio import LabelStudio

TEXTS = """<View><Labels name="label" toName="text"><Label value="person"/></Labels>
<Text name="text" value="$text"/></View>"""


def log_in(studio: Studio, page: Page) -> None:
    page.goto(f"{studio.server.url}/user/login/")
    page.fill("input[name=email]", studio.server.email)
    page.fill("input[name=password]", studio.server.password)
    page.click("button[type=submit]")
    page.wait_for_url("**/")


@pytest.mark.browser
def test_the_flagged_tab_opens_and_stays_as_it_is(studio: Studio, page: Page) -> None:
    harness = LabelStudioHarness(studio, [Photo(((("cat", Box(16, 16, 80, 64)),),))] * 4)
    flagged = harness.project.tasks[1:3]
    address = harness.tool.flag_tab([str(t) for t in flagged])
    before = harness.client.views(harness.project.id)
    broken: list[str] = []
    page.on("pageerror", lambda error: broken.append(str(error)))
    log_in(studio, page)
    with page.expect_response(lambda answer: "/api/tasks?" in answer.url and "view=" in answer.url) as listed:
        page.goto(address)
    assert [task["id"] for task in listed.value.json()["tasks"]] == flagged
    expect(page.get_by_text(f"Tasks: {len(flagged)} / 4")).to_be_visible()
    assert broken == []
    assert harness.client.views(harness.project.id) == before, "the browser understood the filter and kept it"


@pytest.mark.browser
def test_marked_words_are_read_where_they_stand(studio: Studio, page: Page) -> None:
    """Faces outside of the basic plane, line ends of two characters and blanks side by side, which HTML joins."""
    text = "Hi \U0001f600\U0001f600 Bob met\r\nAnn  and e\u0301lan Cy."
    project = int(studio.client.create_project({"title": "words", "label_config": TEXTS})["id"])
    (task,) = studio.client.import_tasks(project, [{"data": {"text": text}}])
    log_in(studio, page)
    page.goto(f"{studio.server.url}/projects/{project}/data?task={task}")
    expect(page.get_by_text("Bob met").last).to_be_visible()
    page.wait_for_load_state("networkidle")  # only then does the editor take a stroke
    for number, word in enumerate(("Bob", "Ann", "Cy"), start=1):
        page.get_by_text("person", exact=True).first.click()
        x, y, width, height = page.evaluate(PLACE_OF, word)
        page.mouse.move(x + 1, y + height / 2)
        page.mouse.down()
        page.mouse.move(x + width - 0.5, y + height / 2, steps=5)
        page.mouse.up()
        expect(page.locator("[class*=outliner-item__text]")).to_have_count(number)
        page.keyboard.press("Escape")
    with page.expect_response(lambda answer: "/annotations" in answer.url and answer.request.method == "POST"):
        page.get_by_role("button", name="Submit").click()
    record = LabelStudio(studio.client, project).read_page(None, 1).records[0]
    assert record.problems == ()
    found = [a.shape for s in record.submissions for a in s.annotations]
    assert found == [TextSpan(text.index(w), text.index(w) + len(w), w) for w in ("Bob", "Ann", "Cy")]
    stored = studio.client.annotation(int(record.submissions[0].id))["result"]
    assert [region["value"]["text"] for region in stored] == ["Bob", "Ann", "Cy"]


PLACE_OF = """word => {
  const shown = [...document.querySelectorAll("[class*=richtext]")].find(e => e.textContent.includes("Bob"));
  const walker = document.createTreeWalker(shown, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode()); ) {
    const at = node.data.indexOf(word);
    if (at < 0) continue;
    const range = document.createRange();
    range.setStart(node, at);
    range.setEnd(node, at + word.length);
    const box = range.getBoundingClientRect();
    return [box.x, box.y, box.width, box.height];
  }
}"""
