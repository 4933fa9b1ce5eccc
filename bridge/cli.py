"""The command line: which commands there are, and what becomes of errors."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from bridge import wiring
from bridge.commands import audit
from bridge.commands.backup import backup, restore
from bridge.commands.connect import connect
from bridge.commands.decide import accept, undo
from bridge.commands.demo import demo
from bridge.commands.doctor import doctor
from bridge.commands.export import export
from bridge.commands.findings import findings, runs
from bridge.commands.issues import issues
from bridge.commands.plan import init, plan
from bridge.commands.prelabel import prelabel, suggestions
from bridge.commands.push import push
from bridge.commands.report import report
from bridge.commands.score import score
from bridge.commands.serve import serve
from bridge.commands.status import status
from bridge.commands.sync import send_back, sync
from bridge.commands.train import train
from bridge.console import Output
from bridge.errors import LabelbridgeError

app = typer.Typer(
    name="labelbridge",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Suggestions in the editor your annotators use, and their likely label errors back as review work.",
    epilog=(
        "Exit status: 0 done, 1 error, 2 wrong words, 3 settings, 4 data, 5 annotation tool, 6 model, "
        "7 data folder, 8 done but for some items, 9 plugin, 130 stopped with Ctrl-C."
    ),
)


def _show_version(wanted: bool) -> None:
    if wanted:
        Output().say(f"labelbridge {wiring.program_version()}")
        raise typer.Exit


@app.callback()
def _of_every_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    del version  # its callback has seen to it


app.add_typer(audit.app, name="audit")
app.command()(init)
app.command()(plan)
app.command()(status)
app.command()(backup)
app.command()(restore)
app.command()(export)
app.command()(prelabel)
app.command()(score)
app.command()(train)
app.command()(runs)
app.command()(findings)
app.command()(push)
app.command()(sync)
app.command()(accept)
app.command()(undo)
app.command("send-back")(send_back)
app.command()(suggestions)
app.command()(issues)
app.command()(report)
app.command()(serve)
app.command()(connect)
app.command()(doctor)
app.command()(demo)


def main() -> None:
    """Entry point of the console command: no traceback for anything labelbridge raises on purpose."""
    # PyTorch's threads otherwise spin while they wait, and on a busy machine make one another many times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except LabelbridgeError as error:
        Output("--json" in sys.argv).error(error)
        raise SystemExit(error.exit_status) from None
    except SystemExit as ended:
        if ended.code != 130:  # what Typer makes of Ctrl-C
            raise
        Output().err.print("Stopped. Run the same command again to go on.")
        sys.stdout.flush()
        # A step may be waiting for an answer that never comes. It is left as a crash would leave it, which is safe.
        os._exit(130)
