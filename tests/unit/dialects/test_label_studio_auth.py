from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bridge.dialects.label_studio_auth import LabelStudioAuth, token_lifetime
from bridge.errors import AuthError


def jwt(**claims: Any) -> str:
    return ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in ({}, claims, {}))


class Studio:
    """Exchanges tokens as Label Studio does, and counts."""

    def __init__(self, lifetime: float = 300) -> None:
        self.given: list[str] = []
        self.now = 1000.0
        self.lifetime = lifetime

    def exchange(self, token: str) -> dict[str, str]:
        self.given.append(jwt(iat=5, exp=5 + self.lifetime, n=len(self.given)))
        assert token == PERSONAL
        return {"access": self.given[-1]}

    def auth(self, key: str) -> LabelStudioAuth:
        return LabelStudioAuth(key, self.exchange, lambda: self.now)


PERSONAL = jwt(token_type="refresh")


def test_a_legacy_token_is_sent_as_it_is() -> None:
    studio = Studio()
    auth = studio.auth("0123456789abcdef0123456789abcdef01234567\n")
    assert auth.headers() == {"Authorization": "Token 0123456789abcdef0123456789abcdef01234567"}
    assert studio.given == []
    assert auth.forget() is False


def test_a_personal_token_is_exchanged_and_renewed_before_it_ends() -> None:
    studio = Studio()
    auth = studio.auth(PERSONAL)
    assert auth.headers() == {"Authorization": f"Bearer {studio.given[0]}"}
    studio.now += 239
    auth.headers()
    assert len(studio.given) == 1
    studio.now += 2
    assert auth.headers() == {"Authorization": f"Bearer {studio.given[1]}"}


def test_a_short_life_is_used_for_half_of_it() -> None:
    studio = Studio(lifetime=30)
    auth = studio.auth(PERSONAL)
    auth.headers()
    studio.now += 14
    auth.headers()
    assert len(studio.given) == 1
    studio.now += 2
    auth.headers()
    assert len(studio.given) == 2


def test_forget_asks_again() -> None:
    studio = Studio()
    auth = studio.auth(PERSONAL)
    auth.headers()
    assert auth.forget() is True
    auth.headers()
    assert len(studio.given) == 2


def test_many_threads_exchange_once() -> None:
    studio = Studio()
    auth = studio.auth(PERSONAL)
    with ThreadPoolExecutor(8) as pool:
        found = {h["Authorization"] for h in pool.map(lambda _: auth.headers(), range(64))}
    assert len(found) == len(studio.given) == 1


@pytest.mark.parametrize("answer", [{}, {"access": None}, {"access": ""}, [], "x", None])
def test_an_exchange_that_gives_nothing(answer: Any) -> None:
    with pytest.raises(AuthError, match="did not exchange"):
        LabelStudioAuth(PERSONAL, lambda _: answer).headers()


@pytest.mark.parametrize(
    "token", ["", "a", "a.b.c", jwt(), jwt(exp="x", iat=1), jwt(exp=1, iat=5), jwt(exp=None, iat=None), "a.W10.c"]
)
def test_lifetime_of_odd_tokens_is_the_usual_one(token: str) -> None:
    assert token_lifetime(token) == 300
