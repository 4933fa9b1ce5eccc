"""SAM through our protocol, held against the package's own predictor on the same weights."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

from bridge.errors import ModelError
from ml_backend.models import Prompt
from ml_backend.models.catalogue import ModelSpec, describe, load
from ml_backend.models.checkpoints import Checkpoint, find
from ml_backend.models.segment_anything import SegmentAnything

#: No mask may differ from the package's in more than this share of its pixels: float rounding at its edge.
TOLERANCE = 2e-3


def tiny(seed: int = 0) -> Sam:
    """SAM's architecture at a 64th of its size, with weights that give masks of many shapes."""
    torch.manual_seed(seed)
    side, patch, channels = 256, 16, 32
    network = Sam(
        image_encoder=ImageEncoderViT(
            depth=2,
            embed_dim=48,
            img_size=side,
            mlp_ratio=2,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            num_heads=4,
            patch_size=patch,
            qkv_bias=True,
            use_rel_pos=True,
            global_attn_indexes=(1,),
            window_size=7,
            out_chans=channels,
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=channels,
            image_embedding_size=(side // patch, side // patch),
            input_image_size=(side, side),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=channels, mlp_dim=64, num_heads=4),
            transformer_dim=channels,
            iou_head_depth=2,
            iou_head_hidden_dim=32,
        ),
        pixel_mean=[123.675, 116.28, 103.53],
        pixel_std=[58.395, 57.12, 57.375],
    )
    for parameter in network.mask_decoder.parameters():
        parameter.data.mul_(1.5)
    return network.eval()


def photo(height: int, width: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), np.uint8)
    return np.ascontiguousarray(coarse.repeat(16, 0).repeat(16, 1)[:height, :width])


PROMPTS = [
    Prompt(positive=((50.5, 40.0),)),
    Prompt(positive=((50.5, 40.0), (70, 60)), negative=((10, 10),)),
    Prompt(box=(20, 30, 110, 90)),
    Prompt(box=(20, 30, 110, 90), positive=((60, 60),), negative=((30, 35),)),
    Prompt(positive=((120, 20),)),
]


def by_the_package(network: Sam, image: np.ndarray, prompt: Prompt) -> tuple[np.ndarray, float]:
    predictor = SamPredictor(network)
    predictor.set_image(image)
    points = [*prompt.positive, *prompt.negative]
    masks, quality, _ = predictor.predict(
        point_coords=np.array(points, float) if points else None,
        point_labels=np.array([1] * len(prompt.positive) + [0] * len(prompt.negative)) if points else None,
        box=None if prompt.box is None else np.array(prompt.box, float),
        multimask_output=len(points) == 1 and prompt.box is None,
    )
    best = int(quality.argmax())
    return masks[best], float(quality[best])


@pytest.mark.parametrize("size", [(120, 160), (333, 200), (256, 256), (40, 900)])
def test_masks_are_those_of_the_package(size: tuple[int, int]) -> None:
    network, image = tiny(), photo(*size)
    model = SegmentAnything(network, name="tiny", device="cpu")
    found = model.prompt(model.preprocess(image), PROMPTS)
    areas = []
    for prompt, segment in zip(PROMPTS, found, strict=True):
        wanted, quality = by_the_package(network, image, prompt)
        mask = np.zeros(size, bool) if segment is None else segment.mask.full(*size)
        assert (mask != wanted).mean() < TOLERANCE
        areas.append(wanted.mean())
        if segment is not None:
            assert segment.confidence == pytest.approx(min(max(quality, 0), 1), abs=1e-4)
    # An oracle that finds nothing, or everything, would prove nothing.
    assert any(0.02 < area < 0.98 for area in areas)


def test_prompts_together_are_answered_as_alone() -> None:
    model = SegmentAnything(tiny(), name="tiny", device="cpu")
    seen = model.preprocess(photo(120, 160))
    prompts = [Prompt(box=(k, k, k + 60, k + 50)) for k in range(20)] + [Prompt(), Prompt(negative=((3, 3),))]
    together = model.prompt(seen, prompts)
    assert together[-2:] == [None, None]
    for prompt, segment in zip(prompts, together, strict=True):
        (alone,) = model.prompt(seen, [prompt])
        assert (alone is None) == (segment is None)
        if alone and segment:
            difference = alone.mask.full(120, 160) != segment.mask.full(120, 160)
            assert difference.mean() < TOLERANCE


def test_two_threads_do_not_disturb_each_other() -> None:
    model = SegmentAnything(tiny(), name="tiny", device="cpu")
    seen = model.preprocess(photo(120, 160))
    wanted = model.prompt(seen, PROMPTS)
    with ThreadPoolExecutor(2) as pool:
        looking = [pool.submit(model.preprocess, photo(200, 300, seed)) for seed in range(6)]
        answers = [pool.submit(model.prompt, seen, PROMPTS) for _ in range(6)]
        for answer in answers:
            for a, b in zip(answer.result(), wanted, strict=True):
                assert (a is None) == (b is None)
                assert a is None or b is None or (a.mask.full(120, 160) == b.mask.full(120, 160)).all()
        assert len([one.result() for one in looking]) == 6


