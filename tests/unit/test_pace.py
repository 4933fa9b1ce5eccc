"""How often, at most; and the clients that keep to it."""

from __future__ import annotations

from bridge.clients import Clients, watchful
from bridge.pace import Pace
from bridge.settings import Settings


def test_a_burst_and_then_so_many_a_second() -> None:
    now, turns = [100.0], []

    def sleep(seconds: float) -> None:
        now[0] += seconds

    pace = Pace(4.0, 3, sleep=sleep, clock=lambda: now[0])
    for _ in range(8):
        pace.wait()
        turns.append(now[0] - 100)
    assert turns == [0, 0, 0, 0.25, 0.5, 0.75, 1.0, 1.25]
    now[0] += 60
    pace.wait()
    assert now[0] == 161.25, "what was not used is no credit beyond the burst"


def test_targets_share_a_client_of_each_server() -> None:
    given = Settings(
        label_studio_url="http://ls", label_studio_api_key="k" * 40, cvat_url="http://cvat", cvat_token="t"
    )
    clients = Clients(given, watchful(given))
    assert clients.label_studio() is clients.label_studio()
    assert clients.cvat() is clients.cvat()
    assert watchful(given).attempts == 1, "the reconciler waits, not its threads"
