"""Train the embedded default detector on scenes this project draws itself.

    python -m ml_backend.training.embedded --out ml_backend/weights --minutes 25 --seed 0

The network is a plain `torchvision` SSDlite, from random weights, so it loads like every other model:
builder, then `load_state_dict`. Two files are written: `parts_ssdlite.safetensors` (float16 tensors) and
`parts_ssdlite.json`, the manifest with the classes, the SHA-256, the held-out scores and the threshold.

The run is bounded by time, not by steps: the learning rate, the picture size and the augmentation follow
the share of the time that is spent, so the same seed on another machine gives other weights of the same
kind. On a CPU, float32 with channels-last beats bfloat16 here (its backward convolutions are slow), and
most of the rest is page faults: this environment made a step a third shorter,

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296:\
glibc.malloc.trim_threshold=17179869184
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import hashlib
import io
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.ops import box_iou

from bridge.scenes import CLASSES, Scene, draw_scene
from ml_backend.training.ssd import IGNORED, Batch, average_into, detection_loss, forward

NAME = "parts-ssdlite-1"
STEM = "parts_ssdlite"
BUILDER = "ssdlite320_mobilenet_v3_large"
BUILDER_ARGS: dict[str, Any] = {"weights": None, "weights_backbone": None, "num_classes": len(CLASSES) + 1}

HELD_OUT_SCENES = 200
TRAINING_SEEDS, CALIBRATION_SEEDS, HELD_OUT_SEEDS = 1_000_000, 5_000_000, 6_000_000

BATCH = 16
PEAK_RATE = 2e-3
SIDES = ((0.0, 192), (0.2, 256), (0.55, 320))
PLAIN_VIEW_FROM = 0.78


def build_network() -> Any:
    """The untrained detector, exactly as the product builds it."""
    return getattr(detection, BUILDER)(**BUILDER_ARGS)


def draw_pool(first_seed: int, count: int, processes: int) -> list[Scene]:
    """Scenes of the seeds first_seed .. first_seed + count - 1, drawn by `processes` workers."""
    seeds = range(first_seed, first_seed + count)
    if processes <= 1:
        return [draw_scene(seed) for seed in seeds]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return list(pool.imap(draw_scene, seeds, chunksize=8))


def view(rng: np.random.Generator, scene: Scene, side: int, plain: bool) -> tuple[Tensor, Tensor, Tensor]:
    """One augmented view of a scene: (3, side, side) float32 0..255, boxes (G, 4) and labels (G,).

    plain: mirror only; otherwise crop, stretch and turn by 90 degrees too.
    """
    image = torch.from_numpy(scene.image).permute(2, 0, 1)
    height, width = scene.image.shape[:2]
    left, top, right, bottom = 0, 0, width, height
    if not plain and rng.random() < 0.7:
        share = float(rng.uniform(0.6, 1.0))
        stretch = float(rng.uniform(0.9, 1.1))
        wide, high = min(width, int(width * share * stretch)), min(height, int(height * share / stretch))
        left, top = int(rng.integers(0, width - wide + 1)), int(rng.integers(0, height - high + 1))
        right, bottom = left + wide, top + high
    crop = image[:, top:bottom, left:right].float()[None]
    square = nn.functional.interpolate(crop, (side, side), mode="bilinear", align_corners=False)[0]
    boxes = scene.xyxy.copy()
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    boxes = np.clip(boxes, (left, top, left, top), (right, bottom, right, bottom))
    seen = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) / area
    boxes = (boxes - (left, top, left, top)) * (np.tile((side / (right - left), side / (bottom - top)), 2))
    labels = np.asarray([CLASSES.index(label) + 1 for label in scene.labels])
    labels = np.where(seen < 0.5, IGNORED, labels)
    if rng.random() < 0.5:
        square, boxes = square.flip(2), np.stack((side - boxes[:, 2], boxes[:, 1], side - boxes[:, 0], boxes[:, 3]), 1)
    if rng.random() < 0.5:
        square, boxes = square.flip(1), np.stack((boxes[:, 0], side - boxes[:, 3], boxes[:, 2], side - boxes[:, 1]), 1)
    if not plain and rng.random() < 0.3:
        square, boxes = square.transpose(1, 2), boxes[:, (1, 0, 3, 2)]
    kept = seen > 0.04
    return square, torch.from_numpy(boxes[kept].astype(np.float32)), torch.from_numpy(labels[kept])


def recolour(images: Tensor, generator: torch.Generator) -> Tensor:
    """Jitter exposure, contrast, white balance and saturation of (B, 3, S, S) 0..255; gives -1..1."""
    count = images.shape[0]

    def uniform(low: float, high: float, channels: int = 1) -> Tensor:
        return torch.empty(count, channels, 1, 1).uniform_(low, high, generator=generator)

    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * uniform(0.4, 1.4)
    level = images.mean((1, 2, 3), keepdim=True)
    images = (images - level) * uniform(0.75, 1.3) + level * uniform(0.75, 1.25) * uniform(0.94, 1.06, 3)
    return images.clamp_(0, 255) / 127.5 - 1.0


def batches(scenes: Sequence[Scene], seed: int) -> Iterator[tuple[NDArray[np.int64], np.random.Generator]]:
    """Endless shuffled passes over the pool, as batches of scene indices, with the generator to augment by."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(scenes))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            yield order[start : start + BATCH], rng


