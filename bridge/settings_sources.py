"""Where settings come from: the settings file, the environment, secret files, flags; and how their problems are told.

No function here raises for what a person wrote: problems are collected, so that all of them are told at once.
"""

from __future__ import annotations

import difflib
import os
import stat
import urllib.parse
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from bridge.errors import ConfigError
from bridge.yaml_text import load_yaml

PREFIX = "LABELBRIDGE_"
CONFIG_VARIABLE = "LABELBRIDGE_CONFIG"
DEFAULT_FILE = "labelbridge.yaml"
SECTIONS = ("defaults", "projects")
"""What the settings file holds beside settings: what is done by itself, and where."""

_SECRET_FILE_LIMIT = 65536


@dataclass(frozen=True, slots=True)
class Given:
    """A raw value and where it came from, in the words a person would use."""

    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What a settings file says, by its topmost keys; nothing where there is no file or it cannot be read."""

    path: Path
    data: Mapping[str, Any] = field(default_factory=dict)


class _Loader(yaml.SafeLoader):
    """Takes no key twice. Plain YAML forgets the first, and with it, say, a project."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        problem=f"the key {key.value} is there twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return node


def config_path(config: Path | None, environ: Mapping[str, str]) -> Path:
    """The settings file: the one of ``--config``, of the environment, or of the current folder."""
    return (config or Path(environ.get(CONFIG_VARIABLE) or DEFAULT_FILE)).expanduser()


def read_config_file(config: Path | None, environ: Mapping[str, str], problems: list[str]) -> ConfigFile:
    """Read the settings file; one that nobody named may be absent.

    Args:
        config: the one that was named on the command line.
    """
    path = config_path(config, environ)
    named = config is not None or bool(environ.get(CONFIG_VARIABLE))
    try:
        if not named and path.exists() and _is_anybodys(path):
            problems.append(
                f"the settings file {path.absolute()} belongs to another user, or anybody may write to it: "
                f"name it with --config or {CONFIG_VARIABLE} if you trust it"
            )
            return ConfigFile(path)
        data = load_yaml(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        if named:
            origin = "--config" if config is not None else CONFIG_VARIABLE
            problems.append(f"the settings file {path} (named by {origin}) does not exist")
        return ConfigFile(path)
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"the settings file {path} cannot be read: {_cause(error)}")
        return ConfigFile(path)
    except yaml.MarkedYAMLError as error:
        # The parser quotes words of the file, which may be a secret.
        problem = (error.problem or "syntax error").split("'")[0].strip()
        place = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        problems.append(f"the settings file {path} is not valid YAML{place}: {problem}")
        return ConfigFile(path)
    except yaml.YAMLError:
        problems.append(
            f"the settings file {path} is not valid YAML: expected plain text without control characters, dates and "
            "numbers that are some, and no nesting without end"
        )
        return ConfigFile(path)
    if data is not None and not isinstance(data, dict):
        problems.append(f"the settings file {path}: expected lines like 'page_size: 500', found a {kind(data)}")
        data = None
    return ConfigFile(path, {str(key): value for key, value in (data or {}).items()})


def _is_anybodys(path: Path) -> bool:
    """Whether others decide what is in a file that merely lies in the current folder: it can name programs to run."""
    found = path.stat()
    return found.st_uid not in (os.geteuid(), 0) or bool(found.st_mode & stat.S_IWOTH)


def from_file(
    file: ConfigFile, names: Collection[str], secrets: Collection[str], problems: list[str]
) -> dict[str, Given]:
    """The settings of the file. A secret is a problem: files like this one are shown around and checked in."""
    given = {}
    for name, value in file.data.items():
        if name in SECTIONS or value is None:
            continue
        if name not in names:
            problems.append(f"{name} ({file.path}): there is no such setting{nearest((*names, *SECTIONS), name)}")
        elif name in secrets and _is_secret(name, value):
            variable = PREFIX + name.upper()
            problems.append(
                f"{name} ({file.path}): expected no secret in this file: set {variable}, "
                f"or {variable}_FILE to the path of a file that holds it"
            )
        else:
            given[name] = Given(value, str(file.path))
    return given


