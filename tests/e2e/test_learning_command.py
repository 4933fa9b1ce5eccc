"""A lead at the command line, on a fake CVAT: verdicts change what is pushed, and a sample tells how much is left."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cvat_world import Case, CvatWorld, Picture, Straight, open_desk
from fakes.cvat_server import FakeCvat
from fakes.pictures import CAT, ELSEWHERE, TRUTH
from typer.testing import CliRunner

from bridge import wiring
from bridge.cli import app
from bridge.errors import UsageError

EACH = 12
PICTURES = [Picture(TRUTH, (("cat", CAT),)), Picture(TRUTH, (*TRUTH, ("cat", ELSEWHERE)))] * EACH

Command = Callable[..., str]


@pytest.fixture
def world() -> Iterator[CvatWorld]:
    """Twelve missing dogs, and twelve cats too many."""
    with FakeCvat("2.80") as server:
        yield CvatWorld(server, Case("2.80", "owner"), PICTURES)


@pytest.fixture
def command(world: CvatWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command line on the scored target; what it prints."""
    monkeypatch.chdir(tmp_path)
    for name, value in (("URL", world.server.url), ("USER", world.user), ("PASSWORD", "secret")):
        monkeypatch.setenv(f"LABELBRIDGE_CVAT_{name}", value)
    monkeypatch.setenv("LABELBRIDGE_HOME", str(tmp_path / "home"))
    # The workflow engine would keep the stream to which a command's output goes.
    monkeypatch.setattr(wiring, "Durable", lambda folder, version: Straight())
    with open_desk(world, tmp_path / "home") as desk:
        desk.score()

    def run(name: str, *words: str) -> str:
        result = CliRunner().invoke(app, [name, world.target, *words])
        if result.exception:
            raise result.exception
        return " ".join(result.output.split()) if "--json" not in words else result.stdout

    return run


def undecided(command: Command, error: str) -> list[dict[str, Any]]:
    return list(json.loads(command("findings", "--type", error, "--state", "open", "--json")))


def answer(world: CvatWorld, command: Command, **words: str) -> None:
    """The reviewer answers every issue, by the error type of its finding."""
    for finding in json.loads(command("findings", "--state", "pushed", "--json")):
        world.say(int(finding["pushed"][0]["ref"]), words[finding["error"]])


def test_verdicts_decide_what_is_pushed_next(world: CvatWorld, command: Command, tmp_path: Path) -> None:
    first = command("findings")
    assert "Run " in first
    assert "24 of 24 findings" in first
    assert "in the next 24 findings (by the scores alone, no verdicts yet)." in first
    before = {f["id"]: f for e in ("missing", "extra") for f in undecided(command, e)}
    assert all(f["probability"] == f["score"] for f in before.values())

    assert "6 findings pushed for review" in command("push", "--type", "extra", "--limit", "6")
    command("push", "--type", "missing", "--limit", "4")
    answer(world, command, extra="reject", missing="accept")
    told = command("sync")
    assert "Verdicts: 4 accept, 6 reject." in told
    assert "0.00 to 0.39" in told  # of six, none was real
    assert "in the next 8 findings (learned from 10 verdicts)." in told

    assert all(f["probability"] < 0.5 <= f["score"] for f in undecided(command, "extra"))
    assert all(f["probability"] >= f["score"] for f in undecided(command, "missing"))
    everything = json.loads(command("findings", "--json"))
    assert [f["value"] for f in everything] == sorted((f["value"] for f in everything), reverse=True)
    assert {f["id"]: f["score"] for f in everything} == {i: f["score"] for i, f in before.items()}

    pushed = command("push")
    assert "8 findings pushed for review" in pushed
    again = f"labelbridge push {world.target} --min-score 0.5"
    assert "Held back: 6 findings that score 0.5 or more, as reviewers rejected most of their like." in pushed
    assert again in pushed
    assert "6 findings pushed for review" in command("push", "--min-score", "0.5")

    command("report", "--out", "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "real errors in the next 14 findings (learned from 10 verdicts)." in page


def test_a_sample_tells_how_many_are_real(world: CvatWorld, command: Command, tmp_path: Path) -> None:
    told = command("push", "--sample", "50%")
    assert "12 findings pushed for review" in told
    assert "0 of 12 sampled findings have a verdict: no estimate of the rate of errors yet." in told
    run = json.loads(CliRunner().invoke(app, ["runs", world.target, "--json"]).stdout)[0]["id"]
    assert f"the sample of run {run} is up for review already" in command("push", "--sample", "12")
    with pytest.raises(UsageError, match="has a sample of 12 findings already, not of 5"):
        command("push", "--sample", "5")

    answer(world, command, extra="reject", missing="accept")
    synced = json.loads(command("sync", "--json"))
    sample = synced["outlook"]["sample"]
    assert (sample["drawn"], sample["judged"], sample["total"]) == (12, 12, 24)
    assert sample["rate"]["low"] < 0.5 < sample["rate"]["high"]
    assert sample["left"]["value"] == pytest.approx(6)
    sentence = f"By the sample of run {run}, 50% of its 24 undecided findings were real errors (95 % interval"
    assert sentence in command("findings")
    command("report", "--out", "report.html")
    assert sentence in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("words", [["--limit", "3"], ["--min-score", "0.5"], ["--type", "extra"], ["--requeue"]])
def test_a_sample_is_of_all(command: Command, words: list[str]) -> None:
    with pytest.raises(UsageError, match="drawn from all undecided findings"):
        command("push", "--sample", "5", *words)


def test_words_that_are_no_size(command: Command) -> None:
    with pytest.raises(UsageError, match="a sample of 'some'"):
        command("push", "--sample", "some")
