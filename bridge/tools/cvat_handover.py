"""Whose turn a job is: to its reviewer, and back to the annotator, whom CVAT forgets in between.

CVAT has one assignee for each job and no reviewer. So whoever annotated is remembered outside of it before the job
changes hands, is named as the annotator while the job is being reviewed, and gets it back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bridge.core.tool_memory import ToolMemory
from bridge.errors import AuthError, NotFound, ToolError
from bridge.tools.cvat_client import CvatClient, Row
from bridge.tools.cvat_layout import Job, job_url

_WHO_MAY = "the owner or assignee of its task or project, a maintainer of its organization, or an administrator"


@dataclass(frozen=True, slots=True)
class SentBack:
    """A job that is its annotator's again; ``annotator`` is empty where nobody is known to have annotated it."""

    job: int
    annotator: str
    url: str


class Handover:
    """Moves jobs between people."""

    def __init__(self, client: CvatClient, memory: ToolMemory) -> None:
        self._client = client
        self._memory = memory
        self._users: dict[str, int] = {}

    def to_review(self, job: Job, reviewer: str) -> None:
        """Stage *validation*, state *new*, for the reviewer. A job that is past *annotation* is left as it is.

        Args:
            reviewer: the user's name; empty: the job keeps the assignee that it has.

        Raises:
            ToolError: this user may not set the stage or the assignee; nothing was changed.
        """
        if job.stage != "annotation":
            return
        fields: Row = {"stage": "validation", "state": "new"}
        if reviewer and reviewer != job.assignee:
            fields["assignee"] = self.user_id(reviewer)
        if job.assignee:
            self._memory.remember_annotator(self.place(job), job.assignee)
        self._patch(job, fields, "go to review")

    def send_back(self, jobs: Iterable[Job]) -> list[SentBack]:
        """Stage *annotation*, state *rejected*, for the annotator that is remembered. One that is there is left alone.

        Raises:
            ToolError: this user may not do that; the jobs before it were sent back.
        """
        annotators = self._memory.annotators()
        sent = []
        for job in jobs:
            if job.stage == "annotation":
                continue
            annotator = annotators.get(self.place(job), "")
            fields: Row = {"stage": "annotation", "state": "rejected"}
            if annotator and annotator != job.assignee:
                fields["assignee"] = self.user_id(annotator)
            self._patch(job, fields, "go back to its annotator")
            sent.append(SentBack(job.id, annotator, self.place(job)))
        return sent

    def annotator(self, job: Job, annotators: Mapping[str, str]) -> str:
        """Who annotated a job: its assignee, but for a job in review the one that is remembered."""
        return self.annotator_name(job, annotators) or job.annotator

    def annotator_name(self, job: Job, annotators: Mapping[str, str]) -> str:
        """The user's name; empty where nobody is known to have annotated it."""
        known = annotators.get(self.place(job)) if job.stage != "annotation" else None
        return known or job.assignee

    def place(self, job: Job) -> str:
        return job_url(self._client.url, job)

    def _patch(self, job: Job, fields: Row, what: str) -> None:
        try:
            self._client.patch_job(job.id, fields)
        except AuthError as error:
            # Outside an organization only an administrator may name another assignee.
            others = " Outside an organization only an administrator may assign others." if "assignee" in fields else ""
            raise ToolError(
                f"job {job.id} cannot {what}: {error.found}",
                expected=_WHO_MAY + "." + others,
                todo="Run it as such a user, or leave stage and assignee to people: push --no-hand-over",
            ) from None

    def user_id(self, name: str) -> int:
        """CVAT's number of a user.

        Raises:
            NotFound: there is no such user, or none that this user may see.
        """
        if name not in self._users:
            found = {str(u.get("username")): int(u["id"]) for u in self._client.users(name)}
            if name not in found:
                raise NotFound(
                    f"CVAT shows no user {name!r}",
                    expected="a user's name; outside an organization only an administrator sees other users",
                    todo="Check the name, set LABELBRIDGE_CVAT_ORGANIZATION, or assign the jobs by hand",
                )
            self._users.update(found)
        return self._users[name]
