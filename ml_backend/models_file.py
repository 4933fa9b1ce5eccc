"""The models file: a YAML list of what one server serves, and for CVAT under which names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from bridge.dialects.label_map_file import read_label_map
from bridge.errors import ConfigError
from bridge.yaml_text import load_yaml
from ml_backend.models.catalogue import Accelerator, ModelSpec, Precision

_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


def _label_map(value: Any) -> Any:
    return dict(read_label_map(value)) if isinstance(value, str) else value


LabelMap = Annotated[dict[str, str], BeforeValidator(_label_map)]


class ModelOptions(BaseModel):
    """One model of the file; see :class:`~ml_backend.models.catalogue.ModelSpec` for what the fields mean."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    id: str
    model: str
    weights: Path | None = None
    classes: tuple[str, ...] | None = None
    device: str | None = None
    threshold: _Share | None = None
    batch_size: Annotated[int, Field(ge=1)] | None = None
    precision: Precision = "auto"
    accelerator: Accelerator = "auto"
    tile: Annotated[int, Field(ge=64)] | None = None
    label_map: LabelMap = Field(default_factory=dict)

    def spec(self, folder: Path, device: str) -> ModelSpec:
        """As the catalogue takes it: paths count from ``folder``, and ``device`` is for models that name none."""
        return ModelSpec(
            _beside(self.model, folder),
            weights=None if self.weights is None else folder / self.weights.expanduser(),
            classes=self.classes,
            device=self.device or device,
            batch_size=self.batch_size,
            precision=self.precision,
            accelerator=self.accelerator,
            tile=self.tile,
        )


class FunctionOptions(BaseModel):
    """A detector as CVAT lists it for one project, with that project's label names."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    id: str
    model: str
    title: str | None = None
    labels: Annotated[tuple[str, ...], Field(min_length=1)]
    label_map: LabelMap = Field(default_factory=dict)


class ModelsFile(BaseModel):
    """Everything in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: Annotated[tuple[ModelOptions, ...], Field(min_length=1)]
    functions: tuple[FunctionOptions, ...] = ()


def read_models_file(path: Path) -> ModelsFile:
    """Read and check a models file.

    Raises:
        ConfigError: it cannot be read, or anything in it is wrong; every problem is named, each on a line of its own.
    """
    try:
        data = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the models file {path} cannot be read: {error}", todo="Correct the path") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"the models file {path} is no YAML: {error}", todo="Correct the file") from None
    try:
        read = ModelsFile.model_validate(data)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors()]
        raise _unusable(path, problems) from None
    ids = [one.id for one in read.models] + [one.id for one in read.functions]
    models = {one.id for one in read.models}
    problems = [f"the id {id_!r} is given twice" for id_ in dict.fromkeys(ids) if ids.count(id_) > 1]
    problems += [
        f"the function {one.id!r} is of the model {one.model!r}, which the file does not have"
        for one in read.functions
        if one.model not in models
    ]
    if problems:
        raise _unusable(path, problems)
    return read


def _unusable(path: Path, problems: list[str]) -> ConfigError:
    return ConfigError(
        "\n  ".join([f"the models file {path} cannot be used:", *problems]),
        expected="models: a list of {id, model, ...}; functions: a list of {id, model, labels, ...}",
        todo="Correct the file; docs/models.md explains it",
    )


def _beside(model: str, folder: Path) -> str:
    """A manifest or Python file counts from the models file's folder; every other spec is a name."""
    parts = (str(folder / part) if part.lower().endswith((".json", ".py")) else part for part in model.split("+"))
    return "+".join(parts)
