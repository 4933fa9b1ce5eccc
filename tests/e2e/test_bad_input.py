"""Whatever is wrong with the data: it is named, the rest goes on, and running again does what is missing, once."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import colour_detector
from fakes.pictures import ELSEWHERE, TRUTH, Objects, draw
from live import Studio
from PIL import Image
from world import Command, Done, World, make_world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

GOOD = [TRUTH] * 3


def assert_clear(done: Done, status: int, *words: str) -> None:
    text = " ".join((done.output + done.error).split())
    assert done.status == status, done.text
    for word in words:
        assert word in text, done.text
    assert "Traceback" not in text


def by_item(command: Command, target: str) -> dict[str, set[str]]:
    """Error types of the latest run's findings, by item name."""
    found: dict[str, set[str]] = {}
    for finding in command.findings(target).values():
        found.setdefault(finding["item_name"], set()).add(finding["error"])
    return found


class TestImagesOfAProject:
    """Pictures 1, 2 and 3 of five cannot be read."""

    @pytest.fixture
    def world(self, studio: Studio, tmp_path: Path) -> World:
        world = make_world(studio, tmp_path, [TRUTH] * 5)
        images, tasks = world.project.images, world.project.tasks
        (images / "photo 1.png").unlink()
        whole = (images / "photo 2.png").read_bytes()
        (images / "photo 2.png").write_bytes(whole[: len(whole) // 2])
        world.client.patch_task(tasks[3], {"data": {"text": "no image here"}})
        return world

    def repair(self, world: World) -> None:
        for index in (1, 2):
            Image.fromarray(draw(backdrop=index)).save(world.project.images / f"photo {index}.png")
        image = f"/data/local-files/?d=p{world.project.id}/photo 3.png"
        world.client.patch_task(world.project.tasks[3], {"data": {"image": image}})

    def test_prelabel(self, world: World) -> None:
        done = world.command.run("prelabel", world.target)
        tasks = world.project.tasks
        assert_clear(done, 8, "3 of 5 items could not be pre-labelled", "run the same command again")
        for name in (f"photo 1.png (item {tasks[1]})", f"photo 2.png (item {tasks[2]})", f"task {tasks[3]}"):
            assert name in done.error
        assert "truncated" in done.error
        assert "the task's data has no image under 'image'" in done.error

        self.repair(world)
        again = world.command.ok("prelabel", world.target)
        assert (again["written"], again["skipped"], again["failures"]) == (3, 2, [])
        assert [len(world.task(task)["predictions"]) for task in tasks] == [1] * 5

    def test_score_with_a_model(self, world: World) -> None:
        done = world.command.run("score", world.target, "--detector", "any", "--json")
        assert done.status == 8
        assert len(done.json["failures"]) == 3
        assert done.json["counts"]["unpredicted"] == 3
        assert "3 of 5 items could not be scored" in done.error
        assert by_item(world.command, world.target) == {f"task {world.project.tasks[3]}": {"no_image"}}

        self.repair(world)
        again = world.command.ok("score", world.target, "--detector", "any")
        assert (again["counts"]["unpredicted"], again["findings"]) == (0, {})

    def test_checking_images(self, world: World) -> None:
        images = world.project.images
        (images / "photo 2.png").write_text("this is no image")
        (images / "photo 4.png").write_bytes((images / "photo 0.png").read_bytes())
        world.predict()
        world.command.ok("score", world.target, "--check-images")
        assert by_item(world.command, world.target) == {
            "photo 1.png": {"unreadable_image"},
            "photo 2.png": {"unreadable_image"},
            f"task {world.project.tasks[3]}": {"no_image"},
            "photo 4.png": {"duplicate_image"},
        }

    def test_what_cannot_be_shown_is_not_pushed_and_the_rest_is(self, world: World) -> None:
        world.predict(objects=(*TRUTH, ("cat", ELSEWHERE)))
        world.command.ok("score", world.target)
        words = ("push", world.target, "--type", "missing", "--type", "no_image")
        done = world.command.run(*words)
        assert_clear(done, 8, "2 of 6 items could not be pushed", "4 findings pushed", "has no image")
        self.repair(world)
        assert world.command.run(*words, "--json").json["pushed"] == 0
        world.command.ok("score", world.target)
        again = world.command.ok(*words)
        assert again["pushed"] == 1
        assert len(world.review_tasks(again["review"]["ref"])) == 5


def test_turned_photograph(studio: Studio, tmp_path: Path) -> None:
    """EXIF turns the pixels; predictions lie where a person sees the objects, in percent of the upright image."""
    world = make_world(studio, tmp_path, [None])
    upright = Image.fromarray(draw())
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(world.project.images / "turned.jpg", quality=98, exif=exif)
    image = f"/data/local-files/?d=p{world.project.id}/turned.jpg"
    world.client.patch_task(world.project.tasks[0], {"data": {"image": image}})

    world.command.ok("prelabel", world.target)

    (prediction,) = world.task(world.project.tasks[0])["predictions"]
    found = {r["value"]["rectanglelabels"][0]: r for r in prediction["result"]}
    assert {(r["original_width"], r["original_height"]) for r in found.values()} == {(160, 120)}
    for label, box in TRUTH:
        value = found[label]["value"]
        corners = (value["x"], value["y"], value["x"] + value["width"], value["y"] + value["height"])
        pixels = np.array(corners) * (1.6, 1.2, 1.6, 1.2)
        assert np.abs(pixels - box.xyxy).max() <= 1.5


class TestObjectsOfAProject:
    """Submission 0 has a box without area, 1 one that leaves the image, 2 one with a label nobody knows."""

    @pytest.fixture
    def world(self, studio: Studio, tmp_path: Path) -> World:
        world = make_world(studio, tmp_path, [TRUTH] * 4)
        world.predict()
        odd: Sequence[dict[str, Any]] = ({"width": 0}, {"x": 95, "width": 40}, {"rectanglelabels": ["fish"]})
        for submission, change in zip(world.annotations(), odd, strict=False):
            result = world.client.annotation(submission)["result"]
            result[0]["value"].update(change)
            world.client.patch_annotation(submission, {"result": result})
        return world

    def test_are_found_and_the_rest_is_scored(self, world: World) -> None:
        result = world.command.ok("score", world.target)
        assert result["failures"] == []
        found = by_item(world.command, world.target)
        assert found == {
            "photo 0.png": {"degenerate_shape", "missing"},
            "photo 1.png": {"out_of_image", "extra", "missing"},
            "photo 2.png": {"unknown_label", "missing"},
        }
        reasons = {f["error"]: f["reason"] for f in world.command.findings(world.target).values()}
        assert "no area" in reasons["degenerate_shape"]
        assert "56 px out of the image of 160 x 120 px" in reasons["out_of_image"]
        assert "'fish'" in reasons["unknown_label"]
        assert world.command.ok("score", world.target)["new"] == 0

    def test_can_be_reviewed_and_fixed(self, world: World) -> None:
        """Of the odd objects, all three can be pushed; a fix of the one with a fix leaves the others alone."""
        world.command.ok("score", world.target)
        words = [w for e in ("degenerate_shape", "out_of_image", "unknown_label") for w in ("--type", e)]
        review = world.command.ok("push", world.target, *words)["review"]["ref"]
        tasks = world.review_tasks(review)
        assert len(tasks) == 3
        before = world.annotations()
        for task in tasks:
            world.answer(task, "accept")
        result = world.command.ok("sync", world.target)
        assert result["fixes"] == {"applied": 1, "conflict": 2}
        assert all("only a person can tell what is right" in conflict for conflict in result["conflicts"])
        after = world.annotations()
        changed = [s for s in before if before[s] != after[s]]
        assert changed == [list(before)[1]]
        value = after[changed[0]][0]["value"]
        assert value["x"] + value["width"] == pytest.approx(100)


class TestNothingThere:
    def test_no_tasks(self, studio: Studio, tmp_path: Path) -> None:
        world = make_world(studio, tmp_path, [None])
        world.client.call("DELETE", f"/api/tasks/{world.project.tasks[0]}/")
        assert world.command.ok("prelabel", world.target)["items"] == 0
        assert_clear(world.command.run("score", world.target), 4, f"nothing is submitted in {world.target}: 0 items")

    def test_no_submissions(self, studio: Studio, tmp_path: Path) -> None:
        world = make_world(studio, tmp_path, [None, None])
        world.predict()
        done = world.command.run("score", world.target)
        assert_clear(done, 4, f"nothing is submitted in {world.target}: 2 items", "Label and submit some items")
        assert_clear(world.command.run("push", world.target), 5, "has not been scored yet")
        assert_clear(world.command.run("sync", world.target), 5, "Run `labelbridge push")

    def test_no_predictions(self, studio: Studio, tmp_path: Path) -> None:
        world = make_world(studio, tmp_path, GOOD)
        done = world.command.run("score", world.target)
        assert_clear(done, 4, "no predictions for any of the 3 submissions", "labelbridge prelabel", "--detector NAME")
        done = world.command.run("score", world.target, "--model", "no-such-model")
        assert_clear(done, 4, "no predictions for any of the 3 submissions")
        world.command.ok("prelabel", world.target)
        assert world.command.ok("score", world.target)["counts"]["predictions"] == 6

    def test_no_label_in_common(self, studio: Studio, tmp_path: Path) -> None:
        world = make_world(studio, tmp_path, [None])
        config = world.client.project(world.project.id)["label_config"]
        config = config.replace('"cat"', '"fish"').replace('"dog"', '"bird"')
        world.client.patch_project(world.project.id, {"label_config": config})
        done = world.command.run("prelabel", world.target)
        assert_clear(done, 6, "'cat'", "'dog'", "'fish'", "'bird'", "label map")
        done = world.command.run("prelabel", world.target, "--label-map", "cat=cow")
        assert_clear(done, 6, "'cow'", "'fish'")
        result = world.command.ok("prelabel", world.target, "--label-map", "cat=fish")
        assert (result["written"], result["predictions"]) == (1, 1)


# --- files ------------------------------------------------------------------------------------------------------------


def coco(folder: Path, submitted: Sequence[Objects], size: tuple[int, int] = (160, 120)) -> Path:
    """A COCO file and pictures that show TRUTH."""
    images, annotations = [], []
    for image, objects in enumerate(submitted):
        images.append({"id": image, "file_name": f"{image}.png", "width": size[0], "height": size[1]})
        for label, box in objects:
            x1, y1, x2, y2 = box.xyxy
            entry = {"image_id": image, "category_id": 1 + (label == "dog"), "bbox": [x1, y1, x2 - x1, y2 - y1]}
            annotations.append({"id": len(annotations), **entry})
        Image.fromarray(draw(backdrop=image)).save(folder / f"{image}.png")
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    file = folder / "labels.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return file


def edit(file: Path, **changes: Any) -> None:
    """Change one annotation, named by ``id``."""
    data = json.loads(file.read_text())
    data["annotations"][changes.pop("id")].update(changes)
    file.write_text(json.dumps(data))


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path / "home", plugins=colour_detector.offer(tmp_path / "plugin"))


class TestFiles:
    def test_odd_objects_and_images(self, command: Command, tmp_path: Path) -> None:
        file = coco(tmp_path, [TRUTH] * 8)
        edit(file, id=0, bbox=[10, 10, 0, 40])
        edit(file, id=2, bbox=[140, 10, 60, 40])
        edit(file, id=4, bbox=[math.nan, 10, 50, 40])
        edit(file, id=6, category_id=77)
        edit(file, id=8, bbox=["a", "b"])
        (tmp_path / "5.png").unlink()
        (tmp_path / "6.png").write_bytes((tmp_path / "6.png").read_bytes()[:200])
        target = f"coco:{file}"

        done = command.run("score", target, "--detector", "any", "--json")

        assert done.status == 8, done.text
        assert sorted(f["item"] for f in done.json["failures"]) == ["5.png (item 5)", "6.png (item 6)"]
        assert by_item(command, target) == {
            "0.png": {"degenerate_shape", "missing"},
            "1.png": {"out_of_image", "extra", "missing"},
            "2.png": {"degenerate_shape", "missing"},
            "3.png": {"unknown_label", "missing"},
            "4.png": {"degenerate_shape", "missing"},
        }
        before = set(command.findings(target))
        for image in (5, 6):
            Image.fromarray(draw(backdrop=image)).save(tmp_path / f"{image}.png")
        again = command.ok("score", target, "--detector", "any")
        assert (again["new"], again["withdrawn"], again["failures"]) == (0, 0, [])
        assert set(command.findings(target)) == before
        command.check_log()

    def test_an_item_that_cannot_be_read_keeps_its_findings(self, command: Command, tmp_path: Path) -> None:
        target = f"coco:{coco(tmp_path, [TRUTH, TRUTH[:1]])}"
        assert command.ok("score", target, "--detector", "any")["findings"] == {"missing": 1}
        (finding,) = command.findings(target)
        (tmp_path / "1.png").unlink()
        done = command.run("score", target, "--detector", "any", "--json")
        assert (done.status, done.json["withdrawn"]) == (8, 0)
        Image.fromarray(draw(backdrop=1)).save(tmp_path / "1.png")
        command.ok("score", target, "--detector", "any")
        assert {i: f["state"] for i, f in command.findings(target).items()} == {finding: "open"}

    def test_empty_and_broken_files(self, command: Command, tmp_path: Path) -> None:
        file = tmp_path / "labels.json"
        for text in ("", "{", "[]", '{"images": 3}', "\x00\x01"):
            file.write_text(text)
            assert_clear(command.run("score", f"coco:{file}"), 4, "labels.json")
        file.write_text('{"images": [], "annotations": [], "categories": []}')
        assert_clear(command.run("score", f"coco:{file}"), 4, "nothing is submitted", "0 items")

    def test_turned_photograph(self, command: Command, tmp_path: Path) -> None:
        file = coco(tmp_path, [TRUTH])
        exif = Image.Exif()
        exif[0x0112] = 8
        turned = Image.fromarray(draw()).transpose(Image.Transpose.ROTATE_270)
        turned.save(tmp_path / "0.png", exif=exif)
        result = command.ok("score", f"coco:{file}", "--detector", "any", "--check-images")
        assert (result["counts"]["predictions"], result["findings"]) == (2, {})

    def test_ten_thousand_boxes_in_one_image(self, command: Command, tmp_path: Path) -> None:
        side = 100
        file = coco(tmp_path, [], (side * 20, side * 20))
        data = json.loads(file.read_text())
        data["images"] = [{"id": 1, "file_name": "1.png", "width": side * 20, "height": side * 20}]
        boxes = [[x * 20 + 2, y * 20 + 2, 15, 15] for x in range(side) for y in range(side)]
        results = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9} for box in boxes[1:]]
        data["annotations"] = [
            {"id": k, "image_id": 1, "category_id": 1, "bbox": box} for k, box in enumerate(boxes[:-1])
        ]
        file.write_text(json.dumps(data))
        (tmp_path / "results.json").write_text(json.dumps(results))
        result = command.ok("score", f"coco:{file}", "--predictions", str(tmp_path / "results.json"))
        print(f"\n10,000 boxes in one image: judged in {result['seconds']:.2f} s")
        assert result["findings"] == {"missing": 1, "extra": 1}


