"""The one writer of jobs: an event changes a job's row, goes into the log, and has its consequences.

Nothing else calls `evolve`, writes to `jobs` what an event changes, or appends to the log, so that none of
the three is ever forgotten. A job's turn is no part of its state: `turns` may move it by itself. Synchronous;
runs in a transaction of the caller.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import structlog

from comfy_mcp.domain.errors import ErrorCode, StoreFault
from comfy_mcp.domain.events import (
    FINAL_EVENTS,
    JobCompleted,
    JobEvent,
    JobFailed,
    JobProgressed,
    JobQueued,
    JobRequeued,
    StoredEvent,
)
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.domain.quotas import gpu_seconds_of
from comfy_mcp.domain.transitions import evolve, is_step, queued
from comfy_mcp.store import chains, outbox, quotas, spending, tags, turns, vram
from comfy_mcp.store.codec import UNREADABLE, changed_values, event_values, job_of, job_values, storable
from comfy_mcp.store.connection import AnyRow, Connection, Statement
from comfy_mcp.store.core import (
    IS_ACTIVE,
    and_,
    attempts,
    bindparam,
    delete,
    events,
    exists,
    insert,
    jobs,
    now_ms,
    select,
    update,
)
from comfy_mcp.store.leases import OWN, own
from comfy_mcp.store.queries import Lease
from comfy_mcp.store.salvage import salvaged

log = structlog.get_logger(__name__)

_INSERT = Statement(insert(jobs))
# Compare and set: the row must still be what the decision was made on.
_SAME = update(jobs).where(
    jobs.c.id == bindparam("b_id"),
    jobs.c.status == bindparam("b_status"),
    jobs.c.attempt == bindparam("b_attempt"),
)
_UPDATE = Statement(_SAME)
# The same for whoever drives the attempt: what others may have written is compared too, and the lease.
_UPDATE_OWN = Statement(
    _SAME.where(
        jobs.c.cancel_requested == bindparam("b_cancel"),
        exists().where(
            attempts.c.job_id == jobs.c.id,
            attempts.c.attempt == jobs.c.attempt,
            attempts.c.engine == bindparam("b_engine"),
            attempts.c.fence == bindparam("b_fence"),
        ),
        exists().where(*OWN),
    )
)
_APPEND = Statement(insert(events))
_DROP_PROGRESS = Statement(
    delete(events).where(and_(events.c.job_id == bindparam("b_job_id"), events.c.type == JobProgressed.type))
)
_END_ATTEMPT = Statement(
    update(attempts)
    .where(attempts.c.job_id == bindparam("b_job_id"), attempts.c.attempt == bindparam("b_attempt"))
    .values(state=bindparam("b_state"), finished_at=bindparam("b_at"))
)
_MARK_RETRIED = Statement(update(jobs).where(jobs.c.id == bindparam("b_id")))
_REWRITE = Statement(update(jobs).where(jobs.c.seq == bindparam("b_seq")))
_END_ATTEMPTS = Statement(
    update(attempts)
    .where(attempts.c.job_id == bindparam("b_job_id"), IS_ACTIVE)
    .values(state=JobFailed.type, finished_at=bindparam("b_at"))
)
_NOW = Statement(select(now_ms()))
_CONCERNED = Statement(
    select(
        chains.IS_WAITED_FOR.label("is_waited_for"),
        quotas.IS_LIMITED.label("is_limited"),
    )
)


class Changed(StoreFault):
    """The row is no more what a decision was made on."""


def apply(
    connection: Connection,
    before: Job | None,
    happened: Sequence[JobEvent],
    *,
    by: Lease | None = None,
    columns: Mapping[str, Any] | None = None,
) -> Job:
    """The job after the events, which are written with it. `before` is None for a new job.

    `by`: who drives the job's attempt; checked with the row. None: the caller has checked what there is to
    check. `columns`: of a new job's row, what the state machine knows nothing of.

    Raises IllegalTransition, and Changed where the row, or who drives it, is not what was said. Then nothing
    was written.
    """
    changes = _changes(before, happened)
    after = changes[-1][1]
    if before is None:
        connection.send(_INSERT, {**job_values(after), **(columns or {})})
    else:
        _update(connection, before, after, by)
    _happened(connection, before, changes)
    return after


def readable(connection: Connection, row: AnyRow) -> Job:
    """The job of a row that is about to be changed.

    A row that can't be decoded is written anew, as that of a job that failed as `internal`: it must not keep
    the jobs beside it from being claimed, adopted or ended.
    """
    try:
        return job_of(row)
    except UNREADABLE:
        return set_aside(connection, row)


def set_aside(connection: Connection, row: AnyRow) -> Job:
    """End a job whose record can't be used, whoever has it."""
    at = connection.execute(_NOW).scalar_one()
    job = salvaged(row, at=at)
    connection.notes.count = None
    connection.send(_REWRITE, {**job_values(job), "b_seq": row.seq})
    connection.send(_END_ATTEMPTS, {"b_job_id": job.id, "b_at": at})
    if job.failure is not None:
        end = JobFailed(job_id=job.id, at=at, attempt=job.attempt, failure=job.failure)
        before = replace(job, status=JobStatus.QUEUED)
        _happened(connection, before, [(before, job, end)])
    log.error("job_set_aside", job_id=job.id, status=job.status.value)
    return job


