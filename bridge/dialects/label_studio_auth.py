"""Proving who we are to Label Studio, whichever of its two kinds of token we hold.

A *legacy token* (40 hex digits) is sent as it is. A *personal access token* is a JWT (three parts joined by dots) that
Label Studio accepts at one place only: there it is exchanged for an access token of five minutes. Observed on 1.23.2.

Pure but for the exchange, which is handed in, so the tool and the model server can both use it.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from bridge.errors import AuthError

#: Where a personal access token is exchanged: POST ``{"refresh": token}`` answers ``{"access": token}``.
REFRESH_PATH = "/api/token/refresh"

_USUAL_LIFETIME_S = 300.0
_RENEW_BEFORE_S = 60.0


class LabelStudioAuth:
    """Authorization headers, renewed in time. Safe to use from several threads.

    Args:
        api_key: a personal access token or a legacy token.
        exchange: takes the personal access token, asks Label Studio, and gives its JSON answer.
        clock: seconds from anywhere.
    """

    def __init__(
        self, api_key: str, exchange: Callable[[str], Any], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._key = api_key.strip()
        self._exchange = exchange
        self._clock = clock
        self._lock = threading.Lock()
        self._access = ""
        self._until = 0.0

    @property
    def is_personal(self) -> bool:
        """Whether the key is a personal access token, which has to be exchanged."""
        return self._key.count(".") == 2

    def headers(self) -> Mapping[str, str]:
        """The header for one request.

        Raises:
            AuthError: Label Studio does not accept the personal access token.
        """
        if not self.is_personal:
            return {"Authorization": f"Token {self._key}"}
        with self._lock:
            if self._clock() >= self._until:
                self._renew()
            return {"Authorization": f"Bearer {self._access}"}

    def forget(self) -> bool:
        """Drop the access token after a 401, so that the next request asks for a new one; whether there was one."""
        with self._lock:
            had = bool(self._access)
            self._access, self._until = "", 0.0
            return had

    def _renew(self) -> None:
        answer = self._exchange(self._key)
        access = answer.get("access") if isinstance(answer, dict) else None
        if not isinstance(access, str) or not access:
            raise AuthError(
                "Label Studio did not exchange the personal access token",
                expected='an answer such as {"access": "..."}',
                todo="Make a new token under Account & Settings > Personal Access Token",
            )
        lifetime = token_lifetime(access)
        self._access = access
        self._until = self._clock() + max(lifetime - _RENEW_BEFORE_S, lifetime / 2)


def token_lifetime(token: str) -> float:
    """Seconds between a JWT's ``iat`` and ``exp``; what is usual where they cannot be read.

    Only the difference is used: the clocks of the two machines need not agree.
    """
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        lifetime = float(claims["exp"]) - float(claims["iat"])
    except (IndexError, ValueError, KeyError, TypeError):
        return _USUAL_LIFETIME_S
    return lifetime if 0 < lifetime < 10 * 365 * 86_400 else _USUAL_LIFETIME_S
