"""Smart tools, end to end: a real Label Studio, a real browser, the real server with the interactor it brings along.

An annotator switches Auto-Annotation on and points at things; masks appear on the canvas, and are submitted.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from fakes import still_life
from fakes.still_life import HEIGHT, WIDTH, Bools, StillLife
from live import Project, Studio
from PIL import Image, ImageDraw
from playwright.sync_api import Page
from world import Command

from bridge.core.rle import decode_brush
from bridge.demo.backend import Backend
from bridge.demo.label_studio_server import LabelStudioServer
from bridge.dialects.label_studio import box_from_value, polygon_from_value

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

LABELS = '<Label value="moon" background="#e6194b"/><Label value="star" background="#ffe119"/>'
SMART = f"""<KeyPointLabels name="point" toName="image" smart="true">{LABELS}</KeyPointLabels>
<RectangleLabels name="box" toName="image" smart="true">{LABELS}</RectangleLabels>"""

#: The image itself, as large as it is shown; the canvas lies over that part of it that can be seen.
_IMAGE = "img[alt=image]"

Pixels = npt.NDArray[np.int16]


def config(masks: str) -> str:
    return f'<View><Image name="image" value="$image"/>{SMART}{masks}</View>'


@dataclass
class Editor:
    """Label Studio's editor with one task open, seen as a person sees it. Coordinates are pixels of the image."""

    page: Page
    folder: Path
    shots: int = 0

    def open(self, server: LabelStudioServer, project: Project) -> None:
        self.page.goto(f"{server.url}/user/login/")
        self.page.fill("input[name=email]", server.email)
        self.page.fill("input[name=password]", server.password)
        self.page.click("button[type=submit]")
        self.page.wait_for_url(lambda url: "login" not in url)
        self.page.goto(f"{server.url}/projects/{project.id}/data?task={project.tasks[0]}")
        self.page.locator(".konvajs-content canvas").first.wait_for()
        self._switch_on()

    def take(self, tool: str, control: str, label: str) -> None:
        """Choose a label, then the smart tool: a label is let go after each region that was drawn with it."""
        self.page.keyboard.press("Escape")
        row = {"point": 0, "box": 1}[control]
        self.page.locator(".lsf-labels").nth(row).locator(".lsf-label").filter(has_text=label).click()
        self.page.locator(".lsf-tool_smart:not([aria-label])").hover()
        self.page.locator(f".lsf-tool_smart[aria-label={tool}]").click()
        # The menu of the smart tools lies over the image as long as the mouse is on it.
        self.page.mouse.move(700, 20)

    def draw_box(self, label: str, x1: float, y1: float, x2: float, y2: float) -> dict[str, Any]:
        """What the server answered to a smart rectangle."""
        self.take("rectangle-tool", "box", label)
        with self._asked() as answered:
            self.page.mouse.move(*self._at(x1, y1))
            self.page.mouse.down()
            self.page.mouse.move(*self._at((x1 + x2) / 2, (y1 + y2) / 2))
            self.page.mouse.move(*self._at(x2, y2))
            self.page.mouse.up()
        return self._read(answered)

    def set_point(self, label: str, x: float, y: float, *, negative: bool = False) -> dict[str, Any]:
        """What the server answered to a smart point."""
        self.take("key-point-tool", "point", label)
        with self._asked() as answered:
            if negative:
                self.page.keyboard.down("Alt")
            self.page.mouse.click(*self._at(x, y))
            if negative:
                self.page.keyboard.up("Alt")
        return self._read(answered)

    def accept(self) -> None:
        button = self.page.get_by_test_id("bottombar-accept-suggestions-button")
        button.click()
        button.wait_for(state="detached")

    def submit(self) -> list[dict[str, Any]]:
        """Submit; the regions as Label Studio stored them."""
        with self.page.expect_response(lambda r: "/annotations" in r.url and r.request.method == "POST") as submitted:
            self.page.get_by_test_id("bottombar-submit-button").click()
        assert submitted.value.ok
        regions: list[dict[str, Any]] = submitted.value.json()["result"]
        return regions

    def canvas(self, name: str) -> Pixels:
        """The image as it is shown now, (480, 640, 3); the whole page goes into a file of this name."""
        # Away from the image, and until what the mouse has lit up is dark again.
        self.page.mouse.move(700, 20)
        self.page.wait_for_timeout(700)
        shot = self.page.screenshot()
        self.shots += 1
        (self.folder / f"{self.shots}-{name}.png").write_bytes(shot)
        # The editor shows a part of the image: what lies beyond it is left black.
        window = self._edges(".konvajs-content")
        whole = Image.new("RGB", (1400, 900))
        whole.paste(Image.open(io.BytesIO(shot)).convert("RGB").crop(window), window[:2])
        return np.asarray(whole.crop(self._edges(_IMAGE)).resize((WIDTH, HEIGHT))).astype(np.int16)

    def _switch_on(self) -> None:
        """Auto-Annotation. While the task is still being loaded, the editor switches it off again."""
        toggle = self.page.get_by_test_id("bottombar-auto-annotation-toggle")
        toggle.wait_for(state="attached")
        for _ in range(20):
            if not toggle.is_checked():
                toggle.click(force=True)
            self.page.wait_for_timeout(1000)
            if toggle.is_checked() and self.page.locator(".lsf-tool_smart").count():
                return
        pytest.fail("Auto-Annotation cannot be switched on")

    def _asked(self) -> Any:
        return self.page.expect_response(lambda r: "/interactive-annotating" in r.url)

    def _read(self, answered: Any) -> dict[str, Any]:
        body: dict[str, Any] = answered.value.json()
        assert "errors" not in body, body
        prediction: dict[str, Any] = body["data"]
        return prediction

    def _edges(self, selector: str) -> tuple[int, int, int, int]:
        """Left, top, right and bottom on the page."""
        box = self.page.locator(selector).first.bounding_box()
        assert box
        x, y = box["x"], box["y"]
        return round(x), round(y), round(x + box["width"]), round(y + box["height"])

    def _at(self, x: float, y: float) -> tuple[float, float]:
        left, top, right, bottom = self._edges(_IMAGE)
        return left + x / WIDTH * (right - left), top + y / HEIGHT * (bottom - top)


