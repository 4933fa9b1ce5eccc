"""CVAT's webhooks: signed with HMAC-SHA256 over the body, ten seconds of patience, one attempt up to 2.22.

No event tells of annotations. Each save of them updates the job: ``update:job``, with nothing but the date among what
it says changed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from typing import Any

from bridge.errors import DataError
from bridge.service.hook import Told, moment_of
from bridge.tools.hooks import CVAT, SIGNATURE_HEADER

_EVENT = re.compile(r"(create|update|delete):(project|task|job|issue|comment)")
_SIGNATURE = re.compile(r"sha256=[0-9a-f]{64}")
_PROJECT = re.compile(r"cvat:project/[1-9]\d{0,17}")


class CvatHook:
    """See :class:`bridge.service.hook.Hook`."""

    tool = CVAT
    max_body_bytes = 2**20

    def may_speak(self, headers: Mapping[str, str], secret: str) -> bool:
        del secret
        return _SIGNATURE.fullmatch(headers.get(SIGNATURE_HEADER, "")) is not None

    def is_genuine(self, headers: Mapping[str, str], secret: str, body: bytes) -> bool:
        expected = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(headers.get(SIGNATURE_HEADER, "").encode(), expected.encode())

    def read(self, body: Mapping[str, Any], place: str) -> Told | None:
        """See :meth:`bridge.service.hook.Hook.read`.

        An issue tells its job only, and a comment not even that, so the address of the webhook names the project.
        """
        event = body.get("event")
        match = _EVENT.fullmatch(event) if isinstance(event, str) else None
        if match is None:
            return None
        verb, noun = match.groups()
        subject = body.get(noun)
        if not isinstance(subject, dict):
            raise DataError(f"the event {event} has no {noun}", expected=f"CVAT's own bodies, with the {noun} changed")
        places = dict.fromkeys(_places(noun, subject))
        if _PROJECT.fullmatch(place):
            places[place] = None
        # What is deleted tells when it was last changed, and not when it was deleted.
        moment = None if verb == "delete" else moment_of(subject.get("updated_date"))
        return Told(match[0], tuple(places), moment)


def _places(noun: str, subject: Mapping[str, Any]) -> Iterator[str]:
    numbers = {"job": subject.get("job"), "task": subject.get("task_id"), "project": subject.get("project_id")}
    if noun in numbers:
        numbers[noun] = subject.get("id")
    for kind, number in numbers.items():
        if isinstance(number, int) and not isinstance(number, bool) and number > 0:
            yield f"cvat:{kind}/{number}"
