"""ONNX detectors as a family: a manifest names the file, its classes and the layout of its outputs."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import numpy as np

from bridge.core.geometry import clip_to_image
from bridge.errors import ModelError
from ml_backend.models import Detections, Kind, Predictor
from ml_backend.models.catalogue import ModelCard, ModelSpec, manifest_path, need_extra
from ml_backend.models.onnx_input import Placement, to_input
from ml_backend.models.onnx_layouts import LAYOUTS, Candidates, Declared, Decode, Misfit, Outputs
from ml_backend.models.onnx_manifest import OnnxManifest, read_onnx_manifest
from ml_backend.models.onnx_network import OnnxNetwork
from ml_backend.models.pixels import Image, check_images
from ml_backend.models.suppression import suppress

#: The most confident candidates that suppression looks at, and the most detections of an image: as makers measure.
MAX_CANDIDATES = 1000
MAX_DETECTIONS = 300


def describe(spec: ModelSpec) -> ModelCard:
    """See :mod:`ml_backend.models`."""
    manifest = _manifest(spec)
    if importlib.util.find_spec("onnxruntime") is None:
        raise need_extra("onnxruntime", "onnx")
    text = f"{manifest.weights.name}, layout {manifest.layout}"
    return ModelCard(manifest.name, "rectangle", manifest.class_names, manifest.score_threshold, text)


def load(spec: ModelSpec) -> Predictor:
    """See :mod:`ml_backend.models`."""
    manifest = _manifest(spec)
    data = _read(manifest)
    network = OnnxNetwork(
        data, manifest.weights, device=spec.device, size=manifest.size, other_inputs=manifest.other_inputs
    )
    threshold = manifest.score_threshold if spec.score_threshold is None else spec.score_threshold
    return OnnxDetector(network, manifest, score_threshold=threshold, batch_size=spec.batch_size or 1)


class OnnxDetector:
    """A detection network in ONNX Runtime.

    Args:
        network: the file.
        manifest: what it means.
        score_threshold: detections below this confidence are dropped.
        batch_size: images per run, where the file leaves their number free.

    Attributes:
        nbytes: of the weights.

    Raises:
        ModelError: the outputs are not those of the manifest's layout.
    """

    def __init__(
        self, network: OnnxNetwork, manifest: OnnxManifest, *, score_threshold: float, batch_size: int = 1
    ) -> None:
        self._network = network
        self.nbytes = network.nbytes
        self._manifest = manifest
        self._threshold = score_threshold
        known = np.array([name is not None for name in manifest.classes])
        self._class_of = np.where(known, np.cumsum(known) - 1, -1)
        if network.takes_whole_numbers and manifest.preprocessing.changes_pixels:
            raise ModelError(
                f"the input of {manifest.weights} is uint8, and the preprocessing gives fractions",
                expected="preprocessing with the range 255, mean 0 and std 1",
                todo="Set them in the manifest",
            )
        trial = self._trial(network.batch or 1)
        self._decode = self._fit(trial)
        self._batch = network.batch or self._usable_batch(batch_size, trial)

    @property
    def name(self) -> str:
        return self._manifest.name

    @property
    def classes(self) -> tuple[str, ...]:
        return self._manifest.class_names

    @property
    def kind(self) -> Kind:
        return "rectangle"

    def predict(self, images: Sequence[Image]) -> list[Detections]:
        """Detect objects.

        Args:
            images: (H, W, 3) uint8 RGB arrays; sizes may differ and one may be very large.

        Raises:
            ImageError: an array has another shape or dtype; names its place.
            ModelError: ONNX Runtime failed.
        """
        check_images(images)
        answers = [Detections.none()] * len(images)
        seen = [i for i, image in enumerate(images) if image.size]
        for start in range(0, len(seen), self._batch):
            part = seen[start : start + self._batch]
            for i, answer in zip(part, self._run([images[i] for i in part]), strict=True):
                answers[i] = answer
        return answers

    def _run(self, images: list[Image]) -> list[Detections]:
        network = self._network
        planes, placements = to_input(images, network.width, network.height, self._manifest.preprocessing)
        if network.batch is not None and len(planes) < network.batch:
            empty = np.zeros((network.batch - len(planes), *planes.shape[1:]), np.float32)
            planes = np.concatenate([planes, empty])
        outputs = network.run(planes)
        with np.errstate(all="ignore"):
            found = self._decode(outputs)
        # Images that only fill up the batch come last.
        return [self._detections(one, placement) for one, placement in zip(found, placements, strict=False)]

    def _detections(self, found: Candidates, placement: Placement) -> Detections:
        in_range = (found.label >= 0) & (found.label < len(self._class_of))
        label = np.where(in_range, self._class_of[np.where(in_range, found.label, 0)], -1)
        usable = (label >= 0) & np.isfinite(found.xyxy).all(axis=1) & (found.confidence >= self._threshold)
        kept = np.flatnonzero(usable & np.isfinite(found.confidence))
        kept = kept[np.argsort(-found.confidence[kept], kind="stable")][:MAX_CANDIDATES]
        if self._manifest.nms_iou is not None:
            kept = kept[suppress(found.xyxy[kept], label[kept], found.confidence[kept], self._manifest.nms_iou)]
        width, height = placement.size
        xyxy = clip_to_image(placement.to_image(found.xyxy[kept]), width, height)
        shown = np.flatnonzero((xyxy[:, 2:] > xyxy[:, :2]).all(axis=1))[:MAX_DETECTIONS]
        return Detections(xyxy[shown], label[kept[shown]], np.clip(found.confidence[kept[shown]], 0.0, 1.0))

    def _trial(self, images: int) -> Outputs:
        grey = np.full((64, 64, 3), 114, np.uint8)
        network = self._network
        planes, _ = to_input([grey] * images, network.width, network.height, self._manifest.preprocessing)
        return network.run(planes)

    def _fit(self, trial: Outputs) -> Decode:
        manifest, network = self._manifest, self._network
        declared = Declared(len(manifest.classes), network.width, network.height, manifest.outputs, manifest.normalised)
        missing = [name for name in manifest.outputs.values() if name not in trial]
        try:
            if missing:
                raise Misfit(f"there is no output {missing[0]!r}")
            return LAYOUTS[manifest.layout].fit(trial, declared)
        except Misfit as error:
            found = ", ".join(f"{name!r} {array.shape} {array.dtype}" for name, array in trial.items())
            raise ModelError(
                f"the outputs of {manifest.weights} are {found}; they do not fit the layout {manifest.layout!r}: "
                f"{error}",
                expected=f"{len(manifest.classes)} classes in one of the layouts {', '.join(LAYOUTS)}",
                todo="Correct the layout or the classes in the manifest, or export the model again",
            ) from None

    def _usable_batch(self, wanted: int, trial: Outputs) -> int:
        """``wanted`` where a run with that many images gives that many answers: some files fix the number inside."""
        if wanted == 1:
            return 1
        try:
            several = self._trial(wanted)
        except ModelError:
            return 1
        fits = all(several[name].shape == (wanted, *array.shape[1:]) for name, array in trial.items())
        return wanted if fits else 1


def _manifest(spec: ModelSpec) -> OnnxManifest:
    path = manifest_path(spec.spec)
    if path is None:
        raise ModelError(
            f"{spec.spec!r} is no manifest",
            expected="a JSON file that names the .onnx file, its classes and its layout",
            todo="Write one; docs/models.md shows it",
        )
    given = [word for word, value in (("weights", spec.weights), ("class names", spec.classes)) if value is not None]
    if given:
        raise ModelError(
            f"{' and '.join(given)} were given for {spec.spec!r}, whose manifest names its own",
            expected="the manifest alone",
            todo="Leave them out; a label map maps class names to the project's labels",
        )
    if spec.accelerator == "openvino":
        raise ModelError(
            f"{spec.spec!r} cannot run on OpenVINO: ONNX files run in ONNX Runtime",
            expected="the accelerator auto",
            todo="Leave the accelerator out",
        )
    if spec.precision in ("bf16", "fp16"):
        raise ModelError(
            f"{spec.spec!r} cannot run in {spec.precision}: the precision of an ONNX model is in its file",
            expected="the precision auto",
            todo="Leave the precision out, or export the model in that precision",
        )
    return read_onnx_manifest(path)


def _read(manifest: OnnxManifest) -> bytes:
    # Imported here because the module loads torch, which listing models does not need.
    from ml_backend.models.weights import check_digest, read_bytes

    data = read_bytes(manifest.weights)
    check_digest(data, manifest.sha256, manifest.weights)
    return data