def test_a_mask_on_a_huge_image_stays_a_crop_and_bounded() -> None:
    model = SegmentAnything(tiny(), name="tiny", device="cpu")
    image = np.zeros((3000, 4000, 3), np.uint8)
    image[1000:2000, 1500:2500] = 255
    seen = model.preprocess(image)
    assert seen.nbytes == 16 * 16 * 32 * 4
    for segment in model.prompt(seen, [Prompt(box=(1500, 1000, 2500, 2000)), Prompt(positive=((2000, 1500),))]):
        if segment is not None:
            x1, y1, x2, y2 = segment.mask.xyxy
            assert 0 <= x1 < x2 <= 4000
            assert 0 <= y1 < y2 <= 3000


@pytest.fixture(scope="module")
def vit_b(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the real ViT-B with random weights, as its makers save it."""
    from segment_anything import sam_model_registry

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("sam") / "sam.pth"
    torch.save(sam_model_registry["vit_b"](checkpoint=None).state_dict(), path)
    return path


@pytest.mark.slow
def test_the_real_vit_b_through_the_catalogue(vit_b: Path, record_property: Any) -> None:
    spec = ModelSpec("sam_vit_b", weights=vit_b, device="cpu")
    card, model = describe(spec), load(spec)
    digest = hashlib.sha256(vit_b.read_bytes()).hexdigest()
    assert card.role == "interactor"
    assert model.name == card.name == f"sam-vit-b-{digest[:8]}"
    assert isinstance(model, SegmentAnything)
    image = photo(480, 640)
    began = time.perf_counter()
    seen = model.preprocess(image)
    first = time.perf_counter() - began
    assert seen.nbytes == 4 * 2**20
    model.prompt(seen, PROMPTS[:1])
    began = time.perf_counter()
    (segment,) = model.prompt(seen, PROMPTS[2:3])
    second = time.perf_counter() - began
    print(f"ViT-B: image {first:.2f} s, prompt {second * 1000:.0f} ms: {first / second:.0f} times as quick")
    wanted, _ = by_the_package(model._network, image, PROMPTS[2])
    mask = np.zeros((480, 640), bool) if segment is None else segment.mask.full(480, 640)
    assert (mask != wanted).mean() < TOLERANCE
    assert second < first / 5


@pytest.mark.slow
def test_a_checkpoint_of_another_variant_is_named(vit_b: Path) -> None:
    with pytest.raises(ModelError, match="are of sam_vit_b, not of sam_vit_l"):
        load(ModelSpec("sam_vit_l", weights=vit_b, device="cpu"))


def test_other_files_are_no_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"layer.weight": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match="are no checkpoint of SAM"):
        load(ModelSpec("sam_vit_b", weights=path, device="cpu"))
    torch.save({"image_encoder.patch_embed.proj.weight": torch.zeros(768, 3, 16, 16)}, path)
    with pytest.raises(ModelError, match="do not fit"):
        load(ModelSpec("sam_vit_b", weights=path, device="cpu"))
    with pytest.raises(ModelError, match="which has no classes"):
        describe(ModelSpec("sam_vit_b", classes=("cat",)))
    with pytest.raises(ModelError, match="there is no model 'sam_vit_x'"):
        describe(ModelSpec("sam_vit_x"))


def test_a_published_checkpoint_is_described_without_a_download() -> None:
    assert describe(ModelSpec("sam_vit_h", device="cpu", precision="fp32")).name == "sam-vit-h-a7bf3b02"


class TestCheckpoints:
    DATA = b"weights" * 1000
    SHA = hashlib.sha256(DATA).hexdigest()

    def test_a_download_is_checked_and_kept(self, tmp_path: Path) -> None:
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "w.pth").write_bytes(self.DATA)
        checkpoint = Checkpoint((tmp_path / "there" / "w.pth").as_uri(), self.SHA)
        assert find(checkpoint, tmp_path / "cache").read_bytes() == self.DATA
        (tmp_path / "there" / "w.pth").unlink()
        assert find(checkpoint, tmp_path / "cache").read_bytes() == self.DATA

    def test_another_file_is_refused_and_not_kept(self, tmp_path: Path) -> None:
        (tmp_path / "w.pth").write_bytes(b"something else")
        checkpoint = Checkpoint((tmp_path / "w.pth").as_uri(), self.SHA)
        with pytest.raises(ModelError, match="cannot be had") as caught:
            find(checkpoint, tmp_path / "cache")
        assert str(tmp_path / "cache" / "w.pth") in caught.value.todo
        assert list((tmp_path / "cache").iterdir()) == []

    def test_a_file_that_was_put_there_is_checked(self, tmp_path: Path) -> None:
        (tmp_path / "w.pth").write_bytes(b"something else")
        with pytest.raises(ModelError, match="is not the published one"):
            find(Checkpoint("https://models.invalid/w.pth", self.SHA), tmp_path)

    def test_without_a_network_the_file_to_fetch_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_network(*_: Any, **__: Any) -> None:
            raise URLError("no route to host")

        monkeypatch.setattr("torch.hub.download_url_to_file", no_network)
        with pytest.raises(ModelError) as caught:
            find(Checkpoint("https://models.invalid/w.pth", self.SHA), tmp_path)
        assert "https://models.invalid/w.pth" in caught.value.expected
        assert str(tmp_path / "w.pth") in caught.value.todo
