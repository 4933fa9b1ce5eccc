"""Label Studio's REST API as thin, typed calls: one method, one request.

Observed on Label Studio 1.23.2, Community edition. A token proves who we are in one of two ways, told apart by shape:
a Personal Access Token (three parts joined by dots) is exchanged for an access token that lives five minutes, and an
older *legacy* token is sent as it is.
"""

from __future__ import annotations

import base64
import functools
import json
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.dialects.label_studio_auth import REFRESH_PATH, LabelStudioAuth
from bridge.errors import AuthError, ConfigError, ToolError
from bridge.net import HttpClient, Limits, Reply

NAME = "Label Studio"
Row = dict[str, Any]

_PROJECT_PAGE = 100


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Some tasks as Label Studio gives them, and how many the filter matches altogether.

    ``now`` is the server's clock, to the second; empty where the answer does not tell it.
    """

    tasks: list[Row]
    total: int
    now: str = ""


def task_filter(field: str, operator: str, kind: str, value: object) -> Row:
    """One condition on tasks, as in ``task_filter("id", "greater", "Number", 7)``."""
    return {"filter": f"filter:tasks:{field}", "operator": operator, "type": kind, "value": value}


class LabelStudioClient:
    """Calls to one Label Studio with one token. Safe to use from several threads.

    Args:
        url: its address, with the path where it does not stand at the root.
        token: a Personal Access Token, or a legacy token.
        timeout: seconds to wait for an answer.
        allowed: origins in private networks that images may be fetched from.
        private_networks: whether images may be fetched from every private network.
        hidden: further secrets that are sent to it, and are not to be shown should it repeat them.
        attempts: how often a request that is safe to repeat is made altogether.
        pace: called before each request; it may wait.
        clock, sleep: replaced in tests.

    Raises:
        ConfigError: the address is none, or the token is one that soon expires.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout: float = 120.0,
        allowed: Iterable[str] = (),
        private_networks: bool = False,
        hidden: Iterable[str] = (),
        attempts: int = 4,
        pace: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        limits = Limits(read_s=timeout, attempts=attempts)
        self._exchanger = HttpClient(url, name=NAME, hidden=(token.strip(),), limits=limits, pace=pace, sleep=sleep)
        _refuse_unusable(token, self._exchanger.base)
        self._auth = LabelStudioAuth(token, self._exchange, clock)
        self.http = HttpClient(
            url,
            name=NAME,
            auth=self._auth.headers,
            allowed=allowed,
            private_networks=private_networks,
            hidden=hidden,
            limits=limits,
            pace=pace,
            sleep=sleep,
        )

    @property
    def url(self) -> str:
        return self.http.base

    @property
    def token_kind(self) -> str:
        """``personal access token`` or ``legacy token``."""
        return "personal access token" if self._auth.is_personal else "legacy token"

    @property
    def requests_made(self) -> int:
        """Requests sent so far, those for access tokens included."""
        return self.http.requests_made + self._exchanger.requests_made

    def close(self) -> None:
        self.http.close()
        self._exchanger.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
        accept: Container[int] = (),
        repeatable: bool | None = None,
        max_bytes: int | None = None,
        attempts: int | None = None,
    ) -> Reply:
        """Any request; an access token that has expired is renewed once."""
        send = functools.partial(
            self.http.request,
            method,
            path,
            params=params,
            json=json,
            accept=_Either(accept, 401),
            repeatable=repeatable,
            max_bytes=max_bytes,
            attempts=attempts,
        )
        reply = send()
        if reply.status == 401 and self._auth.forget():
            reply = send()
        if reply.status == 401 and 401 not in accept:
            self.http.raise_for(reply)
        return reply

    def _exchange(self, token: str) -> Any:
        refused = (400, 401, 403)
        body = {"refresh": token}
        reply = self._exchanger.request("POST", REFRESH_PATH, json=body, accept=refused, repeatable=True)
        if reply.status in refused:
            raise AuthError(
                f"{NAME} at {self.url} does not accept the Personal Access Token",
                expected="a token of this server that was not revoked",
                todo=_make_one(self.url),
            )
        return reply.json()

    def version(self) -> str:
        """The server's version; needs no token."""
        return str(_row(self.call("GET", "/api/version")).get("release", ""))

    def whoami(self) -> Row:
        """The user of the token."""
        return _row(self.call("GET", "/api/current-user/whoami"))

    def project(self, project: int) -> Row:
        return _row(self.call("GET", f"/api/projects/{project}/"))

    def projects(self, fields: str = "id,title,description") -> Iterator[Row]:
        """Every project the token's user can see, page by page, with these fields only."""
        page = 1
        while True:
            params: dict[str, str | int] = {"page": page, "page_size": _PROJECT_PAGE, "include": fields}
            answer = _row(self.call("GET", "/api/projects/", params=params))
            yield from _rows(answer.get("results"))
            if not answer.get("next"):
                return
            page += 1

    def create_project(self, fields: Row) -> Row:
        return _row(self.call("POST", "/api/projects/", json=fields))

    def patch_project(self, project: int, fields: Row) -> Row:
        return _row(self.call("PATCH", f"/api/projects/{project}/", json=fields, repeatable=True))

    def tasks(
        self,
        project: int,
        *conditions: Row,
        limit: int,
        everything: bool = False,
        only: Sequence[str] = (),
        ordering: str = "tasks:id",
    ) -> TaskPage:
        """The first ``limit`` tasks that meet all conditions; ``everything`` adds annotations and predictions.

        ``only`` names the fields that are wanted, which spares the server most of the work.

        Images in cloud storage come as addresses on Label Studio's own origin, where it can resolve them.
        """
        query = {"filters": {"conjunction": "and", "items": list(conditions)}, "ordering": [ordering]}
        params: dict[str, str | int] = {
            "project": project,
            "page": 1,
            "page_size": limit,
            "query": json.dumps(query, separators=(",", ":")),
        }
        if everything:
            params["fields"] = "all"
        if only:
            params["include"] = ",".join(only)
        reply = self.call("GET", "/api/tasks/", params=params)
        answer = _row(reply)
        return TaskPage(_rows(answer.get("tasks")), int(answer.get("total") or 0), reply.moment)

    def patch_task(self, task: int, fields: Row) -> Row:
        return _row(self.call("PATCH", f"/api/tasks/{task}/", json=fields, repeatable=True))

    def delete_task(self, task: int) -> None:
        """Delete a task with all that it holds; one that is gone already is no error. Sent once: by the next attempt a
        person may have begun it."""
        self.call("DELETE", f"/api/tasks/{task}/", accept=(404,), attempts=1)

    def annotation(self, annotation: int) -> Row:
        return _row(self.call("GET", f"/api/annotations/{annotation}/"))

    def patch_annotation(self, annotation: int, fields: Row) -> Row:
        """Sent once, whatever becomes of it: by the next attempt a person may have changed the annotation."""
        return _row(self.call("PATCH", f"/api/annotations/{annotation}/", json=fields, attempts=1))

    def drafts(self, task: int) -> list[Row]:
        """Unsubmitted work on a task, of all users."""
        return _rows(self.call("GET", f"/api/tasks/{task}/drafts").json())

    def import_tasks(self, project: int, tasks: Sequence[Row]) -> list[int]:
        """Add tasks; their ids in the order given.

        Raises:
            ToolError: Label Studio did not say that it made every one of them, with the predictions that they hold. On
                a busy SQLite it makes tasks and drops all their predictions, without calling that an error.
        """
        params: dict[str, str | int] = {"return_task_ids": "true"}
        answer = _row(self.call("POST", f"/api/projects/{project}/import", params=params, json=list(tasks)))
        made = answer.get("task_ids")
        if not isinstance(made, list) or len(made) != len(tasks):
            count = len(made) if isinstance(made, list) else 0
            raise ToolError(
                f"{NAME} made {count} of {len(tasks)} tasks in project {project}",
                expected="as many as were sent",
                todo="Run the same command again: what is there is found and not made twice",
            )
        _require_predictions(project, answer.get("prediction_count"), sum(len(t.get("predictions", ())) for t in tasks))
        return [int(i) for i in made]

    def import_predictions(self, project: int, predictions: Sequence[Row]) -> None:
        """Store predictions in bulk.

        Raises:
            ToolError: Label Studio stored fewer than were sent, which it does not call an error.
        """
        path = f"/api/projects/{project}/import/predictions"
        _require_predictions(
            project, _row(self.call("POST", path, json=list(predictions))).get("created"), len(predictions)
        )

    def views(self, project: int) -> list[Row]:
        """The tabs of a project's Data Manager."""
        return _rows(self.call("GET", "/api/dm/views/", params={"project": project}).json())

    def create_view(self, project: int, data: Row) -> Row:
        return _row(self.call("POST", "/api/dm/views/", json={"project": project, "data": data}))

    def patch_view(self, view: int, project: int, data: Row) -> Row:
        body = {"project": project, "data": data}
        return _row(self.call("PATCH", f"/api/dm/views/{view}/", json=body, repeatable=True))

    def download(self, reference: str, max_bytes: int) -> bytes:
        """A file by its address: a path on this server, or a full URL anywhere (then without the token)."""
        return self.call("GET", reference, max_bytes=max_bytes).body


