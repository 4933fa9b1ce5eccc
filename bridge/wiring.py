"""Puts the parts together for one command: settings, store, tool, model."""

from __future__ import annotations

import getpass
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

from bridge.clients import Clients
from bridge.core.findings import State
from bridge.core.label_map import LabelMap, match_labels
from bridge.core.predictor import Predictor
from bridge.core.provenance import Provenance
from bridge.core.training import Trainer
from bridge.dialects.label_map_file import read_label_map
from bridge.errors import PluginError, UsageError
from bridge.flows.cross_fit import CrossFitPredictions
from bridge.flows.durable import Durable, make_own
from bridge.flows.progress import Progress
from bridge.flows.score import Journal
from bridge.flows.sources import FilePredictions, ImageReader, ModelPredictions, PredictionSource, StoredPredictions
from bridge.flows.train import Bench
from bridge.flows.trained_models import TrainedModels, manifest_provenance
from bridge.flows.training_record import MANIFEST, latest
from bridge.formats.coco import CocoDataset, load_results
from bridge.formats.prediction_notes import notes_path, read_notes
from bridge.settings import Settings
from bridge.store import Store
from bridge.store.stored_memory import StoredMemory
from bridge.tools import AnnotationTool
from bridge.tools.cvat import Cvat
from bridge.tools.cvat_review_plan import ReviewPlan
from bridge.tools.cvat_target import parse_target
from bridge.tools.files import open_files
from bridge.tools.hooks import HookAddress
from bridge.tools.label_studio import LabelStudio
from bridge.tools.label_studio_connect import Backend

PLUGINS = "labelbridge.plugins"
FILE_KINDS = ("coco", "voc", "yolo")


def program_version() -> str:
    return version("labelbridge")


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def operator() -> str:
    """The user who runs this command, as the machine knows them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return str(os.getuid())


def fresh_id() -> str:
    return uuid.uuid4().hex[:12]


def checkpoints_url(settings: Settings) -> str:
    """Where the standing service keeps how far its journeys have come: every process of it must find it."""
    if not settings.store_url.startswith("sqlite"):
        return settings.store_url
    folder = settings.home / "service"
    make_own(folder)
    return f"sqlite:///{(folder / 'journeys.db').absolute()}"


_WAIT_S = 60.0
"""How long a command waits for another, or for the standing service, to be done with a target."""


@contextmanager
def open_journal(settings: Settings, alone_with: str | None = None) -> Iterator[Journal]:
    """The store, the durable runner, the clock: what every journey writes to.

    ``alone_with`` is a target that is about to be changed: whoever else is at it is waited for.

    Raises:
        Busy: it is not done with it in time.
    """
    with Store.open(settings.store_url) as store:
        durable = Durable(settings.home / "workflows", program_version())
        with store.exclusive(alone_with, _WAIT_S) if alone_with else nullcontext():
            yield Journal(store=store, durable=durable, now=utc_now, new_id=fresh_id)


def plugin(name: str) -> Callable[..., Any]:
    """The function that an installed package offers under ``labelbridge.plugins``.

    Raises:
        PluginError: nothing offers it, or importing it failed.
    """
    found = entry_points(group=PLUGINS, name=name)
    if not found:
        raise PluginError(
            f"no installed package offers the plugin {name!r}",
            expected=f"an entry point in the group {PLUGINS}",
            todo="Install labelbridge again: pip install --force-reinstall labelbridge",
        )
    try:
        loaded: Callable[..., Any] = next(iter(found)).load()
    except ImportError as error:
        raise PluginError(f"the plugin {name!r} cannot be imported: {error}") from error
    return loaded


def open_target(
    target: str,
    settings: Settings,
    images: Path | None = None,
    plan: ReviewPlan | None = None,
    clients: Clients | None = None,
) -> AnnotationTool:
    """The tool behind ``ls:project/7``, ``cvat:task/12``, ``coco:PATH``, ``voc:DIR`` or ``yolo:DIR``.

    Args:
        plan: how findings go to review, for a target in CVAT.
        clients: shared with other targets; None makes one of its own.

    Raises:
        UsageError: the words name no target.
    """
    clients = clients or Clients(settings)
    kind, _, rest = target.partition(":")
    if kind in FILE_KINDS and rest:
        return open_files(target, images)
    if kind == "ls":
        noun, _, number = rest.partition("/")
        if noun == "project" and number.isdigit():
            return LabelStudio(
                clients.label_studio(),
                int(number),
                max_image_bytes=settings.max_image_bytes,
                hook=hook_address(settings),
            )
    if kind == "cvat":
        what = parse_target(target)  # first, as wrong words are wrong whatever is set
        client = clients.cvat()
        memory = StoredMemory(settings.store_url, client.url, utc_now)
        return Cvat(client, what, memory, plan or ReviewPlan(), max_image_bytes=settings.max_image_bytes)
    raise UsageError(
        f"{target!r} is no target",
        expected="ls:project/7, cvat:task/12, coco:annotations.json, voc:FOLDER or yolo:FOLDER",
    )


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Where predictions come from; at most one of ``detector``, ``predictions`` and ``cross_fit`` is set."""

    detector: str | None = None
    weights: Path | None = None
    classes: tuple[str, ...] = ()
    threshold: float | None = None
    label_map: Mapping[str, str] | str | None = None
    predictions: Path | None = None
    predictions_index: Path | None = None
    model: str | None = None
    cross_fit: bool = False

    @property
    def is_stored(self) -> bool:
        """Whether they are those that the tool holds."""
        return not (self.detector or self.predictions or self.cross_fit)


