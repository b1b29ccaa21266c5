"""Jobs: submit, read, list, cancel. Synchronous; runs in a transaction of the caller."""

from collections.abc import Mapping
from typing import Any, assert_never

from sqlalchemy import (
    Connection,
    Integer,
    Select,
    and_,
    bindparam,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)

from comfy_mcp.domain.access import Idempotency
from comfy_mcp.domain.catalog import Page
from comfy_mcp.domain.errors import ErrorCode, LimitExceeded, NotFound, StoreFault
from comfy_mcp.domain.events import CancelRequested, JobCancelled, JobEvent, JobQueued
from comfy_mcp.domain.ids import JobId
from comfy_mcp.domain.job import CancelAnswer, Job, JobStatus, decide_cancel, evolve, queued
from comfy_mcp.store import access, events, outputs, shares
from comfy_mcp.store.codec import graph_of, job_of, job_values, mutable_values, progress_values
from comfy_mcp.store.queries import JobQuery, JobView, QueueView, clamp, page_of, seq_of
from comfy_mcp.store.schema import IS_QUEUED, graphs, jobs
from comfy_mcp.store.threads import QueueSize, notes

_INSERT = insert(jobs)
_RETRIED = update(jobs).where(jobs.c.id == bindparam("b_id"))
_INSERT_GRAPH = insert(graphs)
_BY_ID = select(jobs).where(jobs.c.id == bindparam("b_id"))
_GRAPH = select(graphs.c.graph).where(graphs.c.job_id == bindparam("b_id"))
_COUNTS = select(jobs.c.status, func.count().label("n")).group_by(jobs.c.status)

# A claimed job that has not started yet is queued still, but runs before all that are not claimed.
_CLAIMED = jobs.c.prompt_id.is_not(None)
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
_BEFORE = or_(
    jobs.c.priority < bindparam("b_priority"),
    and_(
        jobs.c.priority == bindparam("b_priority"),
        tuple_(jobs.c.share_tag, jobs.c.seq) < tuple_(bindparam("b_tag"), bindparam("b_seq")),
    ),
)
_IN_LANE = select(func.count()).where(IS_QUEUED, jobs.c.lane == bindparam("b_lane"))
_AHEAD_CLAIMED = _IN_LANE.where(_CLAIMED, _BEFORE)
_AHEAD_UNCLAIMED = _IN_LANE.where(or_(_CLAIMED, _BEFORE))
_RUNNING = select(jobs).where(jobs.c.status == JobStatus.RUNNING.value).order_by(jobs.c.seq)
_RUN_ORDER = (
    select(jobs)
    .where(IS_QUEUED)
    .order_by(jobs.c.prompt_id.is_(None), jobs.c.priority, jobs.c.share_tag, jobs.c.seq)
    .limit(bindparam("count", type_=Integer))
)

# Compare and set: the row must still be what the decision was made on.
_SAME = (
    jobs.c.id == bindparam("b_id"),
    jobs.c.status == bindparam("b_status"),
    jobs.c.attempt == bindparam("b_attempt"),
)
_WRITE = update(jobs).where(*_SAME)


def add(
    connection: Connection,
    event: JobQueued,
    graph: str,
    max_queued: int,
    idempotency: Idempotency | None = None,
    ahead: int = 0,
    fair: bool = True,
) -> tuple[Job, int]:
    """The job and its place in its lane's run order (1 = next); of a key's first use for a repeat.

    `ahead` counts what runs before it and is no job of the store. Not `fair`: by age, whoever submits.

    Raises LimitExceeded, and Conflict for a key that was used for something else.
    """
    if idempotency is not None and (known := access.first_use(connection, idempotency)):
        job_id, position = known
        return job_of(connection.execute(_BY_ID, {"b_id": job_id}).one()), position
    job = queued(event)
    sizes = _queue_sizes(connection)
    total = sum(size.jobs for size in sizes.values())
    if total >= max_queued:
        raise LimitExceeded(
            f"{total} jobs are queued already; the limit is {max_queued}.",
            next_step="Wait until some have run or cancel some, then submit again.",
        )
    place = shares.place(connection, job, fair=fair)
    connection.execute(_INSERT, {**job_values(job), "share_tag": place.tag})
    connection.execute(_INSERT_GRAPH, {"job_id": job.id, "graph": graph})
    if job.retry_of is not None:
        connection.execute(_RETRIED, {"b_id": job.retry_of, "retried_by": job.id})
    events.append(connection, (event,))
    ahead += _ahead(sizes, job, place)
    sizes.setdefault((job.lane, job.priority.rank), QueueSize(jobs=0, claimed=0)).jobs += 1
    if idempotency is not None:
        access.remember_use(connection, idempotency, job.id, ahead + 1, event.at)
    return job, ahead + 1


def get(connection: Connection, job_id: JobId) -> Job | None:
    row = connection.execute(_BY_ID, {"b_id": job_id}).first()
    return None if row is None else job_of(row)


