"""How the frames of a task become its jobs."""

from __future__ import annotations

import random
from collections.abc import Sequence

from fakes.cvat_server.state import Job, State, Task
from fakes.cvat_server.versions import Version


def add_job(
    state: State,
    task: Task,
    kind: str,
    start: int,
    stop: int,
    included: Sequence[int] | None = None,
    parent: int | None = None,
) -> Job:
    now = state.now()
    frames = None if included is None else tuple(sorted(included))
    job = Job(state.new_id("job"), task.id, kind, start, stop, now, now, frames, parent)
    state.jobs[job.id] = job
    return job


def cut_jobs(state: State, version: Version, task: Task, lengths: Sequence[int] | None = None) -> list[Job]:
    """The annotation jobs of a task, each with its replicas; the ground truth is a job apart.

    Args:
        lengths: frames of each job, where a file mapping says so; else the segment size does.
    """
    size = len(task.frames)
    pool = set(task.validation_frames) if task.validation_mode == "gt_pool" else set()
    size -= len(pool)  # the pool lies behind the frames of the jobs: not in the facts
    if lengths is not None:
        # facts/cvat.md (c) five ways: a job for each list of job_file_mapping
        edges = [(sum(lengths[:i]), sum(lengths[: i + 1]) - 1) for i in range(len(lengths))]
    else:
        task.segment_size = min(task.segment_size or size, size)
        step = max(task.segment_size - task.overlap, 1)
        starts = [s for s in range(0, size, step) if s == 0 or s + task.overlap < size]
        edges = [(s, min(s + task.segment_size, size) - 1) for s in starts]
    jobs = []
    for start, stop in edges:
        job = add_job(state, task, "annotation", start, stop)
        jobs.append(job)
        # facts/cvat.md (c) Honeypots, consensus: so many replicas to a job, which is their parent
        for _ in range(task.replicas if version.has_replicas else 0):
            add_job(state, task, version.replica, start, stop, parent=job.id)
    return jobs


def add_ground_truth(state: State, task: Task, frames: Sequence[int]) -> Job:
    job = add_job(state, task, "ground_truth", 0, len(task.frames) - 1, frames)
    task.validation_frames = list(job.frames)
    task.validation_mode = task.validation_mode or "gt"
    return job


def random_frames(task: Task, count: int, seed: int | None) -> list[int]:
    frames = [frame for frame in range(len(task.frames)) if frame not in task.deleted]
    return sorted(random.Random(seed).sample(frames, min(count, len(frames))))
