"""The standing service: watching, deciding and doing, in threads of one process, until it is told to stop."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime

from bridge import wiring
from bridge.clients import Clients, watchful
from bridge.core.policy import Journey
from bridge.errors import ConfigError
from bridge.listening import ServerThread, listen, url_of
from bridge.logs import Log, json_logger
from bridge.plan import Plan
from bridge.service.dispatcher import Dispatcher
from bridge.service.engine import Engine
from bridge.service.journeys import Journeys
from bridge.service.parts import Part
from bridge.service.receiver import NO_SECRET, make_receiver
from bridge.service.reconciler import Reconciler
from bridge.service.watched import watched
from bridge.store import Store
from bridge.tools import AnnotationTool
from bridge.tools.hooks import PATHS


def utc_now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def standing(plan: Plan, parts: Collection[Part]) -> Iterator[None]:
    """Receive webhooks and work, for as long as the block runs. The model server is the caller's.

    Raises:
        ConfigError: there are no projects to work for, or the port of the webhooks is taken.
    """
    wanted = {Part.HOOKS, Part.WORKERS} & set(parts)
    if wanted and not plan.projects:
        raise ConfigError(
            "there are no projects in the settings file",
            expected="a section `projects` that says what to do in which",
            todo="`labelbridge init` writes one",
        )
    log = json_logger(sys.stderr, plan.settings.secrets)
    with ExitStack() as stack:
        store = stack.enter_context(Store.open(plan.settings.store_url))
        workers = stack.enter_context(_working(plan, store, log)) if Part.WORKERS in wanted else None
        if Part.HOOKS in wanted:
            stack.enter_context(_receiving(plan, store, workers or (lambda: None), log))
        yield


def wait_for_the_end() -> None:
    """Until the process is told to stop."""
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


def stop_when_terminated() -> None:
    """Let SIGTERM, which `docker stop` sends, end this process as Ctrl-C does: after what is under way."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextmanager
def _working(plan: Plan, store: Store, log: Log) -> Iterator[Callable[[], None]]:
    """Watch and work; hands out what wakes the watch."""
    _note_policies(plan, store)
    journeys = Journeys(plan, store, now=utc_now, log=log)
    engine = Engine(wiring.checkpoints_url(plan.settings), wiring.program_version(), journeys.take)
    policies = {target: project.policy for target, project in plan.projects.items()}

    def run(journey: Journey, target: str) -> str:
        return engine.run(journey, target)

    def cut_off(target: str) -> Collection[str]:
        return engine.cut_off(tuple(Journey), target)

    dispatcher = Dispatcher(store, policies, run, cut_off, now=utc_now, log=log, workers=plan.settings.workers)

    clients = Clients(plan.settings, watchful(plan.settings))

    def open_tool(target: str) -> AnnotationTool:
        return wiring.open_target(target, plan.settings, clients=clients)

    reconciler = Reconciler(store, open_tool, tuple(plan.projects), utc_now, log)
    stop, wake = threading.Event(), threading.Event()
    watching = threading.Thread(
        target=reconciler.run, args=(stop, wake, lambda _target: dispatcher.wake()), name="reconciler"
    )
    working = threading.Thread(target=dispatcher.serve, name="dispatcher")
    engine.start()
    watching.start()
    working.start()
    log.info("working", projects=len(plan.projects))
    try:
        yield wake.set
    finally:
        stop.set()
        wake.set()
        engine.stop()
        dispatcher.stop()
        watching.join()
        working.join()


def _note_policies(plan: Plan, store: Store) -> None:
    """What is done by itself from now on, into the audit log, where that is not what was done before."""
    for target, project in plan.projects.items():
        told = json.dumps(
            {"policy": asdict(project.policy), "model": project.model.detector or "embedded"}, default=str
        )
        store.note("policy", target, json.loads(told), utc_now().isoformat(timespec="seconds"))


@contextmanager
def _receiving(plan: Plan, store: Store, wake: Callable[[], None], log: Log) -> Iterator[None]:
    settings = plan.settings
    secret = settings.hooks_secret.get_secret_value() if settings.hooks_secret else ""
    with watched(plan.projects, store, log) as wanted:
        app = make_receiver(store, dict.fromkeys(PATHS, secret), wake, utc_now, watched=wanted)
        listener = listen(settings.hooks_host, settings.hooks_port)
        thread = ServerThread(app, listener)
        thread.start()
        log.info("listening_for_webhooks", url=url_of(listener))
        if not secret:
            log.warning("webhooks_refused", reason=str(NO_SECRET))
        try:
            yield
        finally:
            thread.stop()