def view(connection: Connection, job_id: JobId) -> JobView | None:
    job = get(connection, job_id)
    if job is None:
        return None
    return JobView(
        job=job,
        outputs=tuple(outputs.of_job(connection, job_id)) if job.output_count else (),
        position=position(connection, job_id) if job.status is JobStatus.QUEUED else None,
    )


def get_graph(connection: Connection, job_id: JobId) -> dict[str, Any] | None:
    text = connection.execute(_GRAPH, {"b_id": job_id}).scalar()
    return None if text is None else graph_of(text)


def listing(connection: Connection, query: JobQuery) -> Page[Job]:
    statement: Select[Any] = select(jobs).order_by(jobs.c.seq.desc())
    if query.statuses:
        statement = statement.where(jobs.c.status.in_([JobStatus(status).value for status in query.statuses]))
    if query.client is not None:
        statement = statement.where(jobs.c.client == query.client)
    if query.engine is not None:
        statement = statement.where(jobs.c.engine == query.engine)
    if query.failure_kind is not None:
        statement = statement.where(jobs.c.failure_kind == query.failure_kind.value)
    if query.retried is not None:
        statement = statement.where(jobs.c.retried_by.is_not(None) == query.retried)
    if query.created_after is not None:
        statement = statement.where(jobs.c.created_at >= query.created_after)
    if query.created_before is not None:
        statement = statement.where(jobs.c.created_at <= query.created_before)
    if query.cursor is not None:
        statement = statement.where(jobs.c.seq < seq_of(query.cursor))
    limit = clamp(query.limit)
    return page_of(connection.execute(statement.limit(limit + 1)).all(), limit, job_of)


def position(connection: Connection, job_id: JobId) -> int | None:
    row = connection.execute(_BY_ID, {"b_id": job_id}).first()
    if row is None or row.status != JobStatus.QUEUED:
        return None
    statement = _AHEAD_UNCLAIMED if row.prompt_id is None else _AHEAD_CLAIMED
    values = {"b_lane": row.lane, "b_priority": row.priority, "b_tag": row.share_tag, "b_seq": row.seq}
    return (connection.execute(statement, values).scalar() or 0) + 1


def queue(connection: Connection, limit: int) -> QueueView:
    return QueueView(
        running=tuple(job_of(row) for row in connection.execute(_RUNNING)),
        queued=tuple(job_of(row) for row in connection.execute(_RUN_ORDER, {"count": clamp(limit)})),
        counts=counts(connection),
    )


def counts(connection: Connection) -> dict[JobStatus, int]:
    """Every status, zeros included."""
    found = {row.status: row.n for row in connection.execute(_COUNTS)}
    return {status: found.get(status.value, 0) for status in JobStatus}


def cancel(connection: Connection, job_id: JobId, at: int, reason: str | None) -> tuple[Job, CancelAnswer]:
    """Raises NotFound. Asking again adds nothing."""
    job = get(connection, job_id)
    if job is None:
        raise not_found(job_id)
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
    after = job
    for event in happened:
        after = evolve(after, event)
    if happened:
        write(connection, job, after)
        if after.is_final and job.attempt:
            events.drop_progress(connection, job_id)  # of an attempt before, that an engine lost
        elif after.is_final:
            shares.ended_unclaimed(connection, job)
        events.append(connection, happened)
    return after, answer


def write(connection: Connection, before: Job, after: Job) -> None:
    """The row becomes `after`, if it still is `before`. Only what changed is written: in SQLite a column
    that is named in an UPDATE has its indexes rewritten."""
    notes(connection).queue_sizes = None
    values = progress_values(after)
    full = mutable_values(after)
    old = mutable_values(before)
    if any(full[name] != old[name] for name in full.keys() - values.keys()):
        values = full
    written = connection.execute(
        _WRITE,
        {**values, "b_id": before.id, "b_status": before.status.value, "b_attempt": before.attempt},
    )
    if written.rowcount != 1:
        raise StoreFault(
            f"The workflow {before.id} changed while it was being written.",
            next_step="Try again.",
            code=ErrorCode.STORE_UNAVAILABLE,
        )


def _queue_sizes(connection: Connection) -> dict[tuple[str, int], QueueSize]:
    """Counted once in a transaction that serves many submits: counting walks the whole queue."""
    left = notes(connection)
    if left.queue_sizes is None:
        left.queue_sizes = {
            (row.lane, row.priority): QueueSize(jobs=row.jobs, claimed=row.claimed)
            for row in connection.execute(_QUEUE_SIZES)
        }
    return left.queue_sizes


def _ahead(sizes: Mapping[tuple[str, int], QueueSize], job: Job, place: shares.Place) -> int:
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


def not_found(job_id: JobId) -> NotFound:
    return NotFound(
        f"There is no workflow {job_id}.",
        next_step="Check the id; old workflows are forgotten after the retention time.",
    )
