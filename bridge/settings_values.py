"""How single settings are read: what a person may write, and what it stands for."""

from __future__ import annotations

import re
import urllib.parse
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr

from bridge.core.findings import ErrorType


def folder(value: Any) -> Any:
    """A path, with the tilde resolved."""
    if isinstance(value, str) and not value.strip():
        raise ValueError("Input should be a folder")
    return Path(value).expanduser() if isinstance(value, str) else value


def listed(value: Any) -> Any:
    """``a, b`` as a list; one of a YAML file comes as it is."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def figures(value: Any) -> Any:
    """``missing=8, extra=4`` as a mapping; one of a YAML file comes as it is."""
    if not isinstance(value, str):
        return value
    pairs = [part.split("=") for part in listed(value)]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("Input should be figures by error type, as in missing=9,imprecise=12")
    return {name.strip(): figure.strip() for name, figure in pairs}


def some_text(value: Any) -> Any:
    """A text with something in it."""
    if isinstance(value, str) and not value.strip():
        raise ValueError("Input should be a value that is not empty")
    return value


def header_text(value: Any) -> Any:
    """A secret that travels in a header, and that nobody guesses."""
    if isinstance(value, str) and not re.fullmatch(r"[!-~]{16,512}", value):
        raise ValueError("Input should be 16 letters, digits and signs or more, without spaces and accents")
    return value


def web_address(value: Any) -> Any:
    """The address of a server, without a slash at its end."""
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
Figures = Annotated[dict[ErrorType, Figure], BeforeValidator(figures)]
SecretText = Annotated[SecretStr, BeforeValidator(some_text)]
