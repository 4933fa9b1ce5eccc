"""`labelbridge backup` and `restore`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bridge import wiring
from bridge.backup.make import make_backup
from bridge.backup.restore import restore_backup
from bridge.commands.options import AsJson, Config
from bridge.console import Output
from bridge.settings import Settings

_ELSEWHERE = "The database is on a server and not in the backup: use pg_dump and pg_restore for it."


def backup(
    file: Annotated[Path, typer.Argument(help="The archive to write, as in labelbridge-monday.tar.")],
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Write the data folder into one archive, also while labelbridge is running. Keep it as safe as the folder."""
    output, settings = Output(as_json), Settings.load(config)
    made = make_backup(settings.home, settings.store_url, file, at=wiring.utc_now(), version=wiring.program_version())
    for name in made.skipped:
        output.warn(f"Left out, as it is a link or no plain file: {name}")
    for problem in made.problems:
        output.warn(f"The audit log is broken: {problem}")
    if made.manifest.database != "sqlite":
        output.warn(_ELSEWHERE)
    size = sum(member.size for member in made.manifest.files.values())
    output.say(f"{len(made.manifest.files)} files, {size / 1e6:.1f} MB: {file}")
    output.say(f"The audit log ends with {made.manifest.head}")
    output.value({**asdict(made), "manifest": made.manifest.to_dict()})


def restore(
    file: Annotated[Path, typer.Argument(help="The archive that `labelbridge backup` wrote.")],
    force: Annotated[
        bool, typer.Option("--force", help="Set aside what is in the data folder; accept a broken audit log.")
    ] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Put a backup into an empty data folder, after checking every file and the audit log."""
    output, settings = Output(as_json), Settings.load(config)
    done = restore_backup(file, settings.home, settings.store_url, force=force, at=wiring.utc_now())
    for problem in done.problems:
        output.warn(f"The audit log is broken: {problem}")
    if done.manifest.database != "sqlite":
        output.warn(_ELSEWHERE)
    if done.aside is not None:
        output.say(f"What was there before is in {done.aside}")
    output.say(f"{len(done.manifest.files)} files of {done.manifest.made_at} are back in {settings.home}")
    output.say(f"The audit log ends with {done.manifest.head}")
    output.value({**asdict(done), "manifest": done.manifest.to_dict()})
