"""The clients of the tools that the settings name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from bridge.errors import ConfigError
from bridge.pace import Pace
from bridge.settings import Settings
from bridge.tools.cvat_client import CvatClient, Login
from bridge.tools.label_studio_client import LabelStudioClient

_WATCH_S, _WATCH_PER_SECOND, _BURST = 30.0, 5.0, 10


@dataclass(frozen=True, slots=True)
class Manner:
    """How a client asks its server.

    Attributes:
        timeout_s: seconds to wait for an answer.
        attempts: how often a request that is safe to repeat is made altogether.
        per_second: so many requests at most; None is no limit.
    """

    timeout_s: float
    attempts: int = 4
    per_second: float | None = None

    @property
    def pace(self) -> Callable[[], None] | None:
        return Pace(self.per_second, _BURST).wait if self.per_second else None


def watchful(settings: Settings) -> Manner:
    """How targets are watched: whoever asks again by itself gives up soon, and leaves the server to people."""
    return Manner(min(settings.request_timeout_s, _WATCH_S), attempts=1, per_second=_WATCH_PER_SECOND)


def label_studio_client(settings: Settings, manner: Manner | None = None) -> LabelStudioClient:
    """A client for the Label Studio of the settings.

    Raises:
        ConfigError: the address or the token is not set.
    """
    if not settings.label_studio_url or settings.label_studio_api_key is None:
        key = "LABELBRIDGE_LABEL_STUDIO_API_KEY"
        missing = key if settings.label_studio_url else "LABELBRIDGE_LABEL_STUDIO_URL"
        raise ConfigError(
            f"{missing} is not set",
            expected="Label Studio's address and a Personal Access Token (Account & Settings > Personal Access Token)",
            todo=f"export {missing}=…, or " + (f"{key}_FILE=…" if missing == key else "put it into labelbridge.yaml"),
        )
    manner = manner or Manner(settings.request_timeout_s)
    return LabelStudioClient(
        settings.label_studio_url,
        settings.label_studio_api_key.get_secret_value(),
        timeout=manner.timeout_s,
        private_networks=settings.private_networks,
        hidden=settings.secrets,
        attempts=manner.attempts,
        pace=manner.pace,
    )


def cvat_client(settings: Settings, manner: Manner | None = None) -> CvatClient:
    """A client for the CVAT of the settings.

    Raises:
        ConfigError: the address is not set, or neither a token nor a user with a password is.
    """
    if not settings.cvat_url:
        raise ConfigError(
            "LABELBRIDGE_CVAT_URL is not set",
            expected="CVAT's address, such as http://localhost:8080",
            todo="export LABELBRIDGE_CVAT_URL=…, or put it into labelbridge.yaml",
        )
    token, password = settings.cvat_token, settings.cvat_password
    login = Login(
        token=token.get_secret_value() if token else "",
        user=settings.cvat_user or "",
        password=password.get_secret_value() if password else "",
    )
    manner = manner or Manner(settings.request_timeout_s)
    return CvatClient(
        settings.cvat_url,
        login,
        organization=settings.cvat_organization or "",
        timeout=manner.timeout_s,
        hidden=settings.secrets,
        attempts=manner.attempts,
        pace=manner.pace,
    )


class Clients:
    """One client for each server of the settings, made when it is asked for first. Safe to use from several threads."""

    def __init__(self, settings: Settings, manner: Manner | None = None) -> None:
        self._settings = settings
        self._manner = manner
        self._lock = threading.Lock()
        self._label_studio: LabelStudioClient | None = None
        self._cvat: CvatClient | None = None

    def label_studio(self) -> LabelStudioClient:
        """See :func:`label_studio_client`."""
        with self._lock:
            self._label_studio = self._label_studio or label_studio_client(self._settings, self._manner)
            return self._label_studio

    def cvat(self) -> CvatClient:
        """See :func:`cvat_client`."""
        with self._lock:
            self._cvat = self._cvat or cvat_client(self._settings, self._manner)
            return self._cvat
