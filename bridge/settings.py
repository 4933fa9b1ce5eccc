"""One validated settings object: file < environment < secret files < flags.

The file is YAML: the one named by ``--config``, else by ``LABELBRIDGE_CONFIG``, else ``labelbridge.yaml`` in the
current folder where there is one. Every setting can be given as ``LABELBRIDGE_<NAME>``; the secret ones also as
``LABELBRIDGE_<NAME>_FILE``, the path of a file that holds the value (Docker and Kubernetes secrets).
"""

from __future__ import annotations

import difflib
import os
import stat
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from bridge.core.findings import ErrorType
from bridge.core.worth import Worth
from bridge.errors import ConfigError
from bridge.yaml_text import load_yaml

PREFIX = "LABELBRIDGE_"
CONFIG_VARIABLE = "LABELBRIDGE_CONFIG"
DEFAULT_FILE = "labelbridge.yaml"
_SECRET_FILE_LIMIT = 65536


def _expanded(value: Any) -> Any:
    if isinstance(value, str) and not value.strip():
        raise ValueError("Input should be a folder")
    return Path(value).expanduser() if isinstance(value, str) else value


def _listed(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _figures(value: Any) -> Any:
    """``missing=8, extra=4`` as a mapping; one of a YAML file comes as it is."""
    if not isinstance(value, str):
        return value
    pairs = [part.split("=") for part in _listed(value)]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("Input should be figures by error type, as in missing=9,imprecise=12")
    return {name.strip(): figure.strip() for name, figure in pairs}


def _some_text(value: Any) -> Any:
    if isinstance(value, str) and not value.strip():
        raise ValueError("Input should be a value that is not empty")
    return value


def _web_address(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        parts = urllib.parse.urlsplit(value.strip())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("Input should be an address such as https://labels.example.org or http://127.0.0.1:8080")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("Input should be an address without user, password, '?' and '#'")
    return value.strip().rstrip("/")


Figure = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
Figures = Annotated[dict[ErrorType, Figure], BeforeValidator(_figures)]
SecretText = Annotated[SecretStr, BeforeValidator(_some_text)]


class Settings(BaseModel):
    """Everything that can be set. Made by :meth:`load`; secrets show neither in ``repr`` nor in errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    home: Annotated[
        Path,
        BeforeValidator(_expanded),
        Field(
            default_factory=lambda: Path("~/.labelbridge").expanduser(),
            description="Folder of the database, the downloaded weights and the unfinished work.",
        ),
    ]
    store_url: Annotated[
        str,
        BeforeValidator(_some_text),
        # A PostgreSQL address may hold a password, so it is shown only through `store_url_shown`.
        Field(
            default_factory=lambda found: sqlite_url(found["home"]),
            repr=False,
            description="Where runs and findings are kept: sqlite:///FILE or postgresql://USER@HOST/DATABASE.",
        ),
    ]
    label_studio_url: Annotated[
        str | None,
        BeforeValidator(_web_address),
        Field(default=None, description="Address of Label Studio, as a browser on this machine reaches it."),
    ]
    label_studio_api_key: Annotated[
        SecretText | None,
        Field(
            default=None,
            description="Label Studio access token: a personal one, or a legacy one where those are allowed.",
        ),
    ]
    cvat_url: Annotated[
        str | None,
        BeforeValidator(_web_address),
        Field(default=None, description="Address of CVAT, as a browser on this machine reaches it."),
    ]
    cvat_token: Annotated[
        SecretText | None,
        Field(default=None, description="CVAT personal access token (CVAT 2.50 and later)."),
    ]
    cvat_user: Annotated[
        str | None,
        BeforeValidator(_some_text),
        Field(default=None, description="CVAT user name, where there is no token."),
    ]
    cvat_password: Annotated[SecretText | None, Field(default=None, description="Password of cvat_user.")]
    cvat_organization: Annotated[
        str | None,
        BeforeValidator(_some_text),
        Field(default=None, description="Short name of the CVAT organization that holds the targets."),
    ]
    request_timeout_s: Annotated[
        float,
        Field(
            default=30.0,
            gt=0,
            le=3600,
            allow_inf_nan=False,
            description="Seconds to wait for one answer of the annotation tool.",
        ),
    ]
    max_image_pixels: Annotated[
        int,
        Field(default=120_000_000, ge=1, description="Images with more pixels are reported and skipped, not decoded."),
    ]
    max_image_bytes: Annotated[
        int,
        Field(default=64 * 2**20, ge=1, description="Image files with more bytes are reported and skipped."),
    ]
    page_size: Annotated[
        int, Field(default=500, ge=1, le=10_000, description="Items read from the annotation tool at a time.")
    ]
    predict_batch: Annotated[int, Field(default=8, ge=1, le=1024, description="Images given to the model at a time.")]
    push_chunk: Annotated[
        int, Field(default=100, ge=1, le=10_000, description="Findings or predictions written to the tool at a time.")
    ]
    min_score: Annotated[
        float,
        Field(
            default=0.5,
            ge=0,
            le=1,
            allow_inf_nan=False,
            description=(
                "Findings with a lower probability, given the verdicts so far, are kept and reported, "
                "but not pushed for review."
            ),
        ),
    ]
    review_gain: Annotated[
        Figures,
        Field(
            default={},
            description=(
                "What a repaired error of a type is worth, as in imprecise=0.5 (others: 1, imprecise 0.7). "
                "With review_seconds it decides what is reviewed first."
            ),
        ),
    ]
    review_seconds: Annotated[
        Figures,
        Field(
            default={},
            description=(
                "Seconds a reviewer takes for a finding of a type, as in missing=9,imprecise=12 "
                "(others: 5, missing 6, imprecise 7)."
            ),
        ),
    ]
    backend_host: Annotated[
        str, BeforeValidator(_some_text), Field(default="127.0.0.1", description="Address the model server listens on.")
    ]
    backend_port: Annotated[
        int, Field(default=9090, ge=0, le=65535, description="Port of the model server; 0 picks one.")
    ]
    backend_user: Annotated[
        str | None,
        BeforeValidator(_some_text),
        Field(
            default=None, description="User name that callers of the model server must give; needs backend_password."
        ),
    ]
    backend_password: Annotated[
        SecretText | None,
        Field(default=None, description="Password that callers of the model server must give; needs backend_user."),
    ]
    backend_token: Annotated[
        SecretText | None,
        Field(
            default=None,
            description="Secret that callers of the model server may show as a bearer token instead of a password.",
        ),
    ]
    backend_names: Annotated[
        tuple[str, ...],
        BeforeValidator(_listed),
        Field(
            default=(),
            description="Host names under which the model server may be called without a password, comma-separated.",
        ),
    ]
    models: Annotated[
        Path | None,
        BeforeValidator(_expanded),
        Field(default=None, description="YAML file that lists what the model server serves (docs/models.md)."),
    ]
    interactor: Annotated[
        str | None,
        BeforeValidator(_some_text),
        Field(
            default=None,
            description="What answers smart points and rectangles, or none (default: the models file's, or grabcut).",
        ),
    ]
    nuclio_host: Annotated[
        str | None,
        BeforeValidator(_some_text),
        Field(default=None, description="Address on which CVAT is answered (default: backend_host)."),
    ]
    nuclio_port: Annotated[
        int | None,
        Field(
            default=None,
            ge=0,
            le=65535,
            description="Port on which CVAT is answered, and nothing else; unset: CVAT uses backend_port.",
        ),
    ]
    nuclio_direct_port: Annotated[
        int | None,
        Field(default=None, ge=1, le=65535, description="First port of CVAT's direct mode: one for each model."),
    ]
    nuclio_upstream: Annotated[
        str | None,
        BeforeValidator(_web_address),
        Field(default=None, description="Address of a real Nuclio dashboard whose functions CVAT shall see too."),
    ]
    embedding_cache_bytes: Annotated[
        int,
        Field(
            default=512 * 2**20, ge=1, description="Bytes of images as interactive models keep them (SAM: 4 MiB each)."
        ),
    ]
    model_bytes: Annotated[
        int,
        Field(
            default=8 * 2**30,
            ge=1,
            description="Bytes of weights in memory; beyond it, models used long ago are unloaded.",
        ),
    ]
    private_networks: Annotated[
        bool,
        Field(
            default=False,
            description="Whether images may also be read from hosts in private networks other than the tool's own.",
        ),
    ]

    image_origins: Annotated[
        tuple[str, ...],
        BeforeValidator(_listed),
        Field(
            default=(),
            description="Further origins the model server may read images from, comma-separated; * for any public one.",
        ),
    ]
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        Field(default="auto", description="Where models run: auto takes a GPU where there is one."),
    ]

    @field_validator("*", mode="before")
    @classmethod
    def _yes_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and info.field_name != "private_networks":
            raise ValueError("Input should be something other than yes or no")
        return value

    @property
    def worth(self) -> Worth:
        """What reviewing a finding is worth, by its type."""
        return Worth(self.review_gain, self.review_seconds)

    @property
    def store_url_shown(self) -> str:
        """``store_url`` with a password masked, for messages and logs."""
        parts = urllib.parse.urlsplit(self.store_url)
        if parts.password is None:
            return self.store_url
        return self.store_url.replace(f":{parts.password}@", ":***@", 1)

    @classmethod
    def load(
        cls,
        config: Path | None = None,
        flags: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Self:
        """Read and check all sources; a later one wins: file, environment, secret files, flags.

        Args:
            config: the file to read; it must exist. None looks for one as the module's text says.
            flags: values by setting name; those that are None were not given.
            environ: the environment; ``os.environ`` when None.

        Raises:
            ConfigError: anything is wrong; every problem is named, each on a line of its own.
        """
        environment = os.environ if environ is None else environ
        problems: list[str] = []
        given: dict[str, _Given] = {}
        for layer in (
            _from_file(cls, config, environment, problems),
            _from_environment(cls, environment, problems),
            _from_secret_files(environment, problems),
            _from_flags(cls, flags or {}, problems),
        ):
            given |= layer
        values = {name: one.value for name, one in given.items()}
        settings: Self | None = None
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            problems += _explained(error, given)
        problems += _odd_pairs(given)
        if problems or settings is None:
            raise ConfigError(
                "\n  ".join([f"{len(problems)} setting(s) cannot be used:", *problems]),
                todo="Correct them and start again",
            )
        return settings


class SettingDoc(NamedTuple):
    """One row of the reference; ``default`` is empty where a setting has none."""

    name: str
    env: str
    default: str
    meaning: str


def settings_reference() -> list[SettingDoc]:
    """All settings in the order of the model, for the documentation and ``--help``."""
    computed = {"home": "~/.labelbridge", "store_url": "sqlite:///<home>/labelbridge.db"}
    return [
        SettingDoc(
            name,
            PREFIX + name.upper(),
            computed.get(name, "" if field.default is None else _plain(field.default)),
            field.description or "",
        )
        for name, field in Settings.model_fields.items()
    ]


def secret_settings() -> tuple[str, ...]:
    """The settings that may be given as ``LABELBRIDGE_<NAME>_FILE`` and are never shown."""
    return tuple(
        name
        for name, field in Settings.model_fields.items()
        if name == "store_url" or "SecretStr" in str(field.annotation)
    )


def sqlite_url(home: Path) -> str:
    """The address of the database in the data folder, always as an absolute path."""
    return f"sqlite:///{home.absolute() / 'labelbridge.db'}"


@dataclass(frozen=True, slots=True)
class _Given:
    """A raw value and where it came from, in the words a person would use."""

    value: Any
    origin: str


def _from_file(
    model: type[Settings], config: Path | None, environ: Mapping[str, str], problems: list[str]
) -> dict[str, _Given]:
    named = config if config is not None else Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None
    path = named if named is not None else Path(DEFAULT_FILE)
    try:
        if named is None and path.exists() and _is_anybodys(path):
            problems.append(
                f"the settings file {path.absolute()} belongs to another user, or anybody may write to it: "
                f"name it with --config or {CONFIG_VARIABLE} if you trust it"
            )
            return {}
        data = load_yaml(path.expanduser().read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named is not None:
            origin = "--config" if config is not None else CONFIG_VARIABLE
            problems.append(f"the settings file {path} (named by {origin}) does not exist")
        return {}
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"the settings file {path} cannot be read: {_cause(error)}")
        return {}
    except yaml.MarkedYAMLError as error:
        # The parser quotes words of the file, which may be a secret.
        problem = (error.problem or "syntax error").split("'")[0].strip()
        place = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        problems.append(f"the settings file {path} is not valid YAML{place}: {problem}")
        return {}
    except yaml.YAMLError:
        problems.append(
            f"the settings file {path} is not valid YAML: expected plain text without control characters, dates and "
            "numbers that are some, and no nesting without end"
        )
        return {}
    if data is None:
        return {}
    if not isinstance(data, dict):
        problems.append(f"the settings file {path}: expected lines like 'page_size: 500', found a {_kind(data)}")
        return {}
    given = {}
    for key, value in data.items():
        if str(key) not in model.model_fields:
            problems.append(f"{key} ({path}): there is no such setting{_nearest(model, str(key))}")
        elif value is not None:
            given[str(key)] = _Given(value, str(path))
    return given


def _is_anybodys(path: Path) -> bool:
    """Whether others decide what is in a file that merely lies in the current folder: it can name programs to run."""
    found = path.stat()
    return found.st_uid not in (os.geteuid(), 0) or bool(found.st_mode & stat.S_IWOTH)


def _from_environment(model: type[Settings], environ: Mapping[str, str], problems: list[str]) -> dict[str, _Given]:
    given = {}
    secret_files = {PREFIX + name.upper() + "_FILE" for name in secret_settings()}
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or variable == CONFIG_VARIABLE or variable in secret_files:
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name in model.model_fields and variable == PREFIX + name.upper():
            # An empty variable is how compose files spell "not set".
            if value:
                given[name] = _Given(value, variable)
        # Other programs put variables with this prefix here too (Kubernetes does for a service called
        # labelbridge), so that only what looks like a slip of the pen is a problem.
        elif near := difflib.get_close_matches(name, model.model_fields, 1, cutoff=0.85):
            problems.append(
                f"{variable} (environment): there is no such setting; did you mean {PREFIX}{near[0].upper()}?"
            )
    return given


def _from_secret_files(environ: Mapping[str, str], problems: list[str]) -> dict[str, _Given]:
    given = {}
    for name in secret_settings():
        variable = f"{PREFIX}{name.upper()}_FILE"
        if not environ.get(variable):
            continue
        path = Path(environ[variable]).expanduser()
        try:
            with path.open("rb") as file:
                raw = file.read(_SECRET_FILE_LIMIT + 1)
            if len(raw) > _SECRET_FILE_LIMIT:
                problems.append(f"{name} ({variable}): expected a file that holds one value, found a large one: {path}")
                continue
            value = raw.decode("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{name} ({variable}): the file {path} cannot be read: {_cause(error)}")
            continue
        if value:
            given[name] = _Given(value, f"{variable}={path}")
        else:
            problems.append(f"{name} ({variable}): expected a value, found an empty file: {path}")
    return given


def _from_flags(model: type[Settings], flags: Mapping[str, Any], problems: list[str]) -> dict[str, _Given]:
    given = {}
    for name, value in flags.items():
        if name not in model.model_fields:
            problems.append(f"{name} (command line): there is no such setting{_nearest(model, name)}")
        elif value is not None:
            given[name] = _Given(value, "--" + name.replace("_", "-"))
    return given


def _explained(error: ValidationError, given: Mapping[str, _Given]) -> list[str]:
    """Pydantic's findings, one line each, without the values of secret settings."""
    secrets = secret_settings()
    lines = []
    for problem in error.errors(include_url=False, include_context=False):
        if problem["type"] == "default_factory_not_called":  # it follows from a problem that is told already
            continue
        name = str(problem["loc"][0]) if problem["loc"] else ""
        one = given.get(name)
        message = problem["msg"].removeprefix("Value error, ")
        if message.startswith("Input should be "):
            message = message.removeprefix("Input should be ").split(", unable to")[0]
            a_number = "a number " if message.startswith(("greater", "less")) else ""
            message = f"expected {a_number}{message}"
        found = "" if one is None or name in secrets else f", found {_short(one.value)}"
        lines.append(f"{name} ({one.origin if one else 'default'}): {message}{found}")
    return lines


def _odd_pairs(given: Mapping[str, _Given]) -> list[str]:
    pair = ("backend_user", "backend_password")
    return [
        f"{there} ({given[there].origin}): expected {missing} beside it, found none"
        for there, missing in (pair, pair[::-1])
        if there in given and missing not in given
    ]


def _nearest(model: type[Settings], name: str) -> str:
    near = difflib.get_close_matches(name.lower().replace("-", "_"), model.model_fields, 1, cutoff=0.0)
    return f"; did you mean {near[0]}?" if near else ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _kind(value: Any) -> str:
    return {list: "list", str: "text", int: "number", float: "number", bool: "yes/no value"}.get(type(value), "value")


def _cause(error: OSError | UnicodeDecodeError) -> str:
    return "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else (error.strerror or type(error).__name__)


def _plain(value: Any) -> str:
    if isinstance(value, tuple | dict):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
