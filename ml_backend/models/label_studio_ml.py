"""Models that people wrote for Label Studio's own server (``LabelStudioMLBase``), named ``package.module:Class``.

The class is imported from the Python path: this runs its code, with all rights of the server. Nobody looks at what it
inherits from: anything with ``predict(tasks, ...)`` will do, and the package label-studio-ml is needed only where the
module imports it. Both generations are taken: that of the package index (1.0: ``label_config``, ``predict(tasks,
**kwargs)``) and that of the repository (2.0: ``project_id``, ``label_config``, ``predict(tasks, context)``). One object
answers all calls, one task at a time, because many such models look at the first task only.

What it finds is decided by a label configuration: ``weights`` names an ``.xml`` file with one, or one of rectangles is
made from ``classes``. The first control that holds rectangles, polygons, brushes or choices counts; where there are
masks beside a smart KeyPoint or Rectangle, it is interactive.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import io
import logging
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from bridge.core.predictor import Detections, Kind
from bridge.dialects.label_studio import LabelConfig, Size, parse_label_config
from bridge.errors import DataError, ImageError, ModelError
from ml_backend.models.catalogue import ModelCard, ModelSpec, Role
from ml_backend.models.interactor import Prompt, Segment
from ml_backend.models.label_studio_ml_prompts import prompt_regions
from ml_backend.models.label_studio_ml_regions import (
    KIND_OF_CONTROL,
    Found,
    only_prediction,
    read_regions,
    to_detections,
    to_mask,
    wire_form,
)

Pixels = npt.NDArray[np.uint8]

#: The address under which a task's image lies on Label Studio's own disk. Code of the first generation finds a file by
#: an absolute path behind it; code of the second is told by _resolve_files.
_LOCAL_FILES = "/data/local-files/?d="

_PROMPT_KINDS = ("keypointlabels", "keypoint", "rectanglelabels", "rectangle")

_log = logging.getLogger(__name__)


def describe(spec: ModelSpec) -> ModelCard:
    """See :mod:`ml_backend.models`. Reads the module's file and runs nothing in it."""
    return _plan(spec).card


def load(spec: ModelSpec) -> LabelStudioMLPredictor | LabelStudioMLInteractor:
    """See :mod:`ml_backend.models`. ``spec.device`` is not passed on: such models choose for themselves."""
    plan = _plan(spec)
    caller = _Caller(plan)
    if plan.card.role == "interactor":
        return LabelStudioMLInteractor(caller)
    return LabelStudioMLPredictor(caller, spec.score_threshold or 0.0)


class LabelStudioMLPredictor:
    """Such a model as a Predictor."""

    def __init__(self, caller: _Caller, score_threshold: float) -> None:
        self._caller = caller
        self._threshold = score_threshold
        self._told: set[str] = set()

    @property
    def name(self) -> str:
        return self._caller.plan.card.name

    @property
    def classes(self) -> tuple[str, ...]:
        return self._caller.plan.card.classes

    @property
    def kind(self) -> Kind:
        return self._caller.plan.kind

    def predict(self, images: Sequence[Pixels]) -> list[Detections]:
        """See :class:`~bridge.core.predictor.Predictor`.

        Raises:
            ModelError: their code raised; or it answered regions, and none of them can be read.
        """
        for i, image in enumerate(images):
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
                raise ImageError(
                    f"image {i} of the call has shape {image.shape} and dtype {image.dtype}",
                    expected="(H, W, 3) uint8 RGB",
                )
        return [self._one(image) if image.size else Detections.none() for image in images]

    def _one(self, image: Pixels) -> Detections:
        size = (image.shape[1], image.shape[0])
        found = self._caller.call(_png(image), size, None)
        for label in {one.label for one in found} - self._told - set(self.classes):
            self._told.add(label)
            _log.warning("%s answered the label %r, which is none of its label configuration", self.name, label)
        return to_detections(found, self.kind, self.classes, size, self._threshold)


@dataclass(frozen=True, slots=True)
class _Kept:
    png: bytes
    size: Size

    @property
    def nbytes(self) -> int:
        return len(self.png)