def _is_secret(name: str, value: Any) -> bool:
    """Of ``store_url``, whether it holds a password."""
    if name != "store_url":
        return True
    text = str(value)
    try:
        return urllib.parse.urlsplit(text).password is not None or "password=" in text
    except ValueError:
        return True


def from_environment(
    environ: Mapping[str, str], names: Collection[str], secrets: Collection[str], problems: list[str]
) -> dict[str, Given]:
    """The settings given as ``LABELBRIDGE_<NAME>``."""
    given = {}
    secret_files = {PREFIX + name.upper() + "_FILE" for name in secrets}
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or variable == CONFIG_VARIABLE or variable in secret_files:
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name in names and variable == PREFIX + name.upper():
            # An empty variable is how compose files spell "not set".
            if value:
                given[name] = Given(value, variable)
        # Other programs put variables with this prefix here too (Kubernetes does for a service called
        # labelbridge), so that only what looks like a slip of the pen is a problem.
        elif near := difflib.get_close_matches(name, names, 1, cutoff=0.85):
            problems.append(
                f"{variable} (environment): there is no such setting; did you mean {PREFIX}{near[0].upper()}?"
            )
    return given


def from_secret_files(environ: Mapping[str, str], secrets: Collection[str], problems: list[str]) -> dict[str, Given]:
    """The secrets given as ``LABELBRIDGE_<NAME>_FILE``."""
    given = {}
    for name in secrets:
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
            given[name] = Given(value, f"{variable}={path}")
        else:
            problems.append(f"{name} ({variable}): expected a value, found an empty file: {path}")
    return given


def from_flags(flags: Mapping[str, Any], names: Collection[str], problems: list[str]) -> dict[str, Given]:
    """The settings of the command line; those that are None were not given."""
    given = {}
    for name, value in flags.items():
        if name not in names:
            problems.append(f"{name} (command line): there is no such setting{nearest(names, name)}")
        elif value is not None:
            given[name] = Given(value, "--" + name.replace("_", "-"))
    return given


def refusal(problems: list[str]) -> ConfigError:
    """All problems as one error."""
    return ConfigError(
        "\n  ".join([f"{len(problems)} setting(s) cannot be used:", *problems]), todo="Correct them and start again"
    )


def explained(error: ValidationError, given: Mapping[str, Given], secrets: Collection[str]) -> list[str]:
    """Pydantic's findings, one line each, without the values of secret settings."""
    lines = []
    for problem in error.errors(include_url=False, include_context=False):
        if problem["type"] == "default_factory_not_called":  # it follows from a problem that is told already
            continue
        name = str(problem["loc"][0]) if problem["loc"] else ""
        one = given.get(name)
        found = "" if one is None or name in secrets else f", found {short(one.value)}"
        lines.append(f"{name} ({one.origin if one else 'default'}): {wording(problem['msg'])}{found}")
    return lines


def wording(message: str) -> str:
    """Pydantic's words as ours: ``expected a number less than or equal to 1``."""
    message = message.removeprefix("Value error, ")
    if not message.startswith("Input should be "):
        return message
    message = message.removeprefix("Input should be ").split(", unable to")[0].replace("a valid boolean", "on or off")
    a_number = "a number " if message.startswith(("greater", "less")) else ""
    return f"expected {a_number}{message}"


def nearest(names: Collection[str], name: str) -> str:
    """``; did you mean NAME?``, with the one of ``names`` that is most like ``name``."""
    near = difflib.get_close_matches(name.lower().replace("-", "_"), names, 1, cutoff=0.0)
    return f"; did you mean {near[0]}?" if near else ""


def short(value: Any) -> str:
    """A value as a message shows it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def kind(value: Any) -> str:
    """What a YAML value is, in a person's words."""
    return {list: "list", str: "text", int: "number", float: "number", bool: "yes/no value"}.get(type(value), "value")


def _cause(error: OSError | UnicodeDecodeError) -> str:
    return "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else (error.strerror or type(error).__name__)