def load_batch(
    scenes: Sequence[Scene], chosen: NDArray[np.int64], rng: np.random.Generator, side: int, plain: bool
) -> Batch:
    """Views of the chosen scenes as one `Batch` of side x side pictures."""
    views = [view(rng, scenes[int(index)], side, plain) for index in chosen]
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    images = recolour(torch.stack([square for square, _, _ in views]), generator)
    return Batch(
        images.contiguous(memory_format=torch.channels_last),
        [boxes for _, boxes, _ in views],
        [labels for _, _, labels in views],
    )


def rate_at(progress: float) -> float:
    """The learning rate after this share (0..1) of the time: warm-up, plateau-free cosine down to nearly zero."""
    if progress < 0.04:
        return PEAK_RATE * (0.02 + 0.98 * progress / 0.04)
    return PEAK_RATE * (0.005 + 0.995 * 0.5 * (1 + math.cos(math.pi * (progress - 0.04) / 0.96)))


def train(scenes: Sequence[Scene], minutes: float, seed: int, probe: Sequence[Scene]) -> tuple[Any, int]:
    """Train for `minutes` and return the averaged network with the number of steps made.

    probe: held-back scenes on which the progress is printed four times.
    """
    torch.manual_seed(seed)
    network = build_network().to(memory_format=torch.channels_last)
    average = copy.deepcopy(network).eval()
    decayed = [weight for weight in network.parameters() if weight.ndim > 1]
    others = [weight for weight in network.parameters() if weight.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.03}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.99))
    started, step, probes, shown = time.monotonic(), 0, [0.2, 0.4, 0.6, 0.8], 0.0
    stream = batches(scenes, seed)
    while (progress := (time.monotonic() - started) / (60 * minutes)) < 1.0:
        side = [size for begin, size in SIDES if progress >= begin][-1]
        chosen, rng = next(stream)
        batch = load_batch(scenes, chosen, rng, side, progress >= PLAIN_VIEW_FROM)
        for group in optimiser.param_groups:
            group["lr"] = rate_at(progress)
        network.train()
        outputs, anchors = forward(network, batch.images)
        class_loss, box_loss = detection_loss(network, outputs, anchors, batch)
        optimiser.zero_grad(set_to_none=True)
        (class_loss + box_loss).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 8.0)
        optimiser.step()
        step += 1
        average_into(average, network, min(0.995, (1 + step) / (20 + step)))
        total = float((class_loss + box_loss).detach())
        shown = 0.97 * shown + 0.03 * total if step > 1 else total
        if step % 50 == 0:
            say(f"step {step}, {progress:.0%}, {side} px: loss {shown:.3f}")
        if probes and progress >= probes[0]:
            probes.pop(0)
            say(f"  {evaluate(average, probe)}")
    settle_statistics(average, scenes, seed)
    return average.eval(), step


def settle_statistics(network: nn.Module, scenes: Sequence[Scene], seed: int, rounds: int = 40) -> None:
    """Measure the batch-norm statistics of the averaged weights afresh on plain views at full size."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    network.train()
    stream = batches(scenes, seed + 1)
    with torch.no_grad():
        for _ in range(rounds):
            chosen, rng = next(stream)
            forward(network, load_batch(scenes, chosen, rng, SIDES[-1][1], plain=True).images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@torch.inference_mode()
def predict(network: Any, scenes: Sequence[Scene]) -> list[dict[str, NDArray[Any]]]:
    """Detections per scene: boxes (D, 4) float32 pixels, scores (D,) 0..1, labels (D,) 1..5, best first."""
    network.eval()
    found = []
    for scene in scenes:
        image = torch.from_numpy(scene.image).permute(2, 0, 1).float() / 255
        result = network([image])[0]
        found.append({key: result[key].numpy() for key in ("boxes", "scores", "labels")})
    return found


def evaluate(network: Any, scenes: Sequence[Scene]) -> dict[str, float]:
    """COCO AP (IoU 0.50..0.95) and AP50 over the scenes; needs pycocotools, else {}."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        return {}
    truth: list[dict[str, Any]] = []
    for number, scene in enumerate(scenes):
        for (x0, y0, x1, y1), label in zip(scene.xyxy.tolist(), scene.labels, strict=True):
            box = [x0, y0, x1 - x0, y1 - y0]
            category = CLASSES.index(label) + 1
            annotation = {"bbox": box, "area": box[2] * box[3], "category_id": category, "iscrowd": 0}
            truth.append({"id": len(truth) + 1, "image_id": number, **annotation})
    results: list[dict[str, Any]] = []
    for number, result in enumerate(predict(network, scenes)):
        for box, score, label in zip(result["boxes"], result["scores"], result["labels"], strict=True):
            corner = [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]
            results.append({"image_id": number, "category_id": int(label), "bbox": corner, "score": float(score)})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": number} for number in range(len(scenes))],
            "annotations": truth,
            "categories": [{"id": number + 1, "name": name} for number, name in enumerate(CLASSES)],
        }
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return {"AP": round(float(judge.stats[0]), 4), "AP50": round(float(judge.stats[1]), 4)}


