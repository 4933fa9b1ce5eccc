"""Runs journeys durably in one standing process: killed at any point, the next process goes on where it stopped."""

from __future__ import annotations

import threading
import traceback
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from bridge.errors import LabelbridgeError
from bridge.flows.durable import Step, Stopped, configure_dbos
from bridge.store.engine import explained

#: Takes the journey of a name through a target, in steps, and says in a sentence what came of it.
Work = Callable[[str, str, Step], str]

_CUT_OFF = ("PENDING", "ENQUEUED")
_POLL_S = 0.05


@contextmanager
def _told() -> Iterator[None]:
    """What the database of the checkpoints says, in our words."""
    try:
        yield
    except SQLAlchemyError as error:
        raise explained(error, "of the checkpoints") from error


def _name(journey: str, target: str) -> str:
    return f"{journey} {target}"


class Engine:
    """Journeys as DBOS workflows, several at a time; each target's one after the other, which its caller sees to.

    A workflow is called after its journey and target. So whoever runs that journey next, in whatever process, finds the
    one that was cut off and goes on with it. Nothing is resumed unasked: what its target's plan no longer wants stays
    where it is.

    Args:
        url: database of the checkpoints, as SQLAlchemy spells it; every process of a service has the same.
        version: the program's. What another version left unfinished is started from its beginning.
        work: what is run; called with the same arguments, it must call the same steps in the same order.
    """

    def __init__(self, url: str, version: str, work: Work) -> None:
        self._url = url
        self._version = version
        self._work = work
        self._stopped = threading.Event()

    @_told()
    def start(self) -> None:
        """Ready for :meth:`run`. A process can have one engine at a time.

        Raises:
            StoreError: the checkpoints cannot be read or written.
        """
        from dbos import DBOS

        # A name of its own for each process: DBOS would take up by itself what an earlier one of the same name left.
        configure_dbos(self._url, uuid.uuid4().hex, self._version)

        @DBOS.workflow(name="journey", max_recovery_attempts=None)
        def run(journey: str, target: str) -> str:
            return self._journey(journey, target)

        self._workflow = run
        DBOS.launch()

    @_told()
    def cut_off(self, journeys: Collection[str], target: str) -> set[str]:
        """Those that an earlier process began and did not end, so that :meth:`run` goes on with them.

        Raises:
            StoreError: the checkpoints cannot be read.
        """
        from dbos import DBOS

        names = {_name(journey, target): journey for journey in journeys}
        found = DBOS.list_workflows(
            workflow_ids=list(names),
            status=list(_CUT_OFF),
            app_version=self._version,
            load_input=False,
            load_output=False,
        )
        return {names[status.workflow_id] for status in found}

    @_told()
    def run(self, journey: str, target: str) -> str:
        """Run a journey through a target, or go on with the one that was cut off. The caller holds the target.

        Raises:
            LabelbridgeError: whatever a step raised; the next time, it starts from its beginning.
            StoreError: the checkpoints cannot be read or written; the next time, it goes on.
        """
        from dbos import DBOS, SetWorkflowID

        name = _name(journey, target)
        found = DBOS.get_workflow_status(name)
        if found is not None and found.status in _CUT_OFF and found.app_version == self._version:
            handle = DBOS.resume_workflow(name)
        else:
            if found is not None:
                DBOS.delete_workflow(name)
            with SetWorkflowID(name):
                handle = DBOS.start_workflow(self._workflow, journey, target)
        finished = False
        try:
            outcome: str = handle.get_result(polling_interval_sec=_POLL_S)
            finished = True
        except LabelbridgeError:
            finished = True
            raise
        finally:
            if finished:
                DBOS.delete_workflow(name)
        return outcome

    def stop(self) -> None:
        """Let each step that is under way end, and begin no further one; what is unfinished stays so."""
        from dbos import DBOS

        self._stopped.set()
        DBOS.destroy(destroy_registry=True)

    def _journey(self, journey: str, target: str) -> str:
        from dbos import DBOS

        def step(name: str, work: Callable[[], Any]) -> Any:
            if self._stopped.is_set():
                raise Stopped
            return DBOS.run_step({"name": name}, work)

        try:
            return self._work(journey, target, step)
        except LabelbridgeError:
            raise
        except Exception as error:
            # An outcome goes through the database, and only what is noted on an error comes with it.
            error.add_note(traceback.format_exc())
            raise