#: As :func:`load_model`.
Load = Callable[[SourceOptions, str, float | None], Predictor]

FAINTEST = 0.05
"""Scoring wants a model's doubts too: a faint prediction tells a hard object from an invented one."""


def load_model(options: SourceOptions, device: str, threshold: float | None = None) -> Predictor:
    """The model that the options name, the embedded one by default.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        threshold: lowest confidence where the options give none; None takes what the model's makers recommend.
    """
    load = plugin("predictor")
    loaded: Predictor = load(
        options.detector or "embedded",
        device=device,
        weights=options.weights,
        classes=options.classes or None,
        score_threshold=threshold if options.threshold is None else options.threshold,
    )
    return loaded


def map_labels(tool: AnnotationTool, predictor: Predictor, label_map: Mapping[str, str] | str | None) -> LabelMap:
    """Model classes to the target's labels, checked before anything runs.

    Raises:
        ModelError: nothing matches; both lists are named.
    """
    return match_labels(predictor.classes, tool.describe().labels.names, read_label_map(label_map))


def model_source(
    tool: AnnotationTool,
    predictor: Predictor,
    mapping: LabelMap,
    settings: Settings,
    threshold: float | None = None,
    origin: Provenance | None = None,
    *,
    probes: bool = False,
) -> ModelPredictions:
    """A model over the tool's images.

    Args:
        threshold: what it was loaded with; None where it is the model's own.
        origin: what it was trained on, where that is known.
        probes: ask it about the boxes that people drew as well.
    """
    label_of = {c: t for c, t in zip(mapping.classes, mapping.targets, strict=True) if t is not None}
    reader = ImageReader(tool, settings.max_image_pixels)
    return ModelPredictions(reader, predictor, label_of, settings.predict_batch, threshold, origin, probes)


def prediction_source(
    tool: AnnotationTool, options: SourceOptions, settings: Settings, load: Load = load_model
) -> PredictionSource:
    """The source that the options name; without any, what the tool already holds. ``load`` is how models are had."""
    chosen = {"--predictions": options.predictions, "--detector": options.detector, "--cross-fit": options.cross_fit}
    given = [name for name, value in chosen.items() if value]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} are both given", expected="one source of predictions")
    if options.predictions:
        return _file_source(tool, options)
    if options.cross_fit:
        return _cross_fit_source(tool, options, settings, load)
    if options.detector:
        threshold = FAINTEST if options.threshold is None else options.threshold
        predictor = load(options, settings.device, threshold)
        mapping = map_labels(tool, predictor, options.label_map)
        origin = _origin(options.detector, predictor, settings)
        return model_source(tool, predictor, mapping, settings, threshold, origin, probes=True)
    if isinstance(tool, Cvat):
        raise UsageError(
            f"CVAT keeps no predictions that {tool.target} could be held against",
            expected="a model to hold it against, or predictions",
            todo="Name one: --detector NAME, or --predictions FILE",
        )
    origins = TrainedModels(training_folder(settings)).provenance
    return StoredPredictions(options.model, origins, ImageReader(tool, settings.max_image_pixels))


def _origin(detector: str, predictor: Predictor, settings: Settings) -> Provenance | None:
    """What a model was trained on: its own manifest knows it wherever it was copied to, the data folder by its name."""
    own = manifest_provenance(Path(detector)) if detector.lower().endswith(".json") else None
    return own or TrainedModels(training_folder(settings)).provenance(predictor.name)