def count_matches(
    found: Sequence[dict[str, NDArray[Any]]], scenes: Sequence[Scene], threshold: float
) -> tuple[int, int, int]:
    """True positives (same class, IoU >= 0.5, one to one, best score first), detections and parts."""
    hits = detections = parts = 0
    for result, scene in zip(found, scenes, strict=True):
        kept = result["scores"] >= threshold
        boxes, labels = torch.from_numpy(result["boxes"][kept]), result["labels"][kept]
        truth = torch.from_numpy(scene.xyxy.astype(np.float32))
        names = np.asarray([CLASSES.index(label) + 1 for label in scene.labels])
        overlap = np.where(labels[:, None] == names[None, :], box_iou(boxes, truth).numpy(), 0.0)
        detections, parts = detections + len(labels), parts + len(names)
        for row in range(len(labels)):
            best = int(overlap[row].argmax()) if len(names) else 0
            if len(names) and overlap[row, best] >= 0.5:
                hits += 1
                overlap[:, best] = 0.0
    return hits, detections, parts


def choose_threshold(network: Any, scenes: Sequence[Scene]) -> float:
    """The score from which detections are worth showing: the best F1 at IoU 0.5 on the given scenes."""
    found = predict(network, scenes)

    def quality(threshold: float) -> float:
        hits, detections, parts = count_matches(found, scenes, threshold)
        return 2 * hits / max(1, detections + parts)

    return max((round(0.05 * step, 2) for step in range(4, 19)), key=quality)


def save_weights(network: nn.Module, path: Path) -> str:
    """Write the state as float16 safetensors and return the file's SHA-256 (hex)."""
    state: dict[str, Tensor] = {}
    for key, value in network.state_dict().items():
        half = value.half() if value.is_floating_point() else value
        if value.is_floating_point() and not bool(torch.isfinite(half).all()):
            raise ValueError(f"{key} leaves the range of float16: expected |value| < 65504")
        if key.endswith("running_var"):
            half = half.clamp(min=1e-7)
        state[key] = half.contiguous().clone()
    save_file(state, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_manifest(path: Path, digest: str, trained_on: str, scores: dict[str, float], threshold: float) -> None:
    """Write the JSON manifest beside the weights."""
    manifest = {
        "name": NAME,
        "builder": BUILDER,
        "builder_args": BUILDER_ARGS,
        "classes": list(CLASSES),
        "weights": f"{STEM}.safetensors",
        "sha256": digest,
        "trained_on": trained_on,
        "metrics": {**scores, "held_out_scenes": HELD_OUT_SCENES},
        "score_threshold": threshold,
    }
    path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def say(line: str) -> None:
    """One line of progress, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw, train, judge before and after float16, and write both files."""
    parser = argparse.ArgumentParser(description="Train the embedded parts detector on drawn scenes.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights and their manifest")
    parser.add_argument("--minutes", type=float, default=25.0, help="time for training, drawing not counted")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenes", type=int, default=3000, help="pool of training scenes (about 0.5 MB each)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads and drawing processes")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)

    first = TRAINING_SEEDS + options.seed * 100_000
    scenes = draw_pool(first, options.scenes, options.threads)
    calibration = draw_pool(CALIBRATION_SEEDS, 60, 1)
    network, steps = train(scenes, options.minutes, options.seed, calibration)
    held_out = draw_pool(HELD_OUT_SEEDS, HELD_OUT_SCENES, options.threads)
    say(f"{steps} steps; float32 on held-out scenes: {evaluate(network, held_out)}")

    weights = options.out / f"{STEM}.safetensors"
    digest = save_weights(network, weights)
    reloaded = build_network()
    reloaded.load_state_dict(load_file(weights), strict=True)
    scores = evaluate(reloaded, held_out)
    threshold = choose_threshold(reloaded, calibration)
    trained_on = f"bridge.scenes seeds {first}..{first + options.scenes - 1}, {steps} steps of {BATCH}"
    write_manifest(options.out / f"{STEM}.json", digest, trained_on, scores, threshold)
    hits, detections, parts = count_matches(predict(reloaded, held_out), held_out, threshold)
    say(f"float16 reloaded: {scores}; threshold {threshold}: {hits} of {parts} parts, {detections} detections")


if __name__ == "__main__":
    main()
