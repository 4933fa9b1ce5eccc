"""A model held against the labels that it was trained on: labelbridge says so, whichever way its predictions come."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fakes.pictures import HEIGHT, TRUTH, WIDTH
from live import Studio
from PIL import Image
from world import Command, Done, make_world

from bridge.demo.dataset import make, write_coco

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def words(done: Done) -> str:
    assert done.status == 0, done.text
    return " ".join(done.error.split())


def test_on_files(tmp_path: Path) -> None:
    """With the trained model's manifest, and out of sample."""
    write_coco(make(tmp_path / "scenes", 6, 0).records, tmp_path / "scenes" / "annotations.json")
    target = f"coco:{tmp_path / 'scenes' / 'annotations.json'}"
    command = Command(tmp_path / "home")
    trained = command.run("train", target, "--folds", "2", "--epochs", "1", "--json").json
    inside = command.run("score", target, "--detector", trained["manifest"], "--json")
    assert f"IN SAMPLE: 6 of 6 items were training images of {trained['model']}." in words(inside)
    lowered = [f for f in command.run("findings", target, "--json").json if f["evidence"].get("in_sample")]
    assert lowered
    assert max(f["score"] for f in lowered) <= 0.75
    outside = command.run("score", target, "--cross-fit", "--json")
    assert "IN SAMPLE" not in words(outside)
    (model,) = outside.json["independence"]["models"]
    assert (model["inside"], model["outside"], model["unknown"], model["folds"]) == (0, 6, 0, 2)
    assert not [f for f in command.run("findings", target, "--json").json if f["evidence"].get("in_sample")]


@pytest.mark.live
def test_on_suggestions_stored_in_label_studio(studio: Studio, tmp_path: Path) -> None:
    """The name that stands beside a stored prediction is enough; the image that was held out is not counted."""
    world = make_world(studio, tmp_path, [TRUTH] * 5)
    for number in range(5):  # on grounds that are not alike, or they would be one image to the training
        ground = np.random.default_rng(number).integers(0, 256, (12, 16, 3)).astype(np.uint8)
        picture = ground.repeat(HEIGHT // 12, axis=0).repeat(WIDTH // 16, axis=1)
        Image.fromarray(picture).save(world.project.images / f"photo {number}.png")
    command, target = Command(tmp_path / "home", world.command.settings), world.target
    trained = command.run("train", target, "--folds", "0", "--epochs", "1", "--json").json
    words(command.run("prelabel", target, "--detector", trained["manifest"], "--threshold", "0"))
    told = words(command.run("score", target))
    assert f"IN SAMPLE: 4 of 5 items were training images of {trained['model']}." in told
