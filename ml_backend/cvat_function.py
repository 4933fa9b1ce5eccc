"""Our models as an auto-annotation function of CVAT's SDK: what ``cvat-cli task auto-annotate`` and agents run.

    cvat-cli task auto-annotate 7 --function-module ml_backend.cvat_function -p model=str:embedded

The command line imports this module and calls :func:`create` with the ``-p`` parameters. A model that finds objects on
its own becomes a detection function, an interactor an interaction function. CVAT matches labels by name.

Written for cvat-sdk 2.80. Older ones work as far as they go: a shape's own ``score`` is written where the SDK knows it
(2.62), interaction functions need 2.75.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from bridge.core.masks import MaskCrop
from bridge.core.rle import encode_cvat
from bridge.dialects.label_map_file import read_label_map
from bridge.errors import ConfigError, ModelError
from ml_backend.models import Interactor, Predictor, Prompt
from ml_backend.models.catalogue import (
    EMBEDDED,
    Accelerator,
    ModelCard,
    ModelSpec,
    Precision,
    describe,
    load,
    need_extra,
)

#: A model is loaded with this threshold, so that ``--conf-threshold`` can ask for fainter objects than the default.
FAINTEST = 0.05

#: The one attribute a label declares; numbered within its label.
_SCORE_ID = 0


def create(
    *,
    model: str = EMBEDDED,
    weights: str = "",
    classes: str = "",
    labels: str = "",
    threshold: float | None = None,
    device: str = "auto",
    precision: str = "auto",
    accelerator: str = "auto",
    tile: int = 0,
    score_attribute: str = "",
    tolerance: float = 1.0,
) -> DetectionFunction | InteractionFunction:
    """Load a model as an auto-annotation function. Every argument can be given as ``-p NAME=TYPE:VALUE``.

    Args:
        model: what :class:`~ml_backend.models.catalogue.ModelSpec` takes as ``spec``.
        weights: a weights file, for models that take one.
        classes: the class names of ``weights``, with commas between them.
        labels: model class = label in CVAT, as in ``car=vehicle,person=human``, or a JSON or YAML file with that; other
            classes keep their names.
        threshold: confidence from which objects are written, 0 to 1; None takes what the model's makers recommend.
            ``--conf-threshold`` comes first.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` ...
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        accelerator: ``auto``, ``torch`` or ``openvino``.
        tile: side of the tiles in pixels in which larger images are looked at; 0 looks at whole images only.
        score_attribute: name of a text attribute that takes the confidence, such as ``score``. CVAT refuses a function
            whose attributes the label lacks, unless unmatched labels are allowed; so there is none by default.
        tolerance: how far in pixels a polygon may lie from its mask, where masks are converted.

    Raises:
        ConfigError: an argument has a value that does not exist, or a package is missing.
        ModelError: there is no such model, or it cannot be loaded.
    """
    sdk = _sdk()
    spec = ModelSpec(
        model,
        weights=Path(weights) if weights else None,
        classes=_names(classes) or None,
        device=device,
        score_threshold=threshold,
        precision=cast(Precision, _one_of("precision", precision, get_args(Precision))),
        accelerator=cast(Accelerator, _one_of("accelerator", accelerator, get_args(Accelerator))),
        tile=int(_not_negative("tile", tile)) or None,
    )
    card = describe(spec)
    if card.role == "interactor" and not hasattr(sdk, "InteractionFunctionSpec"):
        raise ConfigError(
            f"{model!r} answers prompts, and the installed cvat-sdk has no interaction functions",
            expected="cvat-sdk 2.75 or newer",
            todo="pip install -U cvat-sdk",
        )
    targets = _targets(card, read_label_map(labels))
    shown = card.score_threshold if threshold is None else threshold
    loaded = load(replace(spec, score_threshold=min(shown, FAINTEST)))
    if card.role == "interactor":
        return InteractionFunction(cast(Interactor, loaded))
    return DetectionFunction(
        cast(Predictor, loaded), targets, shown, score_attribute.strip(), _not_negative("tolerance", tolerance)
    )


class DetectionFunction:
    """Images -> rectangles, masks, polygons or tags.

    Args:
        predictor: the model.
        targets: for each of its classes the label in CVAT.
        threshold: where CVAT gives none.
        score_attribute: the text attribute that takes the confidence; empty for none.
        tolerance: of polygons, pixels.
    """

    def __init__(
        self,
        predictor: Predictor,
        targets: Sequence[str],
        threshold: float,
        score_attribute: str = "",
        tolerance: float = 1.0,
    ) -> None:
        sdk, self._models = _sdk(), _sdk_models()
        names = tuple(dict.fromkeys(targets))
        self._predictor = predictor
        self._label_ids = np.array([names.index(name) for name in targets], dtype=np.int64)
        self._threshold = threshold
        self._has_attribute = bool(score_attribute)
        self._tolerance = tolerance
        self._shapes_have_scores = "score" in self._models.LabeledShapeRequest.attribute_map
        self._spec = sdk.DetectionFunctionSpec(
            labels=[
                sdk.label_spec(name, number, type=predictor.kind, attributes=self._attributes(score_attribute))
                for number, name in enumerate(names)
            ]
        )

    @property
    def spec(self) -> Any:
        """The labels, as ``cvat_sdk.auto_annotation.DetectionFunctionSpec``."""
        return self._spec

    def detect(self, context: Any, image: Image.Image) -> list[Any]:
        """What is on the image, as the SDK's LabeledShapeRequest or LabeledImageRequest, most confident first.

        Args:
            context: the SDK's DetectionFunctionContext; its ``conf_threshold`` and ``conv_mask_to_poly`` are honoured.
            image: any mode; turned upright by its EXIF orientation, as CVAT shows it.
        """
        found = self._predictor.predict([pixels(image)])[0]
        asked = getattr(context, "conf_threshold", None)
        as_polygons = bool(getattr(context, "conv_mask_to_poly", False))
        answers = []
        for i in np.flatnonzero(found.confidence >= (self._threshold if asked is None else asked)).tolist():
            label, confidence = int(self._label_ids[found.label[i]]), float(found.confidence[i])
            if self._predictor.kind == "tag":
                answers.append(self._tag(label, confidence))
            elif self._predictor.kind == "rectangle":
                answers.append(self._shape("rectangle", label, found.xyxy[i].tolist(), confidence))
            elif not as_polygons:
                answers.append(self._shape("mask", label, mask_points(found.masks[i]), confidence))
            else:
                answers.append(self._shape("polygon", label, self._polygon(found.masks[i]), confidence))
        return answers

    def _attributes(self, name: str) -> list[Any]:
        if not name:
            return []
        return [self._models.AttributeRequest(name=name, id=_SCORE_ID, mutable=False, input_type="text", values=[])]

    def _values(self, confidence: float) -> dict[str, Any]:
        if not self._has_attribute:
            return {}
        return {"attributes": [self._models.AttributeValRequest(spec_id=_SCORE_ID, value=f"{confidence:.4f}")]}

    def _shape(self, kind: str, label: int, points: list[float], confidence: float) -> Any:
        more = self._values(confidence) | ({"score": confidence} if self._shapes_have_scores else {})
        return self._models.LabeledShapeRequest(label_id=label, frame=0, type=kind, points=points, **more)

    def _tag(self, label: int, confidence: float) -> Any:
        return self._models.LabeledImageRequest(label_id=label, frame=0, **self._values(confidence))

    def _polygon(self, mask: MaskCrop) -> list[float]:
        from bridge.outlines import outline

        return [float(number) for point in outline(mask, self._tolerance).points for number in point]


class InteractionFunction:
    """Image and prompt -> mask, for agents: community servers call no interaction functions."""

    def __init__(self, interactor: Interactor) -> None:
        self._sdk, self._models = _sdk(), _sdk_models()
        self._interactor = interactor
        # No number of points is asked for: a box alone is a prompt too.
        self._spec = self._sdk.InteractionFunctionSpec(min_pos_points=0, min_neg_points=0, min_bounding_boxes=0)

    @property
    def spec(self) -> Any:
        """What prompts it takes, as ``cvat_sdk.auto_annotation.InteractionFunctionSpec``."""
        return self._spec

    def preprocess_image(self, _context: Any, image: Image.Image) -> Any:
        """All that depends on the image alone; the agent keeps the result for later prompts."""
        return self._interactor.preprocess(pixels(image))

    def detect(self, _context: Any, pp_image: Any, prompts: Any) -> list[Any]:
        """The object that the prompt means, as one mask with its confidence; nothing where the model finds none."""
        prompt = _prompt(prompts)
        segment = None if prompt.empty else self._interactor.prompt(pp_image, [prompt])[0]
        if segment is None:
            return []
        confidence = self._models.AttributeValRequest(
            spec_id=int(self._sdk.InteractionResultAttributes.CONFIDENCE), value=f"{segment.confidence:.4f}"
        )
        shape = self._sdk.InteractionResultShape
        return [shape(type="mask", points=mask_points(segment.mask), attributes=[confidence])]


def pixels(image: Image.Image) -> npt.NDArray[np.uint8]:
    """An image of the SDK as (H, W, 3) uint8 RGB, equal to what :func:`bridge.images.decode` makes of its file.

    CVAT measures frames upright and turns most images itself before it hands them out; what still has an EXIF
    orientation is turned here.
    """
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    elif upright.mode in ("I", "F"):
        upright = Image.fromarray(_stretched(np.asarray(upright, dtype=np.float32)))
    elif upright.has_transparency_data:
        with_alpha = upright.convert("RGBA")
        upright = Image.new("RGB", upright.size, "white")
        upright.paste(with_alpha, mask=with_alpha.getchannel("A"))
    return np.array(upright.convert("RGB"))


def mask_points(mask: MaskCrop) -> list[float]:
    """A mask as CVAT's run lengths and inclusive box, in pixels of the image."""
    *runs, left, top, right, bottom = encode_cvat(mask.bits)
    box = (left + mask.left, top + mask.top, right + mask.left, bottom + mask.top)
    return [float(number) for number in (*runs, *box)]


def _stretched(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    finite = np.isfinite(values)
    low, high = (float(values[finite].min()), float(values[finite].max())) if finite.any() else (0.0, 0.0)
    scaled = (np.where(finite, values, low) - low) * (255.0 / (high - low) if high > low else 0.0)
    return np.rint(scaled).astype(np.uint8)


def _prompt(prompts: Any) -> Prompt:
    box = None
    if prompts.bounding_box is not None:
        (x1, y1), (x2, y2) = prompts.bounding_box
        box = (float(min(x1, x2)), float(min(y1, y2)), float(max(x1, x2)), float(max(y1, y2)))
    return Prompt(tuple(_points(prompts.pos_points)), tuple(_points(prompts.neg_points)), box)


def _points(points: Sequence[Sequence[float]]) -> Iterator[tuple[float, float]]:
    for x, y in points:
        yield float(x), float(y)


def _targets(card: ModelCard, explicit: Mapping[str, str]) -> tuple[str, ...]:
    """The label in CVAT of each class."""
    unknown = [name for name in explicit if name not in card.classes]
    if unknown:
        raise ModelError(
            f"the label map names {', '.join(map(repr, unknown))}, which the model {card.name} does not know",
            expected="classes of the model on the left: " + (", ".join(card.classes) or "it has none"),
            todo="Correct the parameter labels; upper and lower case count there",
        )
    return tuple(explicit.get(name, name) for name in card.classes)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for part in text.split(",") if (name := part.strip()))


def _one_of(name: str, value: str, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise ConfigError(f"the parameter {name} is {value!r}", expected="one of " + ", ".join(allowed))
    return value


def _not_negative(name: str, value: float) -> float:
    if not value >= 0:
        raise ConfigError(f"the parameter {name} is {value}", expected="a number of pixels, 0 or more")
    return value


def _sdk() -> Any:
    try:
        import cvat_sdk.auto_annotation as sdk
    except ImportError:
        raise need_extra("cvat-sdk", "cvat") from None
    return sdk


def _sdk_models() -> Any:
    import cvat_sdk.models as models

    return models
