"""One validated settings object: file < environment < secret files < flags.

The file is YAML: the one named by ``--config``, else by ``LABELBRIDGE_CONFIG``, else ``labelbridge.yaml`` in the
current folder where there is one. What else it holds, :mod:`bridge.plan` reads. Every setting can be given as
``LABELBRIDGE_<NAME>``; the secret ones not in that file, but also as ``LABELBRIDGE_<NAME>_FILE``, the path of a file
that holds the value (Docker and Kubernetes secrets).
"""

from __future__ import annotations

import os
import types
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

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

from bridge.core.worth import Worth
from bridge.settings_sources import (
    PREFIX,
    ConfigFile,
    Given,
    explained,
    from_environment,
    from_file,
    from_flags,
    from_secret_files,
    read_config_file,
    refusal,
)
from bridge.settings_values import Figures, SecretText, folder, header_text, listed, some_text, web_address


class Settings(BaseModel):
    """Everything that can be set. Made by :meth:`load`; secrets show neither in ``repr`` nor in errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    home: Annotated[
        Path,
        BeforeValidator(folder),
        Field(
            default_factory=lambda: Path("~/.labelbridge").expanduser(),
            description="Folder of the database, the downloaded weights and the unfinished work.",
        ),
    ]
    store_url: Annotated[
        str,
        BeforeValidator(some_text),
        # A PostgreSQL address may hold a password, so it is shown only through `store_url_shown`.
        Field(
            default_factory=lambda found: sqlite_url(found["home"]),
            repr=False,
            description="Where runs and findings are kept: sqlite:///FILE or postgresql://USER@HOST/DATABASE.",
        ),
    ]
    label_studio_url: Annotated[
        str | None,
        BeforeValidator(web_address),
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
        BeforeValidator(web_address),
        Field(default=None, description="Address of CVAT, as a browser on this machine reaches it."),
    ]
    cvat_token: Annotated[
        SecretText | None,
        Field(default=None, description="CVAT personal access token (CVAT 2.50 and later)."),
    ]
    cvat_user: Annotated[
        str | None,
        BeforeValidator(some_text),
        Field(default=None, description="CVAT user name, where there is no token."),
    ]
    cvat_password: Annotated[SecretText | None, Field(default=None, description="Password of cvat_user.")]
    cvat_organization: Annotated[
        str | None,
        BeforeValidator(some_text),
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
        str, BeforeValidator(some_text), Field(default="127.0.0.1", description="Address the model server listens on.")
    ]
    backend_port: Annotated[
        int, Field(default=9090, ge=0, le=65535, description="Port of the model server; 0 picks one.")
    ]
    backend_user: Annotated[
        str | None,
        BeforeValidator(some_text),
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
        BeforeValidator(listed),
        Field(
            default=(),
            description="Host names under which the model server may be called without a password, comma-separated.",
        ),
    ]
    models: Annotated[
        Path | None,
        BeforeValidator(folder),
        Field(default=None, description="YAML file that lists what the model server serves (docs/models.md)."),
    ]
    interactor: Annotated[
        str | None,
        BeforeValidator(some_text),
        Field(
            default=None,
            description="What answers smart points and rectangles, or none (default: the models file's, or grabcut).",
        ),
    ]
    nuclio_host: Annotated[
        str | None,
        BeforeValidator(some_text),
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
        BeforeValidator(web_address),
        Field(default=None, description="Address of a real Nuclio dashboard whose functions CVAT shall see too."),
    ]
    hooks_host: Annotated[
        str,
        BeforeValidator(some_text),
        Field(default="127.0.0.1", description="Address on which webhooks of the tools are received."),
    ]
    hooks_port: Annotated[
        int, Field(default=9095, ge=0, le=65535, description="Port on which webhooks are received; 0 picks one.")
    ]
    hooks_url: Annotated[
        str | None,
        BeforeValidator(web_address),
        Field(
            default=None,
            description="Address under which the tools reach that port (default: http://HOOKS_HOST:HOOKS_PORT).",
        ),
    ]
    hooks_secret: Annotated[
        SecretStr | None,
        BeforeValidator(header_text),
        Field(
            default=None,
            description="What webhooks prove themselves with, 16 characters or more; without it none is received.",
        ),
    ]
    workers: Annotated[
        int, Field(default=2, ge=1, le=64, description="Projects that the standing service works on at a time.")
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
        BeforeValidator(listed),
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
    def secrets(self) -> tuple[str, ...]:
        """What must show nowhere, logs included."""
        values = [getattr(self, name) for name in secret_settings() if name != "store_url"]
        password = urllib.parse.urlsplit(self.store_url).password
        return tuple(v.get_secret_value() for v in values if v is not None) + ((password,) if password else ())

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
        file = read_config_file(config, environment, problems)
        settings = cls.gather(file, environment, problems, flags or {})
        if problems or settings is None:
            raise refusal(problems)
        return settings

    @classmethod
    def gather(
        cls,
        file: ConfigFile,
        environ: Mapping[str, str],
        problems: list[str],
        flags: Mapping[str, Any] = types.MappingProxyType({}),
    ) -> Self | None:
        """As :meth:`load`, with the file read already; problems are added to ``problems`` and may leave no settings."""
        names, secrets = tuple(cls.model_fields), secret_settings()
        given: dict[str, Given] = {
            **from_file(file, names, secrets, problems),
            **from_environment(environ, names, secrets, problems),
            **from_secret_files(environ, secrets, problems),
            **from_flags(flags, names, problems),
        }
        settings: Self | None = None
        try:
            settings = cls.model_validate({name: one.value for name, one in given.items()})
        except ValidationError as error:
            problems += explained(error, given, secrets)
        problems += _odd_pairs(given)
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


def _odd_pairs(given: Mapping[str, Given]) -> list[str]:
    pair = ("backend_user", "backend_password")
    return [
        f"{there} ({given[there].origin}): expected {missing} beside it, found none"
        for there, missing in (pair, pair[::-1])
        if there in given and missing not in given
    ]


def _plain(value: Any) -> str:
    if isinstance(value, tuple | dict):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
