"""Jobs that wait for others, and what follows for them when one ends. Synchronous; in a transaction.

The end of a job is written with what follows for those that wait for it (`journal.REACTIONS`), as far as one
transaction may do. What is left, and what two ends at the same moment left to each other where several
write at once, `settle_some` finds by the rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from comfy_mcp.domain.chains import ParentNow, Verdict, decide
from comfy_mcp.domain.events import FailureKind, JobEvent, JobFailed, JobFailure, JobWaiting
from comfy_mcp.domain.ids import JobId
from comfy_mcp.domain.job import TERMINAL, Job, JobStatus
from comfy_mcp.store import turns
from comfy_mcp.store.connection import AnyRow, Connection, Statement
from comfy_mcp.store.core import (
    Integer,
    and_,
    bindparam,
    delete,
    exists,
    insert,
    job_parents,
    jobs,
    or_,
    select,
)

AT_ONCE = 100
"""Jobs that one transaction sets free or fails: some 20 ms, in which nobody else writes."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Of the journal, which has this module's reaction. `apply` returns None where the row has changed."""

    apply: Callable[[Connection, Job, Sequence[JobEvent]], Job | None]
    readable: Callable[[Connection, AnyRow], Job]


_e, _j = job_parents.c, jobs.c
_parents = jobs.alias("parents")
_IS_BLOCKED = _j.status == JobStatus.BLOCKED.value
_ENDED = sorted(status.value for status in TERMINAL)

_ADD = Statement(insert(job_parents))
_FORGET = Statement(delete(job_parents).where(_e.job_id == bindparam("b_id")))
_CHILDREN = Statement(
    select(jobs)
    .join(job_parents, _e.job_id == _j.id)
    .where(_e.parent_id == bindparam("b_id"), _IS_BLOCKED)
    .order_by(_j.seq)
    .limit(bindparam("count", type_=Integer))
)
_ONE = Statement(select(jobs).where(_j.id == bindparam("b_id"), _IS_BLOCKED))
_PARENTS = Statement(
    select(_j.id, _j.status, _j.output_count, _j.name).where(_j.id.in_(bindparam("ids", expanding=True)))
)
_OF_CHILD = (
    select(_e.job_id).join(_parents, _parents.c.id == _e.parent_id, isouter=True).where(_e.job_id == _j.id)
)
_READY = Statement(
    select(jobs)
    .where(
        _IS_BLOCKED,
        or_(
            ~_OF_CHILD.where(_parents.c.status.not_in(_ENDED)).exists(),
            _OF_CHILD.where(
                and_(
                    _parents.c.status.in_(_ENDED),
                    _parents.c.status != JobStatus.COMPLETED.value,
                    ~_e.any_end,
                )
            ).exists(),
        ),
    )
    .order_by(_j.seq)
    .limit(bindparam("count", type_=Integer))
)
HAS_CHILDREN = exists().where(_e.parent_id == _j.id)
"""Of a job that is not to be deleted: one that has not ended waits for it, or takes its outputs."""


def begin(connection: Connection, job: Job, at: int, writer: Writer) -> Job:
    """The edges of a job that was just written, and what follows if the others have ended meanwhile."""
    for parent in job.after:
        values = {"job_id": job.id, "parent_id": parent.id, "any_end": parent.any_end}
        connection.execute(_ADD, values)
    row = connection.execute(_ONE, {"b_id": job.id}).one()
    return _settle(connection, row, job, at, writer) or job


def ended(connection: Connection, job: Job, at: int, writer: Writer) -> None:
    """It has ended just now: it waits for nobody any more, and the turn of those that wait for it may come.

    Those that fail end others in turn. They are queued here and not nested, however long the chain is.
    """
    if job.after:
        connection.execute(_FORGET, {"b_id": job.id})
    notes = connection.notes
    if notes.ended is not None:
        notes.ended.append(job.id)
        return
    waiting: list[JobId] = [job.id]
    notes.ended, left = waiting, AT_ONCE
    try:
        while waiting and left:
            rows = connection.execute(_CHILDREN, {"b_id": waiting.pop(0), "count": left}).rows
            left -= len(rows)
            for row in rows:
                _settle(connection, row, writer.readable(connection, row), at, writer)
    finally:
        notes.ended = None


def any_ready(connection: Connection) -> bool:
    return connection.execute(_READY, {"count": 1}).first() is not None


def settle_some(connection: Connection, at: int, writer: Writer) -> int:
    """The first that could go on, and do not. How many."""
    rows = connection.execute(_READY, {"count": AT_ONCE}).rows
    for row in rows:
        _settle(connection, row, writer.readable(connection, row), at, writer)
    return len(rows)


def _settle(connection: Connection, row: AnyRow, job: Job, at: int, writer: Writer) -> Job | None:
    """The job afterwards; None: it goes on waiting, or has ended meanwhile."""
    if job.status is not JobStatus.BLOCKED:
        return None
    found = connection.execute(_PARENTS, {"ids": [parent.id for parent in job.after]})
    verdict, cause = decide(job.after, {JobId(each.id): _now(each) for each in found})
    match verdict:
        case Verdict.WAITS:
            return None
        case Verdict.RUNS:
            after = writer.apply(connection, job, [JobWaiting(job_id=job.id, at=at, waiting_for=None)])
            if after is not None:
                turns.begin(connection, after, row.share_tag)
            return after
        case Verdict.FAILS:
            failure = JobFailure(kind=FailureKind.PARENT_FAILED, message=cause)
            return writer.apply(
                connection, job, [JobFailed(job_id=job.id, at=at, attempt=0, failure=failure)]
            )


def _now(row: AnyRow) -> ParentNow:
    return ParentNow(
        ended=row.status in _ENDED,
        completed=row.status == JobStatus.COMPLETED,
        status=row.status,
        outputs=row.output_count,
        name=row.name,
    )
