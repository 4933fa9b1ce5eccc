"""The command that connects a tool to this labelbridge."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from bridge import wiring
from bridge.commands.lookup import label_studio
from bridge.commands.options import (
    AsJson,
    Config,
    Target,
)
from bridge.console import Output
from bridge.errors import ConfigError
from bridge.service.set_up import remove_hooks, settle_hooks
from bridge.settings import Settings
from bridge.store import Store
from bridge.tools.cvat import Cvat
from bridge.tools.label_studio_connect import connect as connect_backend
from bridge.tools.label_studio_connect import disconnect as disconnect_backend


def connect(
    target: Target,
    backend_url: Annotated[
        str | None, typer.Option("--backend-url", help="The model server's address as Label Studio sees it.")
    ] = None,
    only_hooks: Annotated[bool, typer.Option("--only-hooks", help="Webhooks alone, without the model server.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Disconnect instead, webhooks included.")] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Connect a Label Studio project to the running model server, and tell the tool where to send its webhooks.

    Webhooks need the setting hooks_secret. In CVAT they are all that is set up: it finds the model server by itself.
    """
    output, settings = Output(as_json), Settings.load(config)
    tool = wiring.open_target(target, settings)
    with Store.open(settings.store_url) as store:
        reviews = store.reviews_of(target)
    studio = None if only_hooks or isinstance(tool, Cvat) else label_studio(tool)
    server = wiring.backend(settings, backend_url)
    if remove:
        gone = disconnect_backend(studio.client, studio.project_id, server.url) if studio else 0
        hooks = remove_hooks(tool, reviews)
        if studio:
            output.say(
                f"Disconnected {server.url} from {target}." if gone else f"{server.url} was not connected to {target}."
            )
        output.say(f"{hooks} webhooks of {target} removed.")
        output.value({"disconnected": gone, "webhooks": hooks})
        return
    hook = wiring.hook_address(settings)
    if hook is None and studio is None:
        raise ConfigError(
            "LABELBRIDGE_HOOKS_SECRET is not set",
            expected="a secret of 16 characters or more, which the tool proves itself with",
            todo="Set it here and where `labelbridge serve` runs",
        )
    made: dict[str, Any] = {"warnings": ()}
    if studio:
        connection = connect_backend(studio.client, studio.project_id, server)
        output.say(f"{connection.url} is {'now' if connection.created else 'still'} connected to {target}.")
        made = asdict(connection)
    why_not = settle_hooks(tool, hook, reviews) if hook else ()
    made |= {"webhook": hook is not None and not why_not, "warnings": (*made["warnings"], *why_not)}
    for warning in made["warnings"]:
        output.warn(warning)
    if hook is None:
        output.say("No webhooks, as LABELBRIDGE_HOOKS_SECRET is not set: changes are found by polling.")
    elif not why_not:
        output.say(f"Webhooks of {target} go to {hook.base}.")
    output.value(made)
