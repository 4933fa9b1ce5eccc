"""One storm: people at work, a tool and webhooks that fail, a product that is killed; then the comparison."""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from chaos.cvat_people import CvatPeople
from chaos.hook_proxy import HookProxy
from chaos.label_studio_people import LabelStudioPeople
from chaos.ledger import Ledger
from chaos.product import Commands, Killer, environment, score_command
from chaos.service import Service
from chaos.tool_proxy import ToolProxy
from chaos.truth import compare
from fakes import colour_detector
from fakes.cvat_server import FakeCvat

from bridge.demo.label_studio_server import LabelStudioServer, default_venv

_SHOWN = 60
#: Submissions that are scored and up for review when the storm begins.
_PREPARED = 12


@dataclass
class Outcome:
    """Figures of one storm, and every difference from what should be true."""

    seed: int
    operations: Counter[str]
    seconds: float
    kills: int = 0
    ends: int = 0
    requests: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    hooks: Counter[str] = field(default_factory=Counter)
    held_back: int = 0
    answers: int = 0
    fixes: int = 0
    differences: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join(
            (
                f"seed {self.seed}, {self.seconds:.0f} s",
                f"  {self.operations.total()} operations: {_listed(self.operations)}",
                f"  {self.kills} kills, {self.ends} times the product ended by itself",
                f"  {self.requests} requests to the tool, {self.failed.total()} failed: {_listed(self.failed)}",
                f"  webhooks: {_listed(self.hooks)}",
                f"  {self.answers} answers, {self.fixes} objects changed by fixes, {self.held_back} edits held back",
                *(f"  WRONG: {sentence}" for sentence in self.differences[:_SHOWN]),
                f"  {len(self.differences)} differences" if self.differences else "  all is as it should be",
            )
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{n} {name}" for name, n in sorted(counts.items())) or "none"


@dataclass(frozen=True, slots=True)
class Weather:
    """How hard it storms.

    Attributes:
        failing: share of the tool's answers that fail.
        pause_s: seconds between two operations.
        alive_s: seconds that the product lives on average before it is killed.
        patience_s: seconds that it may take to become quiet after the storm.
        product: what is put to the test.
    """

    failing: float = 0.05
    pause_s: float = 0.2
    alive_s: float = 8.0
    patience_s: float = 600.0
    product: type[Service | Commands] = Service


def on_label_studio(server: LabelStudioServer, folder: Path, operations: int, seed: int, weather: Weather) -> Outcome:
    """A storm over a project of its own in a running Label Studio."""
    people = LabelStudioPeople(server, seed, Ledger())
    settings = {"label_studio_api_key": server.token}
    return _storm(people, server.url, "label_studio_url", settings, folder, operations, seed, weather)


def on_cvat(folder: Path, operations: int, seed: int, weather: Weather) -> Outcome:
    """A storm over a fake CVAT."""
    with FakeCvat() as server:
        people = CvatPeople(server, seed, Ledger())
        settings = {"cvat_token": people.token, "request_timeout_s": "1"}  # the fake answers within milliseconds
        return _storm(people, server.url, "cvat_url", settings, folder, operations, seed, weather)


def _storm(
    people: LabelStudioPeople | CvatPeople,
    url: str,
    url_setting: str,
    settings: dict[str, str],
    folder: Path,
    operations: int,
    seed: int,
    weather: Weather,
) -> Outcome:
    home, fresh, secret = folder / "home", folder / "fresh", "a-secret-of-the-storm"
    for one in (home, fresh):
        one.mkdir(parents=True)
    plugins = colour_detector.offer(folder / "plugin")
    settings = {"request_timeout_s": "3"} | settings | {"page_size": "10", "push_chunk": "10"}
    begun = time.monotonic()
    port = free_port()
    with (
        ToolProxy(url, seed, people.watch) as proxy,
        HookProxy(seed, f"http://127.0.0.1:{port}") as hooks,
        people.hooked(hooks.url, secret),
    ):
        receiving = {"hooks_port": str(port), "hooks_secret": secret}
        env = environment(home, settings | receiving | {url_setting: proxy.url}, plugins)
        product = weather.product(home, people.target)
        killer = Killer(product, env, folder / "product.log", seed, weather.alive_s)
        killer.start()
        try:
            for _ in range(_PREPARED):
                people.submit()
            if not killer.settle(weather.patience_s):
                raise RuntimeError(f"the product was never ready: see {folder}/product.log")
            proxy.rate = weather.failing
            killer.trouble()
            for number in range(1, operations + 1):
                people.step()
                time.sleep(weather.pause_s)
                if number % 500 == 0:
                    print(f"seed {seed}: {number} operations after {time.monotonic() - begun:.0f} s", flush=True)
            proxy.rate = 0.0
            quiet = killer.settle(weather.patience_s)
        finally:
            killer.stop()
        outcome = Outcome(
            seed=seed,
            operations=people.done,
            seconds=time.monotonic() - begun,
            kills=killer.kills,
            ends=killer.ends,
            requests=proxy.requests,
            failed=proxy.failed,
            hooks=hooks.told,
            held_back=people.ledger.held_back,
            answers=len(people.ledger.answers),
            fixes=sum(change.by_product for change in people.ledger.changes),
        )
    if not quiet:
        outcome.differences.append(f"It was not quiet {weather.patience_s:.0f} s after the storm.")
    env = environment(fresh, settings | {url_setting: url}, plugins)
    subprocess.run(
        [sys.executable, "-m", "bridge", *score_command(people.target)], env=env, check=True, capture_output=True
    )
    outcome.differences += compare(people, home, fresh)
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--tool", choices=("label-studio", "cvat"), default="label-studio")
    parser.add_argument("--product", choices=("service", "commands"), default="service", help="what is killed")
    parser.add_argument("--operations", type=int, default=2000)
    parser.add_argument("--seed", type=int, action="append", help="may be repeated")
    parser.add_argument("--failing", type=float, default=0.05, help="share of the tool's answers that fail")
    parser.add_argument("--pause", type=float, default=0.2, help="seconds between two operations")
    parser.add_argument("--alive", type=float, default=8.0, help="seconds between two kills, on average")
    parser.add_argument("--patience", type=float, default=600.0, help="seconds to become quiet after the storm")
    parser.add_argument("--folder", type=Path, help="where everything is kept; by default nothing is")
    asked = parser.parse_args()
    product = {"service": Service, "commands": Commands}[asked.product]
    weather = Weather(asked.failing, asked.pause, asked.alive, asked.patience, product)
    wrong = 0
    with ExitStack() as stack:
        folder = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = LabelStudioServer(default_venv(Path.home() / ".labelbridge"), folder / "label-studio", print)
        if asked.tool == "label-studio":
            stack.enter_context(server)
        for seed in asked.seed or [1]:
            place = folder / f"seed-{seed}"
            if asked.tool == "cvat":
                outcome = on_cvat(place, asked.operations, seed, weather)
            else:
                outcome = on_label_studio(server, place, asked.operations, seed, weather)
            print(outcome, flush=True)
            wrong += len(outcome.differences)
    return min(wrong, 1)
