"""What computes a detector fastest on this CPU, from the bytes of a JPEG to boxes, and whether it answers the same.

    python benchmarks/runtimes.py IMAGES [--images 16] [--rounds 9] [--models embedded,ssdlite,fasterrcnn]

IMAGES is a folder of JPEG files. Contenders take turns on the same files, so that a machine that is busy with other
things is so for all of them; times are medians of the rounds, and ratios are medians of the rounds' ratios. CPU time is
that of the whole process. All contenders of a model have the same weights: trained ones for the embedded model, random
ones for torchvision's builders, scaled so that signals neither die out nor explode and a hundred candidates or so pass
the threshold, as they do in trained networks.

    torchvision      torchvision's network as it is, what is below the threshold dropped at the end
    threshold first  torchvision's network told to drop it before its post-processing
    channels last    the same, with the network's weights in that layout
    torch            labelbridge's own steps around the network, channels last: the accelerator ``torch``
    openvino 1, 8    the accelerator ``openvino`` in fp32, one image or eight in a call
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bridge.images import decode
from bridge.scenes import draw_scene
from ml_backend.models import Detections
from ml_backend.models.catalogue import EMBEDDED_MANIFEST, Accelerator
from ml_backend.models.manifest import read_manifest
from ml_backend.models.torchvision_detector import TorchvisionDetector, build_from_state, build_network
from ml_backend.models.weights import parse_state, read_bytes

BUILDERS = {"ssdlite": "ssdlite320_mobilenet_v3_large", "fasterrcnn": "fasterrcnn_mobilenet_v3_large_320_fpn"}
#: As the model server loads its models.
THRESHOLD = 0.05
#: Candidates per image that pass the threshold in a network of random weights.
CANDIDATES = 100

Image = np.ndarray
Detect = Callable[[list[Image]], list[Detections]]
Make = Callable[[], tuple[Any, Sequence[str | None]]]


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop over files, decoding included.

    Attributes:
        words: what was run, such as ``openvino, 8 per call, decoding ahead``.
        images_per_s: by the clock.
        cpu_s_per_image: of the whole process.
    """

    words: str
    images_per_s: float
    cpu_s_per_image: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--models", default="embedded,ssdlite,fasterrcnn")
    options = parser.parse_args()
    paths = sorted(p for p in options.folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg"))[: options.images]
    files = [path.read_bytes() for path in paths]
    images = [decode(data, "image") for data in files]
    size = statistics.mean(map(len, files)) / 1000
    print(f"{len(files)} JPEG files of {size:.0f} kB, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for model in options.models.split(","):
        print(f"\n{model}: from JPEG to boxes, ms per image")
        make = embedded if model == "embedded" else seeded(BUILDERS[model], images)
        contenders = detectors(make)
        compare(contenders, files, options.rounds)
        # The embedded model finds nothing in photos: it knows drawn parts.
        differences(contenders, [draw_scene(i).image for i in range(8)] if model == "embedded" else images)
        loop = best_direct_loop({"torch": contenders["torch"], "openvino": contenders["openvino 8"]}, files)
        cpu = 1000 * loop.cpu_s_per_image
        print(f"  best direct loop   {loop.images_per_s:.1f} images/s, {cpu:.1f} ms of CPU per image: {loop.words}")


def detectors(make: Make) -> dict[str, Detect]:
    """The contenders by name; a number at the end is how many images they are given at a time."""

    def ours(accelerator: Accelerator) -> Detect:
        network, outputs = make()
        return TorchvisionDetector(
            network, name="t", outputs=outputs, device="cpu", score_threshold=THRESHOLD, accelerator=accelerator
        ).predict

    openvino = ours("openvino")
    return {
        "torchvision": as_it_is(*make()),
        "threshold first": as_it_is(*make(), first=True),
        "channels last": as_it_is(*make(), first=True, layout=torch.channels_last),
        "torch": ours("torch"),
        "openvino 1": openvino,
        "openvino 8": openvino,
    }


def as_it_is(
    network: Any,
    outputs: Sequence[str | None],
    *,
    first: bool = False,
    layout: torch.memory_format = torch.contiguous_format,
) -> Detect:
    """torchvision's own network, one image at a time."""
    network.eval().to(memory_format=layout)
    if first:
        for part in (network, getattr(network, "roi_heads", network)):
            part.score_thresh = THRESHOLD
    places = np.cumsum([output is not None for output in outputs]) - 1

    def detect(images: list[Image]) -> list[Detections]:
        answers = []
        for image in images:
            with torch.inference_mode():
                (found,) = network([torch.from_numpy(image).permute(2, 0, 1).float() / 255])
            kept = found["scores"] >= THRESHOLD
            boxes, scores, labels = (found[key][kept].numpy() for key in ("boxes", "scores", "labels"))
            answers.append(Detections(boxes.astype(np.float64), places[labels], scores.astype(np.float64)))
        return answers

    return detect


def compare(contenders: Mapping[str, Detect], files: Sequence[bytes], rounds: int) -> None:
    """Prints what each takes, in turns."""
    walls: dict[str, list[float]] = {name: [] for name in contenders}
    cpus: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for round_ in range(-1, rounds):
        for name in names[round_ % len(names) :] + names[: round_ % len(names)]:
            batch = int(name[-1]) if name[-1].isdigit() else 1
            loop = timed(plain(contenders[name], files, batch), len(files))
            if round_ >= 0:  # the first round warms up
                walls[name].append(1000 / loop.images_per_s)
                cpus[name].append(1000 * loop.cpu_s_per_image)
    for name in contenders:
        ratios = [
            statistics.median(a / b for a, b in zip(times[base], times[name], strict=True))
            for times in (walls, cpus)
            for base in ("torchvision", "threshold first")
        ]
        print(
            f"  {name:<17}{statistics.median(walls[name]):7.1f} (CPU {statistics.median(cpus[name]):6.1f})   "
            f"times as fast as torchvision {ratios[0]:.2f}, as threshold first {ratios[1]:.2f}; "
            f"in CPU time {ratios[2]:.2f}, {ratios[3]:.2f}"
        )


def differences(contenders: Mapping[str, Detect], images: list[Image]) -> None:
    """Prints how far the answers of each lie from those of ``torch``."""
    wanted = contenders["torch"](images)
    for name, detect in contenders.items():
        pixels = confidence = 0.0
        alone = 0
        for mine, theirs in zip(wanted, detect(images), strict=True):
            left = set(range(len(theirs.label)))
            for xyxy, label, score in zip(mine.xyxy, mine.label, mine.confidence, strict=True):
                gaps = {
                    i: (float(np.abs(theirs.xyxy[i] - xyxy).max()), abs(float(theirs.confidence[i] - score)))
                    for i in left
                    if theirs.label[i] == label
                }
                best = min(gaps, key=lambda i: gaps[i], default=None)
                if best is None or gaps[best][0] > 1:
                    alone += 1
                    continue
                left.remove(best)
                pixels, confidence = max(pixels, gaps[best][0]), max(confidence, gaps[best][1])
            alone += len(left)
        count = sum(len(one.label) for one in wanted)
        print(
            f"  {name:<17}against torch: {pixels:.1e} px, {confidence:.1e} confidence, {alone} of {count} without match"
        )


def best_direct_loop(detects: Mapping[str, Detect], files: Sequence[bytes], rounds: int = 5) -> Loop:
    """The fastest of simple loops over ``files``: of each of ``detects``, one image and eight per call, decoding in
    between or ahead in a second thread. Loops take turns; the one of the best median rate wins.

    Args:
        detects: images to detections, by the words to call them.
    """
    ways = {
        f"{name}, {batch} per call, decoding {'ahead' if loop is ahead else 'in between'}": (detect, batch, loop)
        for name, detect in detects.items()
        for batch in (1, 8)
        for loop in (plain, ahead)
    }
    seen: dict[str, list[Loop]] = {words: [] for words in ways}
    for _ in range(rounds):
        for words, (detect, batch, loop) in ways.items():
            seen[words].append(timed(loop(detect, files, batch), len(files)))
    rates = {words: statistics.median(one.images_per_s for one in loops) for words, loops in seen.items()}
    best = max(rates, key=lambda words: rates[words])
    return Loop(best, rates[best], statistics.median(one.cpu_s_per_image for one in seen[best]))


def plain(detect: Detect, files: Sequence[bytes], batch: int) -> Iterator[list[Detections]]:
    for some in batches(files, batch):
        yield detect([decode(data, "image") for data in some])


def ahead(detect: Detect, files: Sequence[bytes], batch: int) -> Iterator[list[Detections]]:
    with ThreadPoolExecutor(1) as pool:
        decoded = [pool.submit(lambda some: [decode(data, "image") for data in some], s) for s in batches(files, batch)]
        for images in decoded:
            yield detect(images.result())


def batches(files: Sequence[bytes], batch: int) -> Iterator[Sequence[bytes]]:
    return (files[start : start + batch] for start in range(0, len(files), batch))


def timed(loop: Iterator[Any], count: int) -> Loop:
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in loop:
        pass
    return Loop("", count / (time.perf_counter() - wall), (time.process_time() - cpu) / count)


def embedded() -> tuple[Any, Sequence[str | None]]:
    manifest = read_manifest(EMBEDDED_MANIFEST)
    state = parse_state(read_bytes(manifest.weights), manifest.weights)
    return build_from_state(manifest.builder, state, manifest.classes, manifest.builder_args, "the weights")


def seeded(builder: str, images: Sequence[Image]) -> Make:
    """Networks of the same random weights, whose layers pass on what they see at about the same strength."""
    torch.manual_seed(0)
    network: Any = build_network(builder, {}).eval()
    planes = [torch.from_numpy(image).permute(2, 0, 1).float() / 255 for image in images[:4]]
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    loud = ("inner_blocks", "cls_logits", "cls_score", "bbox_pred", "classification_head")
    hooks = [
        part.register_forward_hook(evened)
        for name, part in network.named_modules()
        if any(place in name for place in loud) and isinstance(part, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        seen = network.transform(planes)[0].tensors
        features = list(network.train().backbone(seen).values())
        if hasattr(network, "head"):
            network.head(features)
        network.eval()(planes[:1])
    for hook in hooks:
        hook.remove()
    state = network.state_dict()
    quieten(network, planes[0])

    def make() -> tuple[Any, Sequence[str | None]]:
        fresh = build_network(builder, {})
        fresh.load_state_dict(state)
        return fresh, (None, *(f"class{i}" for i in range(1, 91)))

    return make


def evened(layer: Any, inputs: Any, outputs: torch.Tensor) -> torch.Tensor:
    """A forward hook: scales the layer so that its outputs have a deviation of 1.5."""
    layer.weight *= 1.5 / outputs.std().clamp(min=1e-12)
    if layer.bias is not None:
        layer.bias.zero_()
    return layer.forward(*inputs)


def quieten(network: Any, planes: torch.Tensor) -> None:
    """Raises the background's bias until about CANDIDATES of the classes of the anchors pass the threshold."""
    regions = getattr(network, "roi_heads", None)
    layer = network.head.classification_head if regions is None else regions.box_predictor.cls_score
    biases = [part.bias for part in layer.modules() if getattr(part, "bias", None) is not None]
    biases = [bias for bias in biases if len(bias) % 91 == 0]
    logits: list[torch.Tensor] = []
    hook = layer.register_forward_hook(lambda *call: logits.append(call[2].detach().reshape(-1, 91)))
    with torch.no_grad():
        network([planes])
        hook.remove()
        for extra in itertools.count(0.0, 0.5):
            raised = logits[0].clone()
            raised[:, 0] += extra
            if (raised.softmax(dim=1)[:, 1:] > THRESHOLD).sum() <= CANDIDATES:
                break
        for bias in biases:
            bias[::91] += extra


if __name__ == "__main__":
    main()