def shown_after(job: Job, step: JobEvent) -> Job:
    """The job after a step of progress that is shown before it is written (see `driven`)."""
    return evolve(job, step)


_Change = tuple[Job | None, Job, JobEvent]


def _happened(connection: Connection, before: Job | None, changes: Sequence[_Change]) -> None:
    """Into the log, with what follows from it."""
    _append(connection, before, changes)
    for job, after, event in changes:
        for reaction in _FOLLOWS[event.__class__]:
            reaction(connection, job, after, event)


def _changes(before: Job | None, happened: Sequence[JobEvent]) -> list[_Change]:
    changes: list[_Change] = []
    job = before
    for event in happened:
        if job is not None:
            then = evolve(job, event)
        else:
            assert isinstance(event, JobQueued), "the first event of a job"
            then = queued(event)
        changes.append((job, then, event))
        job = then
    return changes


def _update(connection: Connection, before: Job, after: Job, by: Lease | None) -> None:
    """Write only what changed: SQLite rewrites the indexes of every column that an UPDATE names."""
    values = changed_values(before, after)
    row = {"b_id": before.id, "b_status": before.status.value, "b_attempt": before.attempt}
    if by is not None:
        row |= {"b_cancel": before.cancel_requested, **own(by)}
    if values:
        connection.notes.count = None
        written = connection.execute(_UPDATE if by is None else _UPDATE_OWN, {**values, **row}).rowcount
        if written == 1:
            return
    elif by is None:
        return
    raise Changed(
        f"The workflow {before.id} changed while it was being written.",
        next_step="Try again.",
        code=ErrorCode.STORE_UNAVAILABLE,
    )


def _append(connection: Connection, before: Job | None, changes: Sequence[_Change]) -> None:
    """Steps of progress go to subscribers and not into the log. An end supersedes all progress."""
    left = connection.notes
    final = changes[-1][1].is_final
    if final and before is not None and _may_have_progressed(before):
        connection.send(_DROP_PROGRESS, {"b_job_id": before.id})
        left.appended = tuple(each for each in left.appended if not _is_progress_of(before, each))
    shown: list[tuple[JobEvent, bool]] = []
    for job, _, event in changes:
        if not isinstance(event, JobProgressed):
            shown.append((event, False))
        elif not final:
            shown.append((event, job is not None and is_step(job, event)))
    rows = [event_values(event) for event, is_volatile in shown if not is_volatile]
    seqs = iter(connection.append(_APPEND, rows) if rows else ())
    left.appended += tuple(
        StoredEvent(seq=0 if is_volatile else next(seqs), event=event, volatile=is_volatile)
        for event, is_volatile in shown
    )


