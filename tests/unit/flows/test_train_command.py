"""`labelbridge train` and `labelbridge score --cross-fit`, with a trainer that takes no time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.pictures import CAT, HEIGHT, TRUTH, WIDTH, Objects
from flow_kit import MemoryDurable
from PIL import Image
from training_kit import MemoryTrainer, Rememberer, varied
from typer.testing import CliRunner, Result

from bridge import wiring
from bridge.cli import app
from bridge.errors import LabelbridgeError, ModelError, NotFound, PartialFailure, PluginError, UsageError
from bridge.scorers.in_sample import WORTH

Run = Callable[..., Result]


def add(folder: Path, number: int, objects: Objects = TRUTH) -> None:
    """One more picture of a Pascal VOC data set."""
    (folder / "Annotations").mkdir(parents=True, exist_ok=True)
    (folder / "JPEGImages").mkdir(exist_ok=True)
    Image.fromarray(varied(number)).save(folder / "JPEGImages" / f"p{number}.png")
    boxes = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{box.x1 + 1}</xmin><ymin>{box.y1 + 1}</ymin>"
        f"<xmax>{box.x2}</xmax><ymax>{box.y2}</ymax></bndbox></object>"
        for label, box in objects
    )
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    text = f"<annotation><filename>p{number}.png</filename>{size}{boxes}</annotation>"
    (folder / "Annotations" / f"p{number}.xml").write_text(text)


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> MemoryTrainer:
    made = MemoryTrainer()

    def start(spec: str, *, labels: Any, weights: Path | None, device: str) -> MemoryTrainer:
        if spec == "nothing":
            raise ModelError("there is no model 'nothing'")
        made.spec = (spec, weights, device)  # type: ignore[attr-defined]
        return made(labels)

    plugins = {"trainer": start, "predictor": lambda spec, **options: Rememberer(name=spec)}
    monkeypatch.setattr(wiring, "plugin", plugins.__getitem__)
    return made


@pytest.fixture
def target(tmp_path: Path) -> str:
    """Six pictures; the last one lacks its dog."""
    for number in range(6):
        add(tmp_path / "voc", number, TRUTH if number < 5 else (("cat", CAT),))
    return f"voc:{tmp_path / 'voc'}"


@pytest.fixture
def run(tmp_path: Path, trainer: MemoryTrainer, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABELBRIDGE_HOME", str(tmp_path / "home"))
    # The workflow engine would keep the stream to which this test's output goes.
    monkeypatch.setattr(wiring, "Durable", lambda folder, version: MemoryDurable())

    def call(*words: str, raises: type[LabelbridgeError] | None = None) -> Result:
        result = CliRunner().invoke(app, words)
        if raises is None and result.exception is not None:
            raise result.exception
        assert raises is None or isinstance(result.exception, raises), result
        return result

    return call


def likely(run: Run, target: str) -> list[str]:
    """What the findings above a doubt are about."""
    return [f["error"] for f in json.loads(run("findings", target, "--min-score", "0.2", "--json").stdout)]


def test_trained_then_scored(run: Run, target: str) -> None:
    text = run("train", target, "--folds", "3").output
    assert "fold 3 of 3  epoch 3/3" in text
    assert f"Next: labelbridge score {target} --cross-fit" in text
    scored = json.loads(run("score", target, "--cross-fit", "--json").stdout)
    assert likely(run, target) == ["missing"]
    assert scored["counts"]["unpredicted"] == 0
    (made,) = json.loads(run("runs", target, "--json").stdout)
    assert made["model"].startswith("cross-fit-")
    assert made["options"]["source"][:1] == ["cross-fit"]


def test_the_options_reach_the_training(run: Run, target: str, trainer: MemoryTrainer, tmp_path: Path) -> None:
    words = ["--detector", "some_net", "--weights", "w.pth", "--folds", "2", "--epochs", "4", "--seed", "7"]
    out = tmp_path / "out"
    record = json.loads(run("train", target, *words, "--patience", "2", "--out", str(out), "--json").stdout)
    assert trainer.spec == ("some_net", Path("w.pth"), "auto")  # type: ignore[attr-defined]
    assert record["options"] == {"folds": 2, "epochs": 4, "seed": 7, "patience": 2}
    assert record["manifest"] == str(out / "manifest.json")
    assert sorted(p.name for p in out.iterdir()) == [
        "images.json", "manifest.json", "model.safetensors", "predictions.json", "predictions.provenance.json",
        "probes.json",
        "training.json",
    ]  # fmt: skip
    assert (trainer.fits[0].patience, trainer.fits[0].seed) == (2, 7)


def test_again(run: Run, target: str) -> None:
    run("train", target)
    assert "Done before, on 20" in run("train", target).output
    assert json.loads(run("train", target, "--json").stdout)["fresh"] is False


def test_what_is_new_since_the_training_is_told(run: Run, target: str, tmp_path: Path) -> None:
    run("train", target)
    assert "Since the training" not in run("score", target, "--cross-fit").output
    add(tmp_path / "voc", 9)
    add(tmp_path / "voc", 0, (("cat", CAT),))
    told = " ".join(run("score", target, "--cross-fit").output.split())
    assert "Since the training, new images: 1," in told
    assert "labelled otherwise since then: 1." in told


def test_the_run_says_whether_a_model_was_asked(run: Run, target: str) -> None:
    run("train", target, "--out", "out")
    file = ["--predictions", "out/predictions.json", "--predictions-index", "out/images.json"]
    asked = "The model was also asked about 11 of the boxes that people drew."
    assert asked in run("score", target, "--cross-fit").output
    assert asked in run("score", target, "--detector", "any").output
    assert "No model was asked about the boxes that people drew." in run("score", target, *file).output


def test_predictions_and_index_are_a_coco_pair(run: Run, target: str, tmp_path: Path) -> None:
    run("train", target, "--out", "out")
    words = ["--predictions", "out/predictions.json", "--predictions-index", "out/images.json", "--json"]
    run("score", target, *words)
    assert likely(run, target) == ["missing"]


class TestInSample:
    """A model held against the images that it was trained on says so; out of sample nothing is said."""

    @pytest.fixture
    def manifest(self, run: Run, target: str) -> str:
        return str(json.loads(run("train", target, "--json").stdout)["manifest"])

    def test_by_its_manifest(self, run: Run, target: str, manifest: str) -> None:
        result = run("score", target, "--detector", manifest)
        words = " ".join(result.output.split())
        assert f"IN SAMPLE: 6 of 6 items were training images of {manifest}." in words
        assert f"labelbridge score {target} --cross-fit" in words
        assert "IN SAMPLE" in result.stderr
        assert "IN SAMPLE" in run("findings", target).stderr
        (made,) = json.loads(run("runs", target, "--json").stdout)
        (model,) = made["counts"]["independence"]["models"]
        assert (model["inside"], model["outside"], model["trained_on"]) == (6, 0, [target])
        assert len(model["snapshot"]) == 64
        run("report", target, "-o", "report.html")
        assert "IN SAMPLE: 6 of 6 items" in Path("report.html").read_text()

    def test_by_a_copied_manifest_on_the_same_images_elsewhere(
        self, run: Run, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another data folder, another target, other file names: the pixels are the same."""
        run("train", target, "--out", "out")
        monkeypatch.setenv("LABELBRIDGE_HOME", str(tmp_path / "another home"))
        for number in (3, 99):
            add(tmp_path / "other", number)
        for old, new in (("p3", "q7"), ("p99", "q8")):
            (tmp_path / "other" / "JPEGImages" / f"{old}.png").rename(tmp_path / "other/JPEGImages" / f"{new}.png")
            text = (tmp_path / "other" / "Annotations" / f"{old}.xml").read_text().replace(old, new)
            (tmp_path / "other" / "Annotations" / f"{old}.xml").unlink()
            (tmp_path / "other" / "Annotations" / f"{new}.xml").write_text(text)
        result = run("score", f"voc:{tmp_path / 'other'}", "--detector", "out/manifest.json")
        assert "IN SAMPLE: 1 of 2 items" in result.stderr

    def test_not_with_cross_fit(self, run: Run, target: str, manifest: str) -> None:
        result = run("score", target, "--cross-fit", "--json")
        assert "IN SAMPLE" not in result.stderr
        (model,) = json.loads(result.stdout)["independence"]["models"]
        assert (model["inside"], model["outside"], model["unknown"], model["folds"]) == (0, 6, 0, 5)
        assert "not known" not in run("score", target, "--cross-fit").output

    def test_a_copy_of_an_old_image_is_in_the_sample_of_the_final_model(
        self, run: Run, target: str, manifest: str, tmp_path: Path
    ) -> None:
        add(tmp_path / "voc", 7)
        (tmp_path / "voc/JPEGImages/p7.png").write_bytes((tmp_path / "voc/JPEGImages/p2.png").read_bytes())
        assert "IN SAMPLE: 1 of 1 items" in run("score", target, "--cross-fit").stderr

    def test_scores_are_lower_and_say_why(self, run: Run, target: str, manifest: str) -> None:
        found = {}
        for words in (["--detector", manifest], ["--detector", "another"]):
            run("score", target, *words)
            listed = json.loads(run("findings", target, "--type", "missing", "--json").stdout)
            found[words[1]] = listed[0]
        inside, unknown = found[manifest], found["another"]
        assert inside["score"] == pytest.approx(WORTH * unknown["score"])
        assert inside["reason"] == unknown["reason"] + " The model was trained on this image."
        assert inside["evidence"]["in_sample"] is True

    def test_what_is_not_known_is_said_calmly(self, run: Run, target: str) -> None:
        result = run("score", target, "--detector", "another")
        assert "What another was trained on is not known." in " ".join(result.stdout.split())
        assert "IN SAMPLE" not in result.output
        assert "not known" not in result.stderr

    def test_a_file_of_ours_is_out_of_sample(self, run: Run, target: str) -> None:
        run("train", target, "--out", "out")
        words = ["--predictions", "out/predictions.json", "--predictions-index", "out/images.json", "--json"]
        (model,) = json.loads(run("score", target, *words).stdout)["independence"]["models"]
        assert (model["outside"], model["folds"], model["trained_on"]) == (6, 5, [target])

    def test_a_file_may_say_what_its_model_has_seen(self, run: Run, target: str) -> None:
        run("train", target, "--out", "out")
        Path("out/predictions.provenance.json").write_text('{"seen": ["p1.png", "p4.png"]}')
        words = ["--predictions", "out/predictions.json", "--predictions-index", "out/images.json"]
        assert "IN SAMPLE: 2 of 6 items were training images of predictions." in run("score", target, *words).stderr
        Path("out/predictions.provenance.json").unlink()
        assert "What predictions was trained on is not known." in run("score", target, *words).stdout


def test_not_trained(run: Run, target: str) -> None:
    run("score", target, "--cross-fit", raises=NotFound)


def test_words_that_make_no_sense(run: Run, target: str) -> None:
    run("train", target, "--folds", "1", raises=UsageError)
    run("score", target, "--cross-fit", "--detector", "embedded", raises=UsageError)
    run("train", target, "--detector", "nothing", raises=ModelError)


def test_broken_images_are_named_at_the_end(run: Run, target: str, tmp_path: Path) -> None:
    (tmp_path / "voc" / "JPEGImages" / "p2.png").write_bytes(b"no image")
    result = run("train", target, raises=PartialFailure)
    assert "1 of 6 items could not be used for training" in str(result.exception)
    assert "On images the model had not seen" in result.output


def test_nobody_offers_a_trainer(run: Run, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> Any:
        raise PluginError(f"no installed package offers the plugin {name!r}")

    monkeypatch.setattr(wiring, "plugin", none)
    run("train", target, raises=PluginError)


def test_another_file_of_the_same_name_is_another_source(target: str, tmp_path: Path) -> None:
    """The journal of an interrupted run must not be taken up with other predictions."""
    keys = []
    for score in (0.5, 0.6):
        file = tmp_path / "predictions.json"
        file.write_text(json.dumps([{"image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "score": score}]))
        index = tmp_path / "index.json"
        images = [{"id": 1, "file_name": "p1.png", "width": WIDTH, "height": HEIGHT}]
        index.write_text(json.dumps({"images": images, "categories": [{"id": 1, "name": "cat"}], "annotations": []}))
        options = wiring.SourceOptions(predictions=file, predictions_index=index)
        settings = wiring.Settings.load(None)
        keys.append(wiring.prediction_source(wiring.open_target(target, settings), options, settings).key)
    assert keys[0] != keys[1]