class TestHugeImages:
    def test_above_the_limit_is_refused_by_its_header(self, command: Command, tmp_path: Path) -> None:
        file = coco(tmp_path, [TRUTH, TRUTH])
        Image.new("RGB", (10_000, 10_000), "white").save(tmp_path / "1.png", compress_level=1)
        limit = {"max_image_pixels": "99000000"}
        done = command.run("score", f"coco:{file}", "--detector", "any", **limit)
        found = "10000 x 10000 pixels (100.0 megapixels)"
        assert_clear(done, 8, "1.png", found, "at most 99.0 megapixels", "max_image_pixels")

    def test_below_the_limit_is_processed_within_bounded_memory(self, command: Command, tmp_path: Path) -> None:
        """With the real network: the colour detector is no measure of memory."""
        file = coco(tmp_path, [(), TRUTH], (10_000, 10_000))
        data = json.loads(file.read_text())
        data["categories"] = [{"id": 1, "name": "bolt"}, {"id": 2, "name": "nut"}]
        file.write_text(json.dumps(data))
        Image.new("RGB", (10_000, 10_000), "white").save(tmp_path / "0.png", compress_level=1)
        command.plugins = ""
        process = command.start("score", f"coco:{file}", "--detector", "embedded", "--json")
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output, error = process.communicate()
        assert process.returncode == 0, error
        gigabytes = usage.ru_maxrss / 2**20
        print(f"\n100 megapixels: at most {gigabytes:.1f} GB")
        assert gigabytes < 4
        assert json.loads(output)["failures"] == []
