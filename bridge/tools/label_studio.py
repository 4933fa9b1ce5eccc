"""Label Studio as an annotation tool: one project is one target, ``ls:project/7``.

Observed on Label Studio 1.23.2, Community edition. It has no locks and no versions: what that means for fixes says
:mod:`bridge.tools.label_studio_submissions`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from urllib.parse import urlsplit

from bridge.core.annotations import Box, Item, LabelSet, Record, digest
from bridge.core.assignment import Seat, Seating, Who
from bridge.core.findings import Finding, Verdict
from bridge.dialects.label_studio import LabelConfig, Size, box_entries, parse_label_config, prediction_entry
from bridge.dialects.label_studio_storage import cloud_path, is_api
from bridge.errors import (
    AuthError,
    ConfigError,
    DataError,
    ImageError,
    NotFound,
    ToolError,
    ToolUnreachable,
    UsageError,
)
from bridge.images import size_of
from bridge.net import origin_of, public_url
from bridge.tools import (
    Changes,
    FixNote,
    FixOrder,
    FixResult,
    Page,
    Prelabel,
    PushedCase,
    Review,
    ReviewCase,
    TargetInfo,
    UndoOrder,
    forget,
)
from bridge.tools.hooks import HookAddress
from bridge.tools.label_studio_changes import read_task_changes
from bridge.tools.label_studio_client import LabelStudioClient, Row, task_filter
from bridge.tools.label_studio_hooks import settle_hook
from bridge.tools.label_studio_records import image_reference, predictions_from_entry, record_from_task, text_of
from bridge.tools.label_studio_review import ReviewDesk
from bridge.tools.label_studio_submissions import Submissions

_WHO = {"others": "the annotator does not judge their own work", "annotator": "only the annotator judges"}

_BATCH = 100
"""Tasks named in one request: their ids stand in the address, and proxies refuse long ones."""


class LabelStudio:
    """One project of one Label Studio, as an :class:`~bridge.tools.AnnotationTool`.

    Args:
        client: calls to the server.
        project_id: the number in the project's address.
        max_image_bytes: larger image files are refused.
        hook: where a review project that is made sends its webhooks; None: nowhere.
    """

    def __init__(
        self,
        client: LabelStudioClient,
        project_id: int,
        *,
        max_image_bytes: int = 64 * 2**20,
        hook: HookAddress | None = None,
    ) -> None:
        self.client = client
        self._hook = hook
        self.project_id = project_id
        self._max_image_bytes = max_image_bytes
        self._project: Row | None = None
        self._config: LabelConfig | None = None
        self._shown_model: str | None = None
        self._desk: ReviewDesk | None = None

    @property
    def target(self) -> str:
        return f"ls:project/{self.project_id}"

    @property
    def url(self) -> str:
        """The project in a browser."""
        return f"{self.client.url}/projects/{self.project_id}/data"

    def describe(self) -> TargetInfo:
        """See :meth:`bridge.tools.AnnotationTool.describe`.

        Raises:
            DataError: the project's label configuration cannot be used.
        """
        self._project = self._config = None
        project, config = self._read_project()
        return TargetInfo(
            target=self.target,
            title=str(project.get("title") or self.target),
            labels=config.labels,
            items=int(project.get("task_number") or 0),
            url=self.url,
        )

    def read_page(self, after: str | None, limit: int, model: str | None = None) -> Page:
        """See :meth:`bridge.tools.AnnotationTool.read_page`. The cursor is the id of the last task; one request."""
        config = self._label_config()
        behind = task_filter("id", "greater", "Number", int(after or 0))
        page = self.client.tasks(self.project_id, behind, limit=limit, everything=True)
        records = tuple(record_from_task(t, config, model=model, with_predictions=True) for t in page.tasks)
        return Page(records, records[-1].item.id if page.total > len(records) and records else None)

    def read_records(self, item_ids: Collection[str]) -> dict[str, Record]:
        """See :meth:`bridge.tools.AnnotationTool.read_records`. One request for 100 items."""
        config = self._label_config()
        wanted = [int(i) for i in item_ids if i.isdecimal()]
        tasks = [t for at in range(0, len(wanted), _BATCH) for t in self._tasks(wanted[at : at + _BATCH])]
        records = [record_from_task(task, config, model=None, with_predictions=False) for task in tasks]
        return {record.item.id: record for record in records}

    def read_image(self, item: Item) -> bytes:
        """See :meth:`bridge.tools.AnnotationTool.read_image`.

        The token goes to Label Studio only. Where Label Studio itself no longer answers, that is no fault of the
        image, and raises ``ToolUnreachable``.
        """
        reference = self._reachable(item)
        own = self._is_own(reference)
        if own and is_api(self.client.http.url(reference), self.client.url):
            raise _image_error(item, f"{public_url(reference)!r} is an address of the API", "Correct the task's data")
        try:
            reply = self.client.call("GET", reference, accept=(403,), max_bytes=self._max_image_bytes)
        except ToolError as error:
            if own and isinstance(error, AuthError):
                raise
            if own and isinstance(error, ToolUnreachable):
                # Cloud storage behind it may be what is down; where Label Studio itself is, this raises.
                self.client.version()
            todo = "Put the file back where it was" if isinstance(error, NotFound) else error.todo
            raise _image_error(item, error.found, todo) from None
        if reply.status == 403:
            raise _image_error(item, f"reading {public_url(reply.url)} is forbidden", "Check the storage's settings")
        return reply.body

    def write_predictions(self, model: str, batch: Sequence[Prelabel]) -> int:
        """See :meth:`bridge.tools.AnnotationTool.write_predictions`.

        Two requests for 100 items, and once three more: they make ``model`` the version that annotators are shown.
        An item in which the model found nothing gets an empty prediction, so that it counts as done. An empty batch
        only makes sure that ``model`` is shown, which an attempt that was cut off may not have come to.

        Raises:
            DataError: an item has no width and height, or a label is not in the label configuration.
        """
        entries = [self._prediction(model, prelabel) for prelabel in batch]
        written = 0
        for start in range(0, len(entries), _BATCH):
            chunk = entries[start : start + _BATCH]
            done = self._tasks_with(model, [e["task"] for e in chunk])
            new = [e for e in chunk if e["task"] not in done]
            if new:
                self.client.import_predictions(self.project_id, new)
            written += len(new)
        if entries or self._holds(model):
            self._show(model)
        return written

    def open_review(self, labels: LabelSet, title: str) -> Review:
        review = self._reviews().open(labels, title)
        if review.created and self._hook:
            # A refusal is no reason not to review: answers are found by polling too.
            settle_hook(self.client, int(review.ref), self._hook)
        return review

    def seats(self, findings: Sequence[Finding], who: Who) -> Seating:
        """See :meth:`bridge.tools.AnnotationTool.seats`. Nobody can be asked in particular, nor kept out."""
        if who != "anyone":
            raise UsageError(
                f"in Label Studio's Community edition nobody can see to it that {_WHO[who]}: it assigns no tasks, and "
                "its projects are open to all members",
                expected="reviewer anyone",
                todo="`push --requeue` gives whole items to another annotator, blind; or agree on it among people",
            )
        return Seating((Seat(),) * len(findings))

    def push_cases(self, review: Review, cases: Sequence[ReviewCase]) -> list[PushedCase]:
        return self._reviews().push(review, cases)

    def read_verdicts(self, review: Review, since: str | None) -> Iterator[Verdict]:
        return self._reviews().verdicts(review, since)

    def withdraw_cases(self, review: Review, finding_ids: Collection[str], keep: Collection[str] = ()) -> set[str]:
        return self._reviews().withdraw(review, finding_ids, keep)

    def apply_fixes(self, orders: Sequence[FixOrder], note: Callable[[FixNote], None] = forget) -> list[FixResult]:
        """See :meth:`bridge.tools.AnnotationTool.apply_fixes`.

        All fixes of one submission are written together: four requests (read, look for drafts, read again, write), and
        one more for the text that spans are in. One request reads the labels, which somebody may have changed. The
        write is sent once: what follows a lost one is for the next call.
        """
        return self._submissions().apply(orders, note)

    def undo_fixes(self, orders: Sequence[UndoOrder]) -> list[FixResult]:
        """See :meth:`bridge.tools.AnnotationTool.undo_fixes`. As many requests as writing the fixes took."""
        return self._submissions().undo(orders)

    def read_changes(self, cursor: str | None) -> Changes:
        """See :meth:`bridge.tools.AnnotationTool.read_changes`. One request where nothing changed.

        Drafts and predictions change nothing. A person who changes a task's data or meta data changes it.
        """
        return read_task_changes(self.client, self.project_id, cursor)

    def flag_tab(self, item_ids: Sequence[str], title: str = "Flagged") -> str:
        """A tab in this project's Data Manager that shows these items; made once, then updated. Answers its address.

        It shows items that somebody has annotated, as all items with findings are. Two requests, and one more for
        every 100 items.
        """
        return self._reviews().flag_tab(item_ids, title)

    def requeue(self, item_ids: Sequence[str]) -> int:
        """Queue finished items for one more, independent annotator; existing annotations stay. Answers how many.

        Items that are in the queue already are left alone, so a repeated call adds nobody. The next annotator sees no
        earlier annotation, and whoever annotated an item is not asked again.
        """
        wanted = [int(i) for i in item_ids]
        queued = 0
        for start in range(0, len(wanted), _BATCH):
            chunk = wanted[start : start + _BATCH]
            page = self.client.tasks(self.project_id, task_filter("id", "in_list", "List", chunk), limit=len(chunk))
            for task in page.tasks:
                if task.get("is_labeled"):
                    # Both fields: either one alone changes nothing.
                    more = {"overlap": int(task.get("overlap") or 1) + 1, "is_labeled": False}
                    self.client.patch_task(int(task["id"]), more)
                    queued += 1
        return queued

    def size_of_item(self, item: Item) -> Size:
        """Width and height as the item says, else as its image file says.

        Raises:
            ImageError: nobody can tell.
        """
        if item.width and item.height:
            return item.width, item.height
        return size_of(self.read_image(item), f"{item.name} (item {item.id})")

    def _read_project(self) -> tuple[Row, LabelConfig]:
        if self._project is None or self._config is None:
            project = self.client.project(self.project_id)
            self._config = parse_label_config(str(project.get("label_config") or ""), texts=True)
            self._project = project
        return self._project, self._config

    def _label_config(self) -> LabelConfig:
        return self._read_project()[1]

    def _tasks(self, wanted: Sequence[int]) -> Sequence[Row]:
        """Tasks with everything. Not by their own addresses: that makes Label Studio call the model server."""
        those = task_filter("id", "in_list", "List", list(wanted))
        return self.client.tasks(self.project_id, those, limit=len(wanted), everything=True).tasks

    def _is_own(self, reference: str) -> bool:
        try:
            return "://" not in reference.split("?", 1)[0] or origin_of(reference) == self.client.http.origin
        except ConfigError:
            return False

    def _reachable(self, item: Item) -> str:
        """An address that can be fetched. Label Studio reads cloud storage for us, with its own credentials."""
        reference = item.image
        path = cloud_path(reference, item.id)
        if path is not None:
            return path
        scheme = urlsplit(reference).scheme if "://" in reference.split("?", 1)[0] else ""
        if not reference or reference.startswith("data:") or scheme not in ("", "http", "https"):
            none = "it has none" if item.text is None else "it is a text"
            found = f"its reference is {public_url(reference)[:60]!r}" if reference else none
            raise _image_error(item, found, "Use a file of Label Studio's, cloud storage, or an http address")
        return reference

    def _prediction(self, model: str, prelabel: Prelabel) -> Row:
        item, config = prelabel.item, self._label_config()
        if not item.width or not item.height:
            raise DataError(
                f"the size of item {item.id} ({item.name}) is not known", expected="width and height in pixels"
            )
        regions: list[Row] = []
        for index, found in enumerate(prelabel.predictions):
            if not isinstance(found.shape, Box):
                raise DataError(f"a prediction for item {item.id} ({item.name}) is no box")
            region_id = digest([model, item.id, index], 10)
            regions += box_entries(
                config, region_id, found.label, found.shape, item.width, item.height, found.confidence
            )
        return prediction_entry(regions, model, task_id=int(item.id))

    def _tasks_with(self, model: str, tasks: Sequence[int]) -> set[int]:
        """Those of ``tasks`` that hold predictions of exactly this model; one request, without any regions."""
        page = self.client.tasks(
            self.project_id,
            task_filter("id", "in_list", "List", list(tasks)),
            task_filter("predictions_model_versions", "contains", "List", [model]),
            limit=len(tasks),
        )
        return {int(t["id"]) for t in page.tasks if _has_version(t, model)}

    def _holds(self, model: str) -> bool:
        """Whether any task has predictions of this model, without which it cannot be shown."""
        if self._shown_model == model:
            return True
        wanted = task_filter("predictions_model_versions", "contains", "List", [model])
        page = self.client.tasks(self.project_id, wanted, limit=_BATCH)
        return any(_has_version(t, model) for t in page.tasks)

    def _show(self, model: str) -> None:
        """Make ``model`` what annotators see: importing alone does not."""
        if self._shown_model == model:
            return
        project = self.client.project(self.project_id)
        if project.get("model_version") != model or not project.get("show_collab_predictions"):
            self.client.patch_project(self.project_id, {"model_version": model, "show_collab_predictions": True})
        self._shown_model = model

    def _size_of_task(self, item_id: str) -> Size:
        """The image's size where no region of an annotation tells it: from predictions, else from the file."""
        task, config = self._task(item_id), self._label_config()
        for entry in task.get("predictions") or []:
            size = predictions_from_entry(entry, config)[1]
            if size:
                return size
        return self.size_of_item(Item(item_id, f"task {item_id}", image_reference(task, config)))

    def _text_of_task(self, item_id: str) -> str:
        """The text as it is now; empty, and no request, where images are labelled."""
        config = self._label_config()
        return text_of(self._task(item_id), config) or "" if config.media == "text" else ""

    def _task(self, item_id: str) -> Row:
        tasks = self._tasks([int(item_id)])
        if not tasks:
            raise NotFound(f"project {self.project_id} has no task {item_id}")
        return tasks[0]

    def _submissions(self) -> Submissions:
        self._project = self._config = None
        return Submissions(self.client, self._label_config(), self._size_of_task, self._text_of_task)

    def _reviews(self) -> ReviewDesk:
        if self._desk is None:
            project, config = self._read_project()
            self._desk = ReviewDesk(self.client, self.project_id, project, config.media, self.size_of_item)
        return self._desk


def _has_version(task: Row, model: str) -> bool:
    """Whether a listed task holds predictions of exactly this model: the filter finds "m-10" for "m-1" too.

    The column lists versions joined by commas, on PostgreSQL with a space.
    """
    listed = str(task.get("predictions_model_versions") or "")
    return f",{model}," in f",{listed.replace(', ', ',')},"


def _image_error(item: Item, found: str, todo: str = "") -> ImageError:
    return ImageError(f"the image of item {item.id} ({item.name}) cannot be had: {found}", todo=todo)