@dataclass
class Desk:
    """A project with the still life as its only task, the model server connected to it, and the editor."""

    scene: StillLife
    project: Project
    editor: Editor


@pytest.fixture(scope="module")
def backend(label_studio: LabelStudioServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    log = tmp_path_factory.mktemp("smart") / "backend.log"
    with Backend(label_studio.url, label_studio.token, log) as server:
        yield server


def sit_down(studio: Studio, backend: Backend, page: Page, folder: Path, masks: str) -> Desk:
    scene = still_life.draw()
    project = studio.project([(WIDTH, HEIGHT)], config(masks))
    Image.fromarray(scene.image).save(project.images / "photo 0.png")
    settings = {"label_studio_url": studio.server.url, "label_studio_api_key": studio.server.token}
    command = Command(folder / "home", settings)
    assert command.ok("connect", f"ls:project/{project.id}", "--backend-url", backend.url)["created"]
    editor = Editor(page, folder)
    editor.open(studio.server, project)
    return Desk(scene, project, editor)


def iou(a: Bools, b: Bools) -> float:
    return float((a & b).sum() / (a | b).sum())


def changed(before: Pixels, after: Pixels) -> Bools:
    difference: Bools = np.abs(after - before).max(axis=2) > 25
    return difference


def test_rectangle_and_points_draw_masks_on_the_canvas(
    studio: Studio, backend: Backend, page: Page, tmp_path: Path
) -> None:
    desk = sit_down(studio, backend, page, tmp_path, f'<BrushLabels name="brush" toName="image">{LABELS}</BrushLabels>')
    editor, scene = desk.editor, desk.scene
    bare = editor.canvas("bare")

    first = editor.draw_box("star", 350, 110, 592, 343)
    editor.canvas("rectangle")
    assert [r["type"] for r in first["result"]] == ["brushlabels"]
    editor.accept()
    with_star = editor.canvas("star-accepted")
    assert iou(changed(bare, with_star), scene.star) > 0.8, "the mask is on the canvas, where the star is"

    editor.set_point("moon", 130, 245)
    editor.canvas("point")
    editor.set_point("moon", 200, 350)
    editor.set_point("moon", 240, 240, negative=True)
    editor.canvas("points")
    editor.accept()
    with_moon = editor.canvas("moon-accepted")
    assert iou(changed(with_star, with_moon), scene.moon) > 0.8, "the mask is on the canvas, where the moon is"

    stored = editor.submit()
    assert [(r["type"], r["value"]["brushlabels"]) for r in stored] == [
        ("brushlabels", ["star"]),
        ("brushlabels", ["moon"]),
    ]
    for region, truth in zip(stored, (scene.star, scene.moon), strict=True):
        mask = decode_brush(region["value"]["rle"], HEIGHT, WIDTH)
        assert iou(mask, truth) > 0.8
        assert 0 < region["score"] <= 1


@pytest.mark.parametrize("kind", ["polygon", "rectangle"])
def test_the_answer_is_what_the_label_configuration_offers(
    studio: Studio, backend: Backend, page: Page, tmp_path: Path, kind: str
) -> None:
    polygons = f'<PolygonLabels name="outline" toName="image">{LABELS}</PolygonLabels>'
    desk = sit_down(studio, backend, page, tmp_path, polygons if kind == "polygon" else "")
    bare = desk.editor.canvas("bare")
    desk.editor.draw_box("star", 350, 110, 592, 343)
    desk.editor.accept()
    assert changed(bare, desk.editor.canvas("accepted"))[desk.scene.star].any()
    (region,) = desk.editor.submit()
    assert region["type"] == f"{kind}labels"
    assert region["value"][region["type"]] == ["star"]
    if kind == "polygon":
        points = polygon_from_value(region["value"], WIDTH, HEIGHT).points
        picture = Image.new("1", (WIDTH, HEIGHT))
        ImageDraw.Draw(picture).polygon(list(points), fill=1)
        assert iou(np.asarray(picture), desk.scene.star) > 0.8
    else:
        assert box_from_value(region["value"], WIDTH, HEIGHT).xyxy == pytest.approx((358, 118, 584, 335), abs=12)
