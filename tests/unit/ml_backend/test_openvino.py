"""Detectors on OpenVINO: answers as on torch, nothing written or sent, and what happens where it cannot run."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detector_kit import FASTER, SMALL, SSDLITE, blobs, detector, lively, noise, same
from torch import Tensor, nn

from bridge.errors import ConfigError, ModelError
from bridge.scenes import draw_scene
from ml_backend.models import openvino_network as module
from ml_backend.models.catalogue import ModelSpec, describe, load
from ml_backend.models.openvino_network import (
    OpenVinoModule,
    StreamedNetwork,
    compiled,
    convert,
    import_openvino,
    is_installed,
)

needs_it = pytest.mark.skipif(not is_installed(), reason="needs OpenVINO")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_installed", lambda: False)
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    with pytest.raises(ConfigError, match=r"labelbridge\[openvino\]"):
        import_openvino()


def test_without_the_package_torch_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml_backend.models.detector_runtime.is_installed", lambda: False)
    model: Any = load(ModelSpec(device="cpu"))
    assert model.runtime.startswith("torch ")


def test_unknown_accelerators_are_refused() -> None:
    wrong: Any = "abacus"
    with pytest.raises(ModelError, match="the accelerator is 'abacus'"):
        load(ModelSpec(device="cpu", accelerator=wrong))


@needs_it
def test_the_embedded_model_answers_the_same() -> None:
    images = [draw_scene(9_000_000 + i).image for i in range(6)]
    models: list[Any] = [
        load(ModelSpec(device="cpu", precision="fp32", score_threshold=0.05, accelerator=a))
        for a in ("torch", "openvino", "auto")
    ]
    assert [model.runtime.split()[0] for model in models] == ["torch", "openvino", "openvino"]
    assert len({model.name for model in models}) == 1
    on_torch, *on_openvino = (model.predict(images) for model in models)
    assert sum(len(found.label) for found in on_torch) > 60
    for answers in on_openvino:
        for a, b in zip(on_torch, answers, strict=True):
            same(a, b, pixels=1e-3, confidence=1e-4)


@needs_it
@pytest.mark.parametrize(
    ("builder", "args"),
    [
        (SSDLITE, {}),
        (FASTER, {}),
        ("retinanet_resnet50_fpn", SMALL),
        ("fcos_resnet50_fpn", SMALL),
        ("maskrcnn_resnet50_fpn", {**SMALL, "box_detections_per_img": 8}),
    ],
)
def test_random_networks_answer_the_same_for_images_of_all_sizes(builder: str, args: Any) -> None:
    network = lively(builder, masks=builder.startswith("mask"), **args)
    on_torch = detector(network)
    on_openvino = detector(network, accelerator="openvino")
    assert on_openvino.runtime.startswith("openvino ")
    images = [blobs(120, 170, 1), blobs(170, 120, 2), blobs(90, 90, 3), blobs(120, 170, 4), blobs(40, 200, 5)]
    images += [noise(1, 1), np.zeros((0, 9, 3), np.uint8)]
    answers = on_torch.predict(images), on_openvino.predict(images)
    assert sum(len(found.label) for found in answers[0]) > 20
    for a, b in zip(*answers, strict=True):
        # Layers of random weights pass rounding on a hundred times as loud as trained ones.
        same(a, b, pixels=0.05, confidence=1e-3)
        for mask, other in zip(a.masks, b.masks, strict=True):
            assert np.abs(np.subtract(mask.xyxy, other.xyxy)).max() <= 1


@needs_it
def test_answers_do_not_depend_on_neighbours_or_read_only_views() -> None:
    model = detector(lively(SSDLITE), accelerator="openvino")
    images = [blobs(120, 170, seed) for seed in range(7)]
    images[3] = images[3][:, ::-1]
    images[4].flags.writeable = False
    for together, image in zip(model.predict(images), images, strict=True):
        same(together, model.predict([image])[0])


@needs_it
def test_a_network_without_candidates_answers_nothing() -> None:
    network = lively("maskrcnn_resnet50_fpn", masks=True, **SMALL)
    with torch.no_grad():
        network.roi_heads.box_predictor.cls_score.bias[0] += 100
    (found,) = detector(network, accelerator="openvino").predict([blobs(120, 170)])
    assert len(found.label) == len(found.masks) == 0


class Strange(nn.Module):
    """A detector that is not torchvision's."""

    def __init__(self) -> None:
        super().__init__()
        self.transform = type("T", (), {"fixed_size": (320, 320)})()

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        one = torch.ones(1)
        return [{"boxes": torch.tensor([[1.0, 1, 5, 5]]), "scores": one, "labels": one.long()} for _ in images]


@needs_it
def test_what_openvino_cannot_run_runs_on_torch_and_says_so() -> None:
    model = detector(Strange(), accelerator="auto")
    assert model.runtime.startswith("torch ")
    assert "OpenVINO cannot run a Strange" in model.runtime
    assert len(model.predict([noise(9, 9)])[0].label) == 1
    with pytest.raises(ModelError, match="OpenVINO cannot run a Strange"):
        detector(Strange(), accelerator="openvino")


