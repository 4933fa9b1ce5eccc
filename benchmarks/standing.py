"""24 simulated hours of the reconciler at 200 projects: requests, memory, and seconds from a change to its notice.

    python benchmarks/standing.py [--hours 24] [--projects 200] [--webhooks]

The projects are in memory and the clock is the world's own (tests/fakes/standing_world.py); the reconciler, the log of
changes and the store (SQLite) are the real ones. Ten projects are busy by day, the others see a change every few hours.
One takes 25 s for each request; one answers 500 for six hours; one answers 429 with Retry-After for two; the whole
server is down for one. With --webhooks every change sends one, and one in ten gets lost.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from fakes.standing_world import World, broken, busy, down

from bridge.store import Store

HOUR = 3600.0
BUSY_EVERY_S, QUIET_EVERY_S = 60.0, 3 * HOUR
DAY = (8 * HOUR, 16 * HOUR)
LOST = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--projects", type=int, default=200)
    parser.add_argument("--tasks", type=int, default=1000, help="in each project")
    parser.add_argument("--webhooks", action="store_true")
    parser.add_argument("--folder", help="where the store is made; a disk in memory makes it quicker")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    targets = [f"ls:project/{n}" for n in range(1, options.projects + 1)]
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as folder,
        Store.open(f"sqlite:///{folder}/labelbridge.db") as store,
    ):
        world = World(store, targets, options.seed, options.tasks)
        people(world, targets, options.hours * HOUR, webhooks=options.webhooks)
        troubles(world, targets)
        before, began = peak_mib(), time.monotonic()
        for hour in range(int(options.hours)):
            world.run((hour + 1) * HOUR)
        world.run(options.hours * HOUR + 1300)
        report(world, targets, options.hours, webhooks=options.webhooks)
        took = time.monotonic() - began
        print(f"peak memory {peak_mib():.0f} MiB, {peak_mib() - before:.0f} of them since the start; took {took:.0f} s")


def people(world: World, targets: list[str], until: float, *, webhooks: bool) -> None:
    """Schedules everybody's changes."""
    for index, target in enumerate(targets):
        second = 0.0
        while True:
            busy_now = index < 10 and DAY[0] <= second < DAY[1]
            second += world.random.expovariate(1 / (BUSY_EVERY_S if busy_now else QUIET_EVERY_S))
            if second >= until:
                break
            number = world.random.choice(list(world.projects[target].tasks.entries))
            told = webhooks and world.random.random() >= LOST
            world.at(second, lambda t=target, n=number, w=told: world.change(t, n, webhook=w))  # type: ignore[misc]


def troubles(world: World, targets: list[str]) -> None:
    slow, failing, refusing = (world.projects[target] for target in targets[20:23])
    slow.takes_s = 25.0

    def be(project: object, trouble: Exception | None) -> None:
        project.trouble = trouble  # type: ignore[attr-defined]

    world.at(6 * HOUR, lambda: be(failing, broken()))
    world.at(12 * HOUR, lambda: be(failing, None))
    world.at(9 * HOUR, lambda: be(refusing, busy(120.0)))
    world.at(11 * HOUR, lambda: be(refusing, None))
    world.at(18 * HOUR, lambda: setattr(world, "server_trouble", down()))
    world.at(19 * HOUR, lambda: setattr(world, "server_trouble", None))


def report(world: World, targets: list[str], hours: float, *, webhooks: bool) -> None:
    kinds = dict.fromkeys(targets, "quiet") | dict.fromkeys(targets[:10], "busy")
    kinds |= dict(zip(targets[20:23], ("slow", "failing", "refusing"), strict=True))
    by_hour: dict[str, Counter[int]] = {kind: Counter() for kind in ("busy", "quiet", "slow", "failing", "refusing")}
    for at, target in world.requests:
        by_hour[kinds[target]][int(at // HOUR)] += 1
    seconds = Counter(int(at) for at, _ in world.requests)
    noticed = world.noticed
    heard = "on" if webhooks else "off"
    print(f"{len(targets)} projects, {hours:g} hours, {noticed.changes.total()} changes, webhooks {heard}")
    print(f"requests: {len(world.requests) / hours:.0f} an hour, at most {max(seconds.values())} a second")
    for kind, counts in by_hour.items():
        each = [counts[hour] for hour in range(int(hours))]
        mean = sum(each) / len(each)
        print(f"  {kind:9} {mean:6.0f} an hour, {max(each):5} in the busiest, {min(each):5} in the calmest")
    for name, which in (("busy", {"busy"}), ("quiet", {"quiet"}), ("both", {"busy", "quiet"})):
        found = sorted(late for target, late in noticed.latencies if kinds[target] in which)
        at = [found[min(int(len(found) * share / 100), len(found) - 1)] for share in (50, 95, 99)]
        spread = ", ".join(f"p{share} {late:.1f} s" for share, late in zip((50, 95, 99), at, strict=True))
        print(f"notice after, {name}: {spread}, at most {found[-1]:.0f} s (the outage counts)")
    again = sum(max(0, times - noticed.changes[key]) for key, times in noticed.notes.items())
    print(f"lost: {len(noticed.pending)}, noted twice: {again}")


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
