"""Frames, chunks of frames, and what is known about them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence

from fakes.cvat_server.permissions import get_job, get_task
from fakes.cvat_server.routing import ApiError, Context, Reply, route
from fakes.cvat_server.state import Frame, Job, Row, Task
from PIL import Image


@route("GET", "/api/tasks/{id}/data")
def task_data(ctx: Context, number: int) -> Reply:
    task = get_task(ctx, number)
    return _data(ctx, task, range(len(task.frames)), 0)


@route("GET", "/api/jobs/{id}/data")
def job_data(ctx: Context, number: int) -> Reply:
    job = get_job(ctx, number)
    return _data(ctx, ctx.state.tasks[job.task], job.frames, job.start)


def _data(ctx: Context, task: Task, frames: Sequence[int], first: int) -> Reply:
    # facts/cvat.md (c) Frames
    if task.data_id is None:
        raise ApiError(404, "Not found.")
    query, quality = ctx.query, ctx.query.get("quality", "compressed")
    kind = query.get("type")
    if kind not in ("frame", "chunk", "preview") or quality not in ("original", "compressed"):
        raise ApiError(400, {"detail": "expected type=frame|chunk and quality=original|compressed"})
    if kind == "preview":
        return _image(task, task.frames[frames[0]], "compressed")
    text = query.get("number") or query.get("index") or ""
    if not text.isdigit():
        raise ApiError(400, {"detail": "Invalid 'number' value"})
    if kind == "frame":
        # seen on 2.15: the number is checked as one of the source's, and then taken as one of the task's
        asked = frames if ctx.version.has_requests else [task.start_frame + n * task.step for n in frames]
        if int(text) not in asked:
            raise ApiError(400, "The frame number doesn't belong to the job")
        if int(text) >= len(task.frames):
            raise ApiError(400, f"Incorrect requested frame number: {text}")
        return _image(task, task.frames[int(text)], quality)
    # the chunks of a job are counted in the task with number, from its own start with index: not in the facts
    start = int(text) * task.chunk_size + (first if "number" not in query else 0)
    chosen = [frame for frame in frames if start <= frame < start + task.chunk_size]
    if not chosen:
        raise ApiError(400, ["Incorrect requested chunk number"])
    return _chunk(task, [task.frames[frame] for frame in chosen], quality)


def _image(task: Task, frame: Frame, quality: str) -> Reply:
    # facts/cvat.md (c) Frames: the original is the uploaded file in its own format
    content = frame.data if quality == "original" else _jpeg(frame, task.image_quality)
    with Image.open(io.BytesIO(content)) as image:
        kind = Image.MIME.get(image.format or "", "application/octet-stream")
    return Reply(200, content=content, content_type=kind)


def _chunk(task: Task, frames: Sequence[Frame], quality: str) -> Reply:
    if quality == "original" and task.mode == "interpolation":
        raise ApiError(501, {"detail": "the fake encodes no video"})
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as chunk:
        for number, frame in enumerate(frames):
            suffix = frame.name.rpartition(".")[2] if quality == "original" else "jpeg"
            content = frame.data if quality == "original" else _jpeg(frame, task.image_quality)
            chunk.writestr(f"{number:06}.{suffix}", content)
    return Reply(200, content=data.getvalue(), content_type="application/zip")


def _jpeg(frame: Frame, quality: int) -> bytes:
    data = io.BytesIO()
    with Image.open(io.BytesIO(frame.data)) as image:
        image.convert("RGB").save(data, "JPEG", quality=quality)
    return data.getvalue()


def _meta(ctx: Context, task: Task, job: Job | None) -> Row:
    if task.data_id is None:
        # seen on 2.15: without data the server breaks, and while they are worked in there are no frames yet
        if not task.upload_state[0]:
            raise ApiError(500, "Server Error (500)")
        return {"size": 0, "frames": [], "deleted_frames": [], "included_frames": None, "start_frame": 0}
    first, last = (job.start, job.stop) if job else (0, len(task.frames) - 1)
    mine = set(job.frames if job else range(len(task.frames)))
    if task.mode == "interpolation":  # one entry for the whole video: not in the facts
        frames = [_frame_row(Frame(f"{task.name}.mp4", b"", task.frames[0].width, task.frames[0].height))]
    else:
        frames = [_frame_row(task.frames[n], n in mine) for n in range(first, last + 1)]
    row: Row = {
        "frames": frames,
        "deleted_frames": sorted(n for n in task.deleted if first <= n <= last),
        "chunk_size": task.chunk_size,
        "size": len(mine),
        "image_quality": task.image_quality,
        "start_frame": task.start_frame + first * task.step,
        "stop_frame": task.start_frame + last * task.step,
        "frame_filter": f"step={task.step}" if task.step > 1 else "",
        # facts/cvat.md (c) Frames: included_frames for ground truth jobs
        "included_frames": [task.source_frames[n] for n in job.included] if job and job.included is not None else None,
    }
    if ctx.version.has_chunk_dates:
        row["chunks_updated_date"] = task.created
    if ctx.version.minor >= 70:
        row |= {"storage": task.storage, "cloud_storage_id": None, "chapters": None}
    return row


def _frame_row(frame: Frame, included: bool = True) -> Row:
    # a ground truth job shows a placeholder for each frame that it does not hold: not in the facts
    name = frame.name if included else "placeholder.jpg"
    row: Row = {"name": name, "width": frame.width, "height": frame.height}
    return {**row, "related_files": 0, "has_related_context": False}


@route("GET", "/api/tasks/{id}/data/meta")
def task_meta(ctx: Context, number: int) -> Reply:
    return Reply(200, _meta(ctx, get_task(ctx, number), None))


@route("GET", "/api/jobs/{id}/data/meta")
def job_meta(ctx: Context, number: int) -> Reply:
    job = get_job(ctx, number)
    return Reply(200, _meta(ctx, ctx.state.tasks[job.task], job))


@route("PATCH", "/api/tasks/{id}/data/meta")
def patch_task_meta(ctx: Context, number: int) -> Reply:
    # facts/cvat.md (c) five ways: deleted frames are named whole, and leave the jobs' counts
    task = get_task(ctx, number, manage=True)
    deleted = ctx.json.get("deleted_frames")
    if deleted is not None:
        task.deleted = {n for n in deleted if 0 <= n < len(task.frames)}
        task.updated = ctx.state.now()
    return Reply(200, _meta(ctx, task, None))


@route("PATCH", "/api/jobs/{id}/data/meta")
def patch_job_meta(ctx: Context, number: int) -> Reply:
    job = get_job(ctx, number)
    task, deleted = ctx.state.tasks[job.task], ctx.json.get("deleted_frames")
    if deleted is not None:
        mine = set(range(job.start, job.stop + 1))
        task.deleted = (task.deleted - mine) | (set(deleted) & mine)
        ctx.state.touch(job)
    return Reply(200, _meta(ctx, task, job))