class _OneDimensionTooMany(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


@needs_it
def test_an_operation_that_openvino_does_not_know_is_told() -> None:
    with pytest.raises(ModelError, match=r"OpenVINO cannot run this network: .*bessel"):
        convert(_OneDimensionTooMany(), [torch.ones(2)])


@needs_it
def test_a_failure_leaves_the_network_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    network = lively(FASTER)
    wanted = detector(network).predict([blobs(120, 170)])[0]
    compile_ = module.compiled
    calls = []

    def second_fails(*args: Any, **options: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:
            raise ModelError("no room")
        return compile_(*args, **options)

    monkeypatch.setattr(module, "compiled", second_fails)
    model = detector(network, accelerator="auto")
    assert model.runtime.endswith("(no room)")
    assert len(calls) == 2
    same(model.predict([blobs(120, 170)])[0], wanted)


@needs_it
@pytest.mark.skipif(module.cpu_has_bf16(), reason="this CPU has bf16")
def test_bf16_on_a_cpu_without_it() -> None:
    with pytest.raises(ModelError, match="does not compute in bf16 on this CPU"):
        load(ModelSpec(device="cpu", precision="bf16", accelerator="openvino"))
    model: Any = load(ModelSpec(device="cpu", precision="bf16"))
    assert model.runtime.startswith("torch ")
    assert model.name == describe(ModelSpec(device="cpu", precision="bf16")).name


class _Twice(nn.Module):
    """What it is called with comes back as another kind of container, twice as large."""

    def forward(self, levels: list[Tensor]) -> dict[str, Tensor]:
        return {str(i): level * 2 for i, level in enumerate(levels)}


@needs_it
def test_a_module_keeps_its_containers_and_takes_any_size() -> None:
    example = [torch.ones(1, 2, 4, 4), torch.ones(1, 2, 2, 2)]
    module_ = OpenVinoModule(_Twice(), [example], "fp32")
    for sizes in ((4, 2), (7, 3), (0, 5)):
        levels = [torch.rand(3, 2, size, size + 1) for size in sizes]
        answer = module_(levels)
        assert list(answer) == ["0", "1"]
        for level, doubled in zip(levels, answer.values(), strict=True):
            torch.testing.assert_close(doubled, level * 2)


class _PlusOne(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1


@pytest.fixture(scope="module")
def plus_one() -> StreamedNetwork:
    return StreamedNetwork(convert(_PlusOne(), [torch.ones(1, 2)]), (1, 2), "fp32")


@needs_it
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_streams_answer_in_order(plus_one: StreamedNetwork, count: int) -> None:
    def fill(i: int, array: np.ndarray) -> None:
        array[:] = i

    answers = [outputs[0].tolist() for outputs in plus_one.run(count, fill)]
    assert answers == [[[i + 1.0, i + 1.0]] for i in range(count)]


@needs_it
def test_streams_recover_from_a_caller_that_fails_or_leaves(plus_one: StreamedNetwork) -> None:
    def fail(i: int, array: np.ndarray) -> None:
        if i == 2:
            raise ValueError("no image")
        array[:] = i

    with pytest.raises(ValueError, match="no image"):
        list(plus_one.run(5, fail))
    left = plus_one.run(5, lambda i, array: array.fill(i))
    next(left)
    left.close()
    assert [outputs[0][0, 0] for outputs in plus_one.run(4, lambda i, array: array.fill(i))] == [1, 2, 3, 4]


@needs_it
def test_half_precision_that_a_cpu_does_not_have_is_refused() -> None:
    with pytest.raises(ModelError, match="does not compute in fp16"):
        compiled(convert(_PlusOne(), [torch.ones(1, 2)]), "fp16", threads=1)


@needs_it
def test_loading_in_a_thread_warns_nobody_and_leaves_builtins_alone() -> None:
    before = divmod
    failures: list[BaseException] = []

    def work() -> None:
        try:
            convert(_PlusOne(), [torch.ones(1, 2)])
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []
    assert divmod is before


QUIET = """
import sys
events = []
def hook(name, args):
    # ldconfig is how Python looks for libraries.
    if name.startswith("socket.") or (name == "subprocess.Popen" and "ldconfig" not in str(args)):
        events.append((name, str(args)[:200]))
sys.addaudithook(hook)
from ml_backend.models.catalogue import ModelSpec, load
import numpy as np
model = load(ModelSpec(device="cpu", precision="fp32", accelerator="openvino"))
model.predict([np.zeros((64, 64, 3), np.uint8)] * 3)
print(model.runtime.split()[0], events, sys.modules.get("openvino_telemetry", "absent"))
"""


@needs_it
def test_openvino_sends_nothing_and_writes_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", QUIET],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split("\n")[0] == "openvino [] absent", done.stdout + done.stderr
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []
