"""What a terminal gets to see of texts that anybody wrote."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from bridge.console import Output
from bridge.errors import DataError

#: A title for the window, the clipboard, a cleared screen, eight-bit controls, a name that reads backwards, a bell.
EVIL = "a\x1b]0;gotcha\x07\x1b]52;c;aGk=\x07\x1b[2J\x9b31m\x9d\u202egnp.exe\u2066\x08\x0d\x7f"
COMMANDS = {"\x1b", "\x07", "\x08", "\r", "\x7f", "\x9b", "\x9d", "\u202e", "\u2066"}


@pytest.fixture
def screen() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def output(screen: io.StringIO) -> Output:
    console = Console(file=screen, highlight=False, no_color=True, force_terminal=False, width=500)
    return Output(out=console, err=console)


def test_nothing_that_a_terminal_obeys_is_printed(output: Output, screen: io.StringIO) -> None:
    output.say(EVIL)
    output.warn(EVIL)
    output.tell(EVIL)
    output.table(EVIL, (EVIL,), [(EVIL,)])
    output.error(DataError(EVIL, expected=EVIL, todo=EVIL))
    shown = screen.getvalue()
    assert not COMMANDS & set(shown)
    assert shown.count("gotcha") == 9
    assert shown.count("\\u001b]0;gotcha") == 9, "and it can still be read"


def test_markup_is_text(output: Output, screen: io.StringIO) -> None:
    output.say("[red]x[/red] [link=file:///etc/passwd]y[/link]")
    assert screen.getvalue() == "[red]x[/red] [link=file:///etc/passwd]y[/link]\n"


def test_lines_and_tabs_stay(output: Output, screen: io.StringIO) -> None:
    output.say("a\n  b")
    assert screen.getvalue() == "a\n  b\n"


def test_in_json_the_value_stays_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    value = {EVIL: [EVIL, "ä\n\t\u4e2d"]}
    Output(as_json=True).value(value)
    shown = capsys.readouterr().out
    assert not COMMANDS & set(shown)
    assert json.loads(shown) == value
