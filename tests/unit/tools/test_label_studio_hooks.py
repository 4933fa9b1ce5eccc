"""What is said where Label Studio takes no webhook; that it takes them is tested against a real one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from fakes.canned_server import CannedServer
from hook_kit import SECRET

from bridge.tools.hooks import HookAddress
from bridge.tools.label_studio_client import LabelStudioClient
from bridge.tools.label_studio_hooks import settle_hook

JSON = {"content-type": "application/json"}


@pytest.fixture
def server() -> Iterator[CannedServer]:
    running = CannedServer()
    yield running
    running.close()


@pytest.mark.parametrize(
    ("status", "url", "words"),
    [
        (403, "http://10.0.0.7:9095", "private network.*\nUSER_ADDITIONAL_BANNED_SUBNETS=169[.]254[.]0[.]0/16"),
        (400, "http://labelbridge:9095", "'labelbridge', because the name has no dot.*LABELBRIDGE_HOOKS_URL"),
        (400, "http://label_bridge.local", "'label_bridge[.]local', because the name has an underscore"),
        (400, "http://hooks.example.org", "refused the webhook to http://hooks[.]example[.]org/hooks.*: something"),
        (500, "http://hooks.example.org", "refused the webhook.*: something"),
    ],
)
def test_a_refusal_says_why_and_that_polling_goes_on(server: CannedServer, status: int, url: str, words: str) -> None:
    server.on("/api/webhooks/", (200, JSON, b"[]"), (status, JSON, json.dumps({"detail": "something"}).encode()))
    client = LabelStudioClient(server.url, "0" * 40)
    (why,) = settle_hook(client, 7, HookAddress(url, SECRET))
    client.close()
    assert "changes are found by polling" in why
    assert SECRET not in why
    assert re.search(words, why, re.DOTALL), why
