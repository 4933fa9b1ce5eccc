"""Label Studio's webhooks: a fixed header, no signature, one second of patience, one attempt.

A body holds the whole project, with the token that invites people into it. Nothing of a body is kept or logged but the
event, the number of the project and a time.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

from bridge.errors import DataError
from bridge.service.hook import Told, moment_of
from bridge.tools.hooks import LABEL_STUDIO, LABEL_STUDIO_EVENTS, TOKEN_HEADER

#: Label Studio sends the plural, with ids only; its own SDK listens for the singular, and proxies may send it.
_EVENTS = frozenset((*LABEL_STUDIO_EVENTS, "ANNOTATION_DELETED", "TASK_DELETED"))
#: Where an event keeps what it is about, which has the time. What was deleted has none.
_SUBJECTS = {
    "ANNOTATION_CREATED": "annotation",
    "ANNOTATIONS_CREATED": "annotation",
    "ANNOTATION_UPDATED": "annotation",
    "TASKS_CREATED": "tasks",
    "PROJECT_UPDATED": "project",
}


class LabelStudioHook:
    """See :class:`bridge.service.hook.Hook`. An import of thousands of tasks sends all of them in one body."""

    tool = LABEL_STUDIO
    max_body_bytes = 8 * 2**20

    def may_speak(self, headers: Mapping[str, str], secret: str) -> bool:
        shown = headers.get(TOKEN_HEADER, "")
        return hmac.compare_digest(shown.encode(), secret.encode())

    def is_genuine(self, headers: Mapping[str, str], secret: str, body: bytes) -> bool:
        del body
        return self.may_speak(headers, secret)

    def read(self, body: Mapping[str, Any], place: str) -> Told | None:
        del place
        event = body.get("action")
        if not isinstance(event, str) or event not in _EVENTS:
            return None
        project = body.get("project")
        number = project.get("id") if isinstance(project, dict) else None
        if not isinstance(number, int) or isinstance(number, bool):
            raise DataError(
                f"the event {event} names no project",
                expected="a webhook of a project that sends its payload",
                todo='Set it up with `labelbridge connect ls:project/N`, or switch "Send payload" on',
            )
        subject = body.get(_SUBJECTS.get(event, ""))
        rows = subject if isinstance(subject, list) else [subject]
        moment = moment_of(*(row.get("updated_at") for row in rows if isinstance(row, dict)))
        return Told(event, (f"ls:project/{number}",), moment)