class LabelStudioMLInteractor:
    """Such a model as an Interactor: each prompt becomes the context that Label Studio would send.

    The image is encoded once; what their code does with it, it does at the first prompt, and keeps or not as it likes.
    """

    def __init__(self, caller: _Caller) -> None:
        self._caller = caller

    @property
    def name(self) -> str:
        return self._caller.plan.card.name

    def preprocess(self, image: Pixels) -> _Kept:
        """See :class:`~ml_backend.models.interactor.Interactor`."""
        return _Kept(_png(image), (image.shape[1], image.shape[0]))

    def prompt(self, preprocessed: _Kept, prompts: Sequence[Prompt]) -> list[Segment | None]:
        """See :class:`~ml_backend.models.interactor.Interactor`. Of several regions the most confident one counts."""
        return [self._one(preprocessed, prompt) for prompt in prompts]

    def _one(self, kept: _Kept, prompt: Prompt) -> Segment | None:
        context = prompt_regions(prompt, self._caller.plan.config, kept.size)
        if not context:
            return None
        found = self._caller.call(kept.png, kept.size, {"result": context})
        for one in sorted(found, key=lambda one: -one.confidence):
            mask = None if one.shape is None else to_mask(one.shape, kept.size)
            if mask is not None:
                return Segment(mask, one.confidence)
        return None


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is known before their code runs.

    Attributes:
        digest: of the module's file and the label configuration, hexadecimal.
    """

    card: ModelCard
    kind: Kind
    module: str
    class_name: str
    xml: str
    config: LabelConfig
    digest: str


class _Caller:
    """An object of their class, and how it is asked."""

    def __init__(self, plan: _Plan) -> None:
        self.plan = plan
        self._folder = Path(tempfile.gettempdir()) / f"labelbridge-{secrets.token_hex(8)}"
        self._model = _instance(plan)
        self._takes_context = "context" in _accepted(self._model.predict, {"context": None})
        self._has_resolver = _resolve_files(self._model, self._folder)

    def call(self, png: bytes, size: Size, context: Mapping[str, Any] | None) -> list[Found]:
        """What it finds on an image of ``size`` (width, height).

        Raises:
            ModelError: their code raised, or no region of its answer can be read.
        """
        options = {"context": context} if self._takes_context else {}
        with self._file(png) as path:
            task = self._task(path)
            with _as_model_error(f"{self.plan.class_name}.predict"):
                answer = self._model.predict([task], **options)
                plain = wire_form(answer)
                prediction = only_prediction(plain)
        found, problems = ([], []) if prediction is None else read_regions(prediction, self.plan.config, size)
        if problems and not found:
            raise ModelError(
                f"no region that {self.plan.class_name} answered can be read; the first one: {problems[0]}",
                expected="regions as Label Studio takes them",
                todo="Correct the model",
            )
        for problem in problems:
            _log.warning("%s answered a region that cannot be read: %s", self.plan.class_name, problem)
        return found

    @contextmanager
    def _file(self, png: bytes) -> Iterator[Path]:
        """The image as a file, in a folder that is there only meanwhile.

        The path tells the content and stays the same: their code may keep what it computed by path.
        """
        path = self._folder / f"{hashlib.blake2b(png, digest_size=16).hexdigest()}.png"
        with self._writing(path):
            self._folder.mkdir(mode=0o700)  # fails where somebody else made it
        try:
            with self._writing(path):
                path.write_bytes(png)
            yield path
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ModelError(
                f"the image for {self.plan.class_name} cannot be written to {path}: {error.strerror or error}",
                expected="a folder for temporary files with room in it",
                todo="Make room there, or let TMPDIR name another folder",
            ) from None

    def _task(self, path: Path) -> dict[str, Any]:
        """A task as Label Studio sends it; its number tells the image too."""
        address = f"{_LOCAL_FILES}{path}" if self._has_resolver else str(path)
        data = {self.plan.config.media_key: address}
        return {"id": int(path.stem[:7], 16), "data": data, "meta": {}, "annotations": [], "predictions": []}


def _resolve_files(model: Any, folder: Path) -> bool:
    """Let the ``get_local_path`` of this object know our files; whether it has one.

    The second generation would ask a Label Studio server for them.
    """
    theirs = getattr(model, "get_local_path", None)
    if not callable(theirs):
        return False
    ours = f"{_LOCAL_FILES}{folder}/"

    def get_local_path(url: str, *args: Any, **options: Any) -> Any:
        return url.removeprefix(_LOCAL_FILES) if url.startswith(ours) else theirs(url, *args, **options)

    model.get_local_path = get_local_path
    return True


def _plan(spec: ModelSpec) -> _Plan:
    module, _, class_name = spec.spec.partition(":")
    source = _source(module, spec.spec)
    xml = _label_config(spec)
    try:
        config = parse_label_config(xml)
    except DataError as error:
        raise ModelError(f"the label configuration {spec.weights}: {error}") from None
    kind, classes = _kind(config, xml)
    role: Role = kind
    if kind == "mask" and any(c.smart and c.kind in _PROMPT_KINDS for c in config.media_controls):
        role = "interactor"
    digest = hashlib.sha256(b"\0".join((source, class_name.encode(), xml.encode()))).hexdigest()
    card = ModelCard(
        f"{re.sub(r'[^A-Za-z0-9_]', '_', class_name)[:40]}-{digest[:12]}",  # names become ids in URLs
        role,
        () if role == "interactor" else classes,
        score_threshold=0.0,  # such a model shows whatever it answers
        description=f"{spec.spec}, written for Label Studio",
    )
    return _Plan(card, kind, module, class_name, xml, config, digest)


def _source(module: str, spec: str) -> bytes:
    """The bytes of the module's file. Only the packages it lies in are imported."""
    try:
        found = importlib.util.find_spec(module)
    except Exception as error:  # the code of a parent package may raise anything
        raise _not_importable(spec, f"{type(error).__name__}: {_first_line(error)}") from error
    if found is None or found.origin is None or not Path(found.origin).is_file():
        raise _not_importable(spec, f"there is no module {module}")
    return Path(found.origin).read_bytes()


