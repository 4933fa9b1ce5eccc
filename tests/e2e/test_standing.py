"""The standing service beside a real Label Studio: nobody types a command, and everything happens by itself."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes.pictures import CAT
from live import Studio
from world import SUBMITTED, World, make_world, regions

from bridge.store import Store

pytestmark = [pytest.mark.live, pytest.mark.slow]

PLAN = """
defaults:
  prelabel: on
  score: {{settle: 1s, at_least: 1, at_latest: 5s}}
  push: on
  sync: 10s
projects:
  {target}:
"""


@contextmanager
def serving(world: World, *words: str) -> Iterator[subprocess.Popen[str]]:
    process = world.command.start("serve", *words)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def until(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(process.communicate()[1])
        time.sleep(0.2)


def test_from_submitted_work_to_verified_fixes_without_a_command(studio: Studio, tmp_path: Path) -> None:
    world = make_world(studio, tmp_path, SUBMITTED)
    config = tmp_path / "labelbridge.yaml"
    config.write_text(PLAN.format(target=world.target))
    words = ("--only", "hooks", "--only", "workers", "--config", str(config))

    with Store.open(f"sqlite:///{world.command.home}/labelbridge.db") as store:

        def states() -> dict[str, int]:
            found = store.states(world.target).items()
            return {str(state): count for state, count in found if state not in ("open", "withdrawn")}

        with serving(world, *words) as process:
            until(lambda: states() == {"pushed": 6}, process)
            process.kill()
            process.communicate()
        with serving(world, *words) as process:
            (review,) = store.reviews_of(world.target)
            tasks = world.review_tasks(review.ref)
            assert len(tasks) == 6
            for task in tasks:
                world.answer(task, "accept")
            until(lambda: states() == {"verified": 6}, process)
            world.studio.annotate(world.project.tasks[6], regions((("cat", CAT),)))
            until(lambda: states() == {"pushed": 1, "verified": 6}, process)
            process.send_signal(signal.SIGTERM)
            log = process.communicate(timeout=60)[1]
            assert process.returncode == 0, log
        assert len(world.review_tasks(review.ref)) == 7
    events = [json.loads(line)["event"] for line in log.splitlines()]
    assert "journey_failed" not in events, log
    assert not [name for name in world.command.unfinished if name.endswith(".db")]
    world.command.check_log()
