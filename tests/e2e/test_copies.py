"""The same pictures in a dataset more than once, from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import colour_detector
from fakes.copies import as_jpeg, smaller
from fakes.pictures import CAT, DOG, TRUTH, draw
from PIL import Image
from world import Command


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path / "home", plugins=colour_detector.offer(tmp_path / "plugin"))


def yolo(folder: Path) -> str:
    """Three pictures to train on; the validation split has one of its own, and small copies of two of those.

    In one of the copies a dog is not labelled.
    """
    (folder / "classes.txt").parent.mkdir(parents=True, exist_ok=True)
    (folder / "classes.txt").write_text("cat\ndog\nowl\n")
    lines = [
        f"{k} {(b.x1 + b.x2) / 320} {(b.y1 + b.y2) / 240} {(b.x2 - b.x1) / 160} {(b.y2 - b.y1) / 120}"
        for k, b in ((0, CAT), (1, DOG))
    ]
    for split, name, picture, objects in (
        *(("train", str(k), draw(TRUTH, backdrop=k), 2) for k in range(3)),
        ("val", "own", draw(TRUTH, backdrop=3), 2),
        ("val", "copy0", as_jpeg(smaller(draw(TRUTH, backdrop=0))), 2),
        ("val", "copy1", as_jpeg(smaller(draw(TRUTH, backdrop=1))), 1),
    ):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / "images" / split / f"{name}.png")
        (folder / "labels" / split / f"{name}.txt").write_text("\n".join(lines[:objects]))
    return f"yolo:{folder}"


def test_leaks_and_labels_that_differ(command: Command, tmp_path: Path) -> None:
    target = yolo(tmp_path / "data")

    result = command.ok("score", target, "--detector", "any", "--check-images")

    found = {(f["error"], f["item_name"]): f for f in command.findings(target).values()}
    assert {key for key in found if key[0] in ("leakage", "inconsistent_labels", "near_duplicate")} == {
        ("leakage", "copy0.png"),
        ("leakage", "copy1.png"),
        ("inconsistent_labels", "copy1.png"),
    }
    assert found["leakage", "copy0.png"]["evidence"]["same_picture_as"] == "images/train/0.png"
    assert found["inconsistent_labels", "copy1.png"]["reason"].endswith("only there: 1 dog.")
    assert [(s["name"], s["items"], s["objects"]) for s in result["balance"]["splits"]] == [
        ("train", 3, 6),
        ("val", 3, 5),
    ]
    assert result["balance"]["unlabelled"] == ["owl"]

    text = command.run("score", target, "--detector", "any").text
    assert "1 images are labelled otherwise than their copies" in text
    assert "3 classes, as mixed as 2.0 of equal size" in text

    page = tmp_path / "report.html"
    command.ok("report", target, "--out", str(page))
    assert "Classes and splits" in page.read_text()
    command.check_log()