def _not_importable(spec: str, why: str) -> ModelError:
    return ModelError(
        f"the model {spec} cannot be imported: {why}",
        expected="package.module:Class on the Python path",
        todo="Put its folder on the path, as in PYTHONPATH=/path/to/folder, and install what it needs",
    )


def _label_config(spec: ModelSpec) -> str:
    if spec.weights is None:
        if not spec.classes:
            raise ModelError(
                f"nobody says what {spec.spec} finds",
                expected="class names, for rectangles; or a label configuration",
                todo="Give the class names, or as weights the path of an .xml file with a label configuration",
            )
        labels = "".join(f'<Label value="{escape(name)}"/>' for name in spec.classes)
        return (
            '<View><Image name="image" value="$image"/>'
            f'<RectangleLabels name="label" toName="image">{labels}</RectangleLabels></View>'
        )
    if spec.weights.suffix.lower() != ".xml":
        raise ModelError(
            f"the weights of {spec.spec} are {spec.weights}",
            expected="an .xml file with a label configuration: such a model finds its weights itself",
            todo="Give a label configuration, or class names only",
        )
    if spec.classes:
        raise ModelError(
            f"both class names and a label configuration were given for {spec.spec}",
            expected="one of the two: the configuration names its labels",
            todo="Leave the class names out",
        )
    try:
        return spec.weights.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"the label configuration {spec.weights} cannot be read: {error}") from None


def _kind(config: LabelConfig, xml: str) -> tuple[Kind, tuple[str, ...]]:
    controls = [c for c in config.media_controls if c.kind in KIND_OF_CONTROL]
    kind = KIND_OF_CONTROL[controls[0].kind] if controls else "rectangle"
    named = [c for c in config.media_controls if (c.kind == "choices") == (kind == "tag")]
    classes = tuple(dict.fromkeys(label for c in named for label in c.labels))
    if not controls or not classes:
        raise ModelError(
            f"the label configuration has no labels for an image: {xml.strip()[:200]}",
            expected="RectangleLabels, PolygonLabels, BrushLabels or Choices on the image",
            todo="Give the label configuration of a project that this model was written for",
        )
    return kind, classes


def _instance(plan: _Plan) -> Any:
    """An object of their class, made as Label Studio's server would make it."""
    what = f"{plan.module}:{plan.class_name}"
    with _as_model_error(f"importing {plan.module}"):
        module = importlib.import_module(plan.module)
    made_of: Any = getattr(module, plan.class_name, None)
    if not isinstance(made_of, type) or not callable(getattr(made_of, "predict", None)):
        raise ModelError(
            f"{plan.module} has no model class {plan.class_name}",
            expected="a class with predict(tasks, ...)",
            todo="Correct the name behind the colon",
        )
    # Label Studio's project numbers are texts of digits; each model needs one of its own, under which the second
    # generation stores its settings.
    offered = {"project_id": str(int(plan.digest[:8], 16)), "label_config": plan.xml}
    with _as_model_error(what):
        return made_of(**_accepted(made_of, offered))


def _accepted(function: Callable[..., Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the arguments that a function takes by name."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return {}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return dict(offered)
    names = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return {name: value for name, value in offered.items() if name in names}


@contextmanager
def _as_model_error(what: str) -> Iterator[None]:
    """Whatever their code raises, as our error with the first line of its message."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{what}: {error.found}", expected=error.expected, todo="Correct the model") from error
    except (Exception, SystemExit) as error:
        line = _first_line(error)
        raise ModelError(
            f"{what} failed: {type(error).__name__}{': ' if line else ''}{line}",
            todo="Correct the model, or install what it needs",
        ) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:500] if lines else ""


def _png(image: Pixels) -> bytes:
    """Lossless, and compressed as little as is quick."""
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(out, "PNG", compress_level=1)
    return out.getvalue()
