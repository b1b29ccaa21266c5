"""Jobs come into the queue and leave it by a cancel. Synchronous; runs in a transaction of the caller."""

from collections.abc import Mapping
from typing import assert_never

from sqlalchemy import Connection, func, insert, select

from comfy_mcp.domain.access import Idempotency
from comfy_mcp.domain.errors import LimitExceeded
from comfy_mcp.domain.events import CancelRequested, JobCancelled, JobEvent, JobQueued
from comfy_mcp.domain.ids import JobId
from comfy_mcp.domain.job import CancelAnswer, Job, decide_cancel, queued
from comfy_mcp.store import idempotency, journal, reads, turns
from comfy_mcp.store.schema import IS_QUEUED, graphs, jobs
from comfy_mcp.store.sqlite.threads import QueueSize, notes

_INSERT_GRAPH = insert(graphs)
_QUEUE_SIZES = (
    select(
        jobs.c.lane,
        jobs.c.priority,
        func.count().label("jobs"),
        func.count(jobs.c.prompt_id).label("claimed"),
    )
    .where(IS_QUEUED)
    .group_by(jobs.c.lane, jobs.c.priority)
)


def add(
    connection: Connection,
    event: JobQueued,
    graph: str,
    max_queued: int,
    use: Idempotency | None = None,
    ahead: int = 0,
    fair: bool = True,
) -> tuple[Job, int]:
    """The job and its place in its lane's run order (1 = next); of a key's first use for a repeat.

    `ahead` counts what runs before it and is no job of the store. Not `fair`: by age, whoever submits.

    Raises LimitExceeded, and Conflict for a key that was used for something else.
    """
    if use is not None and (known := idempotency.first_use(connection, use)):
        job_id, position = known
        job = reads.get(connection, job_id)
        assert job is not None, "a key goes with its job"
        return job, position
    sizes = _queue_sizes(connection)
    total = sum(size.jobs for size in sizes.values())
    if total >= max_queued:
        raise LimitExceeded(
            f"The queue is full: {total} jobs; the limit is {max_queued}.",
            next_step="Wait until some have ended, or cancel some; then submit again.",
        )
    place = turns.place(connection, queued(event), fair=fair)
    job = journal.apply(connection, None, (event,), columns={"share_tag": place.tag})
    connection.execute(_INSERT_GRAPH, {"job_id": job.id, "graph": graph})
    ahead += _ahead(sizes, job, place)
    sizes.setdefault((job.lane, job.priority.rank), QueueSize(jobs=0, claimed=0)).jobs += 1
    if use is not None:
        idempotency.remember_use(connection, use, job.id, ahead + 1, event.at)
    return job, ahead + 1


def cancel(connection: Connection, job_id: JobId, at: int, reason: str | None) -> tuple[Job, CancelAnswer]:
    """Raises NotFound. Asking again adds nothing."""
    job = reads.get(connection, job_id)
    if job is None:
        raise reads.not_found(job_id)
    answer = decide_cancel(job)
    request = CancelRequested(job_id=job_id, at=at, reason=reason)
    happened: tuple[JobEvent, ...]
    match answer:
        case CancelAnswer.CANCEL_NOW:
            end = JobCancelled(job_id=job_id, at=at, attempt=job.attempt, output_count=job.output_count)
            happened = (end,) if job.cancel_requested else (request, end)
        case CancelAnswer.ASK_ENGINE:
            happened = () if job.cancel_requested else (request,)
        case CancelAnswer.ALREADY_CANCELLED | CancelAnswer.TOO_LATE:
            happened = ()
        case _:
            assert_never(answer)
    after = journal.apply(connection, job, happened) if happened else job
    return after, answer


def _queue_sizes(connection: Connection) -> dict[tuple[str, int], QueueSize]:
    """Counted once in a transaction that serves many submits: counting walks the whole queue."""
    left = notes(connection)
    if left.queue_sizes is None:
        left.queue_sizes = {
            (row.lane, row.priority): QueueSize(jobs=row.jobs, claimed=row.claimed)
            for row in connection.execute(_QUEUE_SIZES)
        }
    return left.queue_sizes


def _ahead(sizes: Mapping[tuple[str, int], QueueSize], job: Job, place: turns.Place) -> int:
    """Jobs of its lane that run before a new one; claimed ones always do."""
    rank, ahead = job.priority.rank, 0
    for (lane, priority), size in sizes.items():
        if lane != job.lane:
            continue
        if priority > rank:
            ahead += size.claimed
        elif priority == rank and place.ahead is not None:
            ahead += size.claimed + place.ahead
        else:
            ahead += size.jobs
    return ahead
