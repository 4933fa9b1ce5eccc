"""A new task in CVAT that shows some frames of other tasks, made in the cheapest way that the server allows.

Where the frames lie on the server's share or in one cloud storage, the new task refers to the same files: no image is
moved. CVAT tells where they lie from 2.70 on. Otherwise, and for frames of a video, the images are read and uploaded,
some megabytes at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from bridge.errors import DataError, ToolError
from bridge.tools.cvat_client import CvatClient, Row
from bridge.tools.cvat_layout import Frame

_PARCEL_BYTES = 16 * 2**20
_QUALITY = 95
"""Of the copies that the editor shows, from 0 to 100; CVAT's own 70 blurs what a review is about."""

_SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp", b"GIF8": ".gif", b"BM": ".bmp"}
_TIFF = (b"II*\0", b"MM\0*")


class BrokenFrames(DataError):
    """Frames whose images cannot be read.

    Attributes:
        reasons: why, by task and frame number.
    """

    def __init__(self, reasons: Mapping[tuple[int, int], DataError]) -> None:
        super().__init__(f"{len(reasons)} images cannot be read: {next(iter(reasons.values()))}")
        self.reasons = reasons


class NewTask:
    """Makes tasks.

    Args:
        read_image: the file of a frame.
        patience_s: how long CVAT may take to make the frames and jobs of a task.
    """

    def __init__(
        self,
        client: CvatClient,
        read_image: Callable[[Frame], bytes],
        *,
        patience_s: float = 600.0,
    ) -> None:
        self._client = client
        self._read_image = read_image
        self._patience_s = patience_s

    def make(self, fields: Row, frames: Sequence[Frame]) -> int:
        """A task that shows ``frames`` in this order, with its job; its id.

        Args:
            fields: of the task: its name, its project and so on.

        Raises:
            BrokenFrames: some images cannot be read; there is no task then.
            ToolError: CVAT makes no such task.
        """
        reference = self._reference(frames)
        if reference is not None:
            task = self._create(fields)
            try:
                self._fill(task, reference)
            except ToolError:
                # The share or the storage may be gone since; what was shown can still be uploaded.
                self._client.delete_task(task)
            else:
                return task
        parcels = self._parcels(frames)
        first = next(parcels)  # read before anything is made, so that a broken image leaves nothing behind
        task = self._create(fields)
        try:
            options: Row = {"image_quality": _QUALITY, "use_cache": True, "sorting_method": "lexicographical"}
            self._client.upload(task, "Start", options)
            for parcel in (first, *parcels):
                self._client.upload(task, "Multiple", options, parcel)
            self._await(task, self._client.upload(task, "Finish", options))
        except DataError:
            self._client.delete_task(task)
            raise
        return task

    def _create(self, fields: Row) -> int:
        return int(self._client.row("POST", "/api/tasks", json=fields)["id"])

    def _fill(self, task: int, reference: Row) -> None:
        options: Row = {"image_quality": _QUALITY, "use_cache": True, "copy_data": False}
        options |= {"sorting_method": "predefined", **reference}
        self._await(task, self._client.row("POST", f"/api/tasks/{task}/data", json=options))

    def _reference(self, frames: Sequence[Frame]) -> Row | None:
        """What names the files to CVAT where they lie; None where they have to be uploaded."""
        names: list[str] = []
        places: set[tuple[str, object]] = set()
        metas = {number: self._client.task_meta(number) for number in {frame.task for frame in frames}}
        for frame in frames:
            meta = metas[frame.task]
            entries = meta.get("frames")
            if not isinstance(entries, list) or frame.number >= len(entries):
                return None  # a video has one name for all its frames
            names.append(str(entries[frame.number].get("name") or ""))
            places.add((str(meta.get("storage")), meta.get("cloud_storage_id")))
        if len(places) != 1 or len(set(names)) < len(names) or not all(names):
            return None
        ((storage, cloud),) = places
        if storage == "share":
            return {"server_files": names}
        if storage == "cloud_storage" and cloud is not None:
            return {"server_files": names, "cloud_storage_id": cloud}
        return None

    def _parcels(self, frames: Sequence[Frame]) -> Iterator[list[tuple[str, bytes]]]:
        """The images, some megabytes at a time. Where one cannot be read the others are tried too, to name all."""
        parcel: list[tuple[str, bytes]] = []
        broken: dict[tuple[int, int], DataError] = {}
        for index, frame in enumerate(frames):
            try:
                image = self._read_image(frame)
            except DataError as error:
                broken[frame.task, frame.number] = error
            if broken:
                continue
            parcel.append((_file_name(index, frame, image), image))
            if sum(len(data) for _, data in parcel) >= _PARCEL_BYTES:
                yield parcel
                parcel = []
        if broken:
            raise BrokenFrames(broken)
        if parcel:
            yield parcel

    def _await(self, task: int, answer: Row) -> None:
        """Wait until CVAT has made the frames and jobs."""
        waited, pause = 0.0, 0.1
        while True:
            state, message = self._client.data_state(task, answer.get("rq_id"))
            if state == "done":
                return
            if state == "failed":
                reason = message.strip().splitlines() or ["it does not say why"]
                raise ToolError(f"CVAT could not make task {task}: {reason[-1][:300]}")
            if waited > self._patience_s:
                raise ToolError(
                    f"CVAT has not made task {task} within {self._patience_s:g} s",
                    expected="that its worker for imports is running",
                    todo="Look at CVAT's service cvat_worker_import, then push again",
                )
            self._client.sleep(pause)
            waited, pause = waited + pause, min(pause * 1.5, 5.0)


def _file_name(index: int, frame: Frame, image: bytes) -> str:
    """Names sort as the frames do, and say where each comes from."""
    stem = PurePosixPath(frame.name.replace(" #", "-")).stem
    head = image[:4]
    suffix = next((s for magic, s in _SUFFIXES.items() if image.startswith(magic)), "")
    suffix = suffix or (".tiff" if head in _TIFF else PurePosixPath(frame.name).suffix or ".png")
    return f"{index:05}-{frame.task}-{frame.number:06}-{stem[:80]}{suffix}"