def _may_have_progressed(job: Job) -> bool:
    """False for a job in its first attempt that has not started: most jobs that take milliseconds."""
    return job.attempt > 0 and (job.attempt > 1 or job.prompt_id is None or job.started_at is not None)


def _is_progress_of(job: Job, stored: StoredEvent) -> bool:
    return isinstance(stored.event, JobProgressed) and stored.event.job_id == job.id


# ---------------------------------------------------------------------------------------------- reactions

Reaction = Callable[[Connection, Job | None, Job, JobEvent], None]


def _end_attempt(connection: Connection, before: Job | None, after: Job, event: JobEvent) -> None:
    if (ended := _ended(before, after)) is not None:
        connection.send(
            _END_ATTEMPT,
            {"b_job_id": ended.id, "b_attempt": ended.attempt, "b_state": event.type, "b_at": event.at},
        )


def _ended(before: Job | None, after: Job) -> Job | None:
    """The job as it was in the attempt that an event has ended."""
    return before if before is not None and before.is_claimed and not after.is_claimed else None


def _release_turn(connection: Connection, before: Job | None, after: Job, _event: JobEvent) -> None:
    had_turn = before is not None and before.status is not JobStatus.BLOCKED and before.attempt == 0
    if before is not None and after.is_final and had_turn:
        turns.ended_unclaimed(connection, before)


def _learn(connection: Connection, _before: Job | None, after: Job, event: JobEvent) -> None:
    vram.learn(connection, after, event)


def _count_spending(connection: Connection, before: Job | None, after: Job, _event: JobEvent) -> None:
    spending.count(connection, before, after)


def _tag(connection: Connection, _before: Job | None, _after: Job, event: JobEvent) -> None:
    tags.put(connection, event)


def _mark_retried(connection: Connection, _before: Job | None, after: Job, _event: JobEvent) -> None:
    if after.retry_of is not None:
        connection.send(_MARK_RETRIED, {"b_id": after.retry_of, "retried_by": after.id})


def _post(connection: Connection, _before: Job | None, after: Job, event: JobEvent) -> None:
    outbox.post(connection, after, event)


def _charge_and_go_on(connection: Connection, before: Job | None, after: Job, event: JobEvent) -> None:
    """Whom an end concerns is asked once: mostly nobody."""
    ended = _ended(before, after)
    seconds = 0.0 if ended is None else gpu_seconds_of(ended, event)
    if not (seconds or after.is_final):
        return
    concerned = connection.execute(_CONCERNED, {"b_id": after.id, "b_name": storable(after.client)}).one()
    if seconds and concerned.is_limited:
        quotas.charge(connection, after.client, seconds, event.at)
    if after.is_final and (after.after or concerned.is_waited_for):
        chains.ended(connection, after, event.at, WRITER)


def _apply_if_same(connection: Connection, before: Job, happened: Sequence[JobEvent]) -> Job | None:
    """None: somebody has changed it meanwhile, and what follows for it is found later."""
    try:
        return apply(connection, before, happened)
    except Changed:
        return None


WRITER = chains.Writer(_apply_if_same, readable)


_ATTEMPT_ENDS = (JobRequeued, *FINAL_EVENTS)

REACTIONS: tuple[tuple[Reaction, tuple[type[JobEvent], ...]], ...] = (
    (_end_attempt, _ATTEMPT_ENDS),
    (_release_turn, FINAL_EVENTS),
    (_learn, (JobCompleted,)),
    (_count_spending, (JobQueued, *_ATTEMPT_ENDS)),
    (_tag, (JobQueued,)),
    (_mark_retried, (JobQueued,)),
    (_post, get_args(JobEvent)),
    (_charge_and_go_on, _ATTEMPT_ENDS),
)
"""What follows from which events, in this order, in the same transaction."""

_FOLLOWS: Mapping[type[JobEvent], tuple[Reaction, ...]] = {
    each: tuple(reaction for reaction, on in REACTIONS if each in on) for each in get_args(JobEvent)
}