class _Either:
    """Statuses that a caller accepts, and one more."""

    def __init__(self, accept: Container[int], more: int) -> None:
        self._accept, self._more = accept, more

    def __contains__(self, status: object) -> bool:
        return status == self._more or status in self._accept


def _require_predictions(project: int, stored: object, sent: int) -> None:
    if sent and stored != sent:
        raise ToolError(
            f"{NAME} stored {stored} of {sent} predictions in project {project}",
            expected="as many as were sent",
            todo="Run the same command again; see Label Studio's log if it stays so",
        )


def _make_one(base: str) -> str:
    return f"Make a Personal Access Token at {base}/user/account/personal-access-token and set it"


def _refuse_unusable(token: str, base: str) -> None:
    if not token.strip():
        raise ConfigError("the token for Label Studio is empty", todo=_make_one(base))
    payload = token.split(".")[1] if token.count(".") == 2 else ""
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except ValueError:
        return
    if isinstance(claims, dict) and claims.get("token_type") == "access":
        raise ConfigError(
            "the token for Label Studio is an access token, which ends after five minutes",
            expected="a Personal Access Token",
            todo=_make_one(base),
        )


def _row(reply: Reply) -> Row:
    data = reply.json()
    if not isinstance(data, dict):
        raise ToolError(f"{NAME} answered {type(data).__name__} where an object was expected ({reply.method})")
    return data


def _rows(data: object) -> list[Row]:
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise ToolError(f"{NAME} answered {type(data).__name__} where a list of objects was expected")
    return data