def _cross_fit_source(
    tool: AnnotationTool, options: SourceOptions, settings: Settings, load: Load
) -> CrossFitPredictions:
    training = latest(training_folder(settings), tool.target)
    threshold = FAINTEST if options.threshold is None else options.threshold
    manifest = training.folder / MANIFEST
    final = load(SourceOptions(detector=str(manifest)), settings.device, threshold)
    mapping, origin = map_labels(tool, final, options.label_map), manifest_provenance(manifest)
    source = model_source(tool, final, mapping, settings, threshold, origin, probes=True)
    return CrossFitPredictions(training, threshold, source)


def flag_waiting(tool: AnnotationTool, store: Store) -> str | None:
    """Show the items that await review in a tab of the project itself, where the tool has such tabs; its address."""
    if not isinstance(tool, LabelStudio):
        return None
    waiting = store.findings(target=tool.target, states=(State.PUSHED,))
    return tool.flag_tab(list(dict.fromkeys(s.finding.item_id for s in waiting)))


def training_folder(settings: Settings) -> Path:
    """Where trainings are kept."""
    return settings.home / "training"


def training_bench(
    tool: AnnotationTool, options: SourceOptions, settings: Settings, progress: Progress, tell: Callable[[str], None]
) -> Bench:
    """What a training works with: ``options`` name the network to start from, the embedded one by default.

    Raises:
        PluginError: no installed package offers a trainer.
    """
    make = plugin("trainer")

    def trainer(labels: Sequence[str]) -> Trainer:
        made: Trainer = make(
            options.detector or "embedded", labels=labels, weights=options.weights, device=settings.device
        )
        return made

    reader = ImageReader(tool, settings.max_image_pixels)
    return Bench(tool, reader, trainer, training_folder(settings), utc_now, progress, tell)


def _file_source(tool: AnnotationTool, options: SourceOptions) -> FilePredictions:
    assert options.predictions is not None
    index = options.predictions_index
    if index is None:
        kind, _, rest = tool.target.partition(":")
        if kind != "coco":
            raise UsageError(
                f"{options.predictions} holds image ids, and {tool.target} has none to compare them with",
                todo="Name the COCO file that the ids belong to: --predictions-index FILE",
            )
        index = Path(rest)
    origin, seen = read_notes(options.predictions) or (None, None)
    model = options.model or (origin.model if origin else options.predictions.stem)
    dataset = CocoDataset.open(index, None)
    by_name = load_results(options.predictions, dataset, model)
    notes = notes_path(options.predictions).read_bytes() if origin else b""
    content = sha256(options.predictions.read_bytes() + notes).hexdigest()
    return FilePredictions(model, by_name, content, origin, seen)


def serve(
    settings: Settings, options: SourceOptions, *, interactor: str | None, host: str | None, port: int | None
) -> None:
    """Run the model server until it is told to stop.

    Raises:
        ConfigError: the port is taken, or a setting does not fit.
        ModelError: the model cannot be loaded.
    """
    key, password, token = settings.label_studio_api_key, settings.backend_password, settings.backend_token
    plugin("server")(
        host=host or settings.backend_host,
        port=settings.backend_port if port is None else port,
        detector=options.detector,
        interactor=interactor or settings.interactor,
        models=settings.models,
        weights=options.weights,
        classes=options.classes or None,
        threshold=options.threshold,
        label_map=read_label_map(options.label_map),
        label_studio_url=settings.label_studio_url,
        label_studio_api_key=key.get_secret_value() if key else None,
        user=settings.backend_user,
        password=password.get_secret_value() if password else None,
        private_networks=settings.private_networks,
        image_origins=settings.image_origins,
        device=settings.device,
        max_image_bytes=settings.max_image_bytes,
        max_image_pixels=settings.max_image_pixels,
        max_batch=settings.predict_batch,
        token=token.get_secret_value() if token else None,
        embedding_cache_bytes=settings.embedding_cache_bytes,
        max_model_bytes=settings.model_bytes,
        nuclio_host=settings.nuclio_host,
        nuclio_port=settings.nuclio_port,
        nuclio_direct_port=settings.nuclio_direct_port,
        nuclio_upstream=settings.nuclio_upstream,
        own_names=settings.backend_names,
    )


def backend(settings: Settings, url: str | None) -> Backend:
    """The model server as Label Studio is to call it: ``url``, or where this machine's settings say it listens."""
    password = settings.backend_password
    return Backend(
        url or f"http://{settings.backend_host}:{settings.backend_port}",
        user=settings.backend_user,
        password=password.get_secret_value() if password else None,
    )


def hook_address(settings: Settings) -> HookAddress | None:
    """Where the tools are to send webhooks to; None where no secret is set, so that none would be received."""
    if settings.hooks_secret is None:
        return None
    url = settings.hooks_url or f"http://{settings.hooks_host}:{settings.hooks_port}"
    return HookAddress(url, settings.hooks_secret.get_secret_value())
