"""The commands, one after another for ever, in one process: what somebody's cron would do without the service.

``python -m chaos.command_loop LOG COMMAND...``: each command is one argument. After each a line of JSON is added to the
file LOG: when it began and what it answered, None where it failed.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from pathlib import Path
from typing import Any

from bridge.cli import app
from bridge.errors import LabelbridgeError


def run(command: str) -> tuple[Any, str]:
    """What a command prints as JSON, and what it says went wrong."""
    out = io.StringIO()
    error = ""
    try:
        with contextlib.redirect_stdout(out):
            app([*command.split(), "--json"], standalone_mode=False)
    except LabelbridgeError as failed:
        error = f"{type(failed).__name__}: {failed}"
    text = out.getvalue()
    return (json.loads(text) if text.strip() else None), error


def main(log: Path, commands: list[str]) -> None:
    done = log.with_suffix(".begun")
    while True:
        # Goes on behind the command that the last process was killed in, so that each has its turn.
        number = int(done.read_text() or 0) if done.exists() else 0
        done.write_text(str(number + 1))
        begun, command = time.time(), commands[number % len(commands)]
        value, error = run(command)
        if error:
            print(command, error, file=sys.stderr, flush=True)
        line = {"command": command.split()[0], "begun": begun, "value": value, "error": error}
        with log.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
