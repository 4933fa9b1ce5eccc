"""Accepted without a reviewer, written, and taken back: the real commands against CVAT's stand-in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cvat_world import ALL_KINDS, RIGHT, Case, CvatWorld, open_desk
from fakes.cvat_server import FakeCvat
from world import Command


@pytest.fixture
def world(tmp_path: Path) -> Iterator[CvatWorld]:
    """Scored, and nothing pushed."""
    with FakeCvat() as server:
        world = CvatWorld(server, Case("2.80", "owner"), [ALL_KINDS, RIGHT])
        with open_desk(world, tmp_path) as desk:
            desk.score()
        yield world


def test_a_batch_is_accepted_written_and_undone(world: CvatWorld, tmp_path: Path) -> None:
    settings = {"cvat_url": world.server.url, "cvat_user": "mia", "cvat_password": "secret"}
    command = Command(tmp_path, settings)
    before = {key: {k: v for k, v in row.items() if k != "id"} for key, row in world.held().items()}
    target = world.target
    ids = command.ok("accept", target, "--min-score", "0.5", "--dry-run")
    assert len(ids) >= 3
    assert {f["state"] for f in command.ok("findings", target)} == {"open"}

    batch = command.ok("accept", target, "--min-score", "0.5", "--by", "lea")
    assert (batch["accepted"], batch["left"]) == (len(ids), [])
    synced = command.ok("sync", target)
    assert (synced["fixes"], synced["verified"]) == ({"applied": len(ids)}, len(ids))
    assert synced["precision"] == []

    assert "what is to be undone is not clear" in command.run("undo", target).error
    undone = command.ok("undo", target, "--batch", batch["batch"])
    assert undone == {"undone": len(ids), "unwritten": 0, "conflicts": []}
    after = [{k: v for k, v in row.items() if k != "id"} for row in world.held().values()]
    assert sorted(map(repr, after)) == sorted(map(repr, before.values()))

    with open_desk(world, tmp_path) as desk:
        assert desk.score().new == 0
        assert {s.state for s in desk.store.findings() if s.finding.id in ids} == {"undone"}
    assert command.ok("push", target, "--min-score", "0.5")["pushed"] == 0
