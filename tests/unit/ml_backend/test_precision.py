"""Which arithmetic a model runs in, and that its name says so where answers change."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detector_kit import FASTER, SSDLITE, blobs, detector, lively, same

from bridge.errors import ModelError
from bridge.scenes import draw_scene
from ml_backend.models import precision as module
from ml_backend.models.catalogue import ModelSpec, describe, load
from ml_backend.models.precision import choose_precision, cpu_has_bf16, suffix

SAYS_AMX = "processor : 0\nflags\t\t: fpu sse avx512f amx_bf16 amx_tile\n"
SAYS_AVX512 = "processor : 0\nflags\t\t: fpu avx512_bf16\n"
SAYS_NOTHING = "processor : 0\nflags\t\t: fpu sse avx512f avx512_vnni\nbugs\t\t: amx_bf16\n"


@pytest.fixture
def cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def says(flags: str) -> None:
        (tmp_path / "cpuinfo").write_text(flags)
        monkeypatch.setattr(module, "_CPU_FLAGS", tmp_path / "cpuinfo")

    return says


@pytest.mark.parametrize(("flags", "has"), [(SAYS_AMX, True), (SAYS_AVX512, True), (SAYS_NOTHING, False), ("", False)])
def test_the_flags_of_a_cpu_say_whether_it_has_bf16(cpu: Any, flags: str, has: bool) -> None:
    cpu(flags)
    assert cpu_has_bf16() is has
    assert choose_precision("auto", "cpu") == ("bf16" if has else "fp32")


def test_a_cpu_that_says_nothing_has_no_bf16(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "_CPU_FLAGS", tmp_path / "gone")
    assert not cpu_has_bf16()


def test_what_was_asked_for_is_taken(cpu: Any) -> None:
    cpu(SAYS_AMX)
    assert choose_precision("fp32", "cpu") == "fp32"
    assert choose_precision("bf16", "cpu") == "bf16"
    assert choose_precision("fp16", "cuda:0") == "fp16"


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(ModelError, match="fp16 was asked for on a CPU"):
        choose_precision("fp16", "cpu")
    for call in (describe, load):
        with pytest.raises(ModelError, match="fp16 was asked for on a CPU"):
            call(ModelSpec(precision="fp16", device="cpu"))


def test_unknown_precisions_are_refused() -> None:
    wrong: Any = "fp8"
    with pytest.raises(ModelError, match="the precision is 'fp8'"):
        choose_precision(wrong, "cpu")


def test_a_gpu_that_is_not_there_is_left_to_the_loading(cpu: Any) -> None:
    cpu(SAYS_NOTHING)
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert choose_precision("auto", "cuda:7") == "fp32"
    assert choose_precision("auto", "auto") == "fp32"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_computes_in_half_precision() -> None:
    assert choose_precision("auto", "auto") == choose_precision("auto", "cuda:0")
    assert choose_precision("auto", "auto") in ("bf16", "fp16")


def test_names_say_what_changes_answers(cpu: Any) -> None:
    cpu(SAYS_AMX)
    assert describe(ModelSpec(device="cpu")).name == describe(ModelSpec(device="cpu", precision="bf16")).name
    assert describe(ModelSpec(device="cpu")).name == describe(ModelSpec(device="cpu", precision="fp32")).name + "-bf16"
    cpu(SAYS_NOTHING)
    assert describe(ModelSpec(device="cpu")).name == describe(ModelSpec(device="cpu", precision="fp32")).name
    assert (suffix("fp32"), suffix("bf16"), suffix("fp16")) == ("", "-bf16", "-fp16")


def test_the_loaded_model_is_called_as_described() -> None:
    spec = ModelSpec(device="cpu", precision="bf16", accelerator="torch")
    assert load(spec).name == describe(spec).name


def test_a_manifest_is_described_without_torch() -> None:
    code = (
        "import sys; from ml_backend.models.catalogue import ModelSpec, describe; describe(ModelSpec(device='cpu'));"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_trained_model_finds_the_same_in_bf16() -> None:
    images = [draw_scene(9_000_000 + i).image for i in range(4)]
    models: list[Any] = [
        load(ModelSpec(device="cpu", precision=precision, accelerator="torch")) for precision in ("fp32", "bf16")
    ]
    assert models[1].runtime.endswith(", bf16")
    whole, half = (model.predict(images) for model in models)
    for a, b in zip(whole, half, strict=True):
        same(a, b, pixels=3, confidence=0.1, strays=0.1)
    assert any(not np.array_equal(a.confidence, b.confidence) for a, b in zip(whole, half, strict=True))


@pytest.mark.parametrize("builder", [SSDLITE, FASTER])
def test_coordinates_are_computed_in_full_precision(builder: str) -> None:
    network = lively(builder)
    (found,) = detector(network, score_threshold=0.05, precision="bf16").predict([blobs(120, 170)])
    # Those computed in bf16 would be multiples of a quarter of a pixel and more from 64 on; the edges are whole.
    far = found.xyxy[(found.xyxy > 64) & (found.xyxy < 120)]
    assert len(far) > 20
    assert (far % 0.25 > 0).mean() > 0.9
