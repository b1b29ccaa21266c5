"""Jobs that wait for others, and what follows for them when one ends. Synchronous; in a transaction.

The end of a job is written with what follows for those that wait for it (`journal.REACTIONS`), as far as one
transaction may do. What is left, and what two ends at the same moment left to each other where several
write at once, `settle_some` finds by the rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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
    func,
    insert,
    job_parents,
    jobs,
    literal_column,
    or_,
    select,
)

AT_ONCE = 100
"""Jobs that one transaction sets free or fails: some 20 ms, in which nobody else writes."""

LOOKED_AT = 1_000
"""Jobs that wait for others among which one look finds those that could go on: 5 ms."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Of the journal, which has this module's reaction. `apply` returns None where the row has changed."""

    apply: Callable[[Connection, Job, Sequence[JobEvent]], Job | None]
    readable: Callable[[Connection, AnyRow], Job]


_e, _j = job_parents.c, jobs.c
_parents = jobs.alias("parents")
_BLOCKED: Any = literal_column(f"'{JobStatus.BLOCKED.value}'")
_IS_BLOCKED = _j.status == _BLOCKED
_ENDED = sorted(status.value for status in TERMINAL)

_ADD = Statement(insert(job_parents))
_FORGET = Statement(delete(job_parents).where(_e.job_id == bindparam("b_id")))
# By the edges of the parent: an index of the status, if that were compared by itself, would lead through all
# jobs that wait for others.
_CHILDREN = Statement(
    select(jobs)
    .join(job_parents, _e.job_id == _j.id)
    .where(_e.parent_id == bindparam("b_id"), _j.status.concat("") == _BLOCKED)
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
_WINDOW = (
    select(_j.seq)
    .where(_IS_BLOCKED, _j.seq > bindparam("b_after"))
    .order_by(_j.seq)
    .limit(bindparam("b_window", type_=Integer))
    .subquery()
)
_END_OF_WINDOW = Statement(select(func.max(_WINDOW.c.seq).label("seq"), func.count().label("jobs")))
_READY = Statement(
    select(jobs)
    .where(
        _j.seq.in_(select(_WINDOW.c.seq)),
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
IS_WAITED_FOR = exists().where(_e.parent_id == bindparam("b_id"))
"""By jobs that were submitted with it as a parent."""
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


@dataclass(frozen=True, slots=True)
class Look:
    """`ready`: some of the next LOOKED_AT that wait for others could go on. `next`: behind which of them the
    next look begins; 0: with the oldest."""

    ready: bool
    next: int


def look(connection: Connection, after: int) -> Look:
    """Whether an end has left something, among the next ones behind `after`."""
    window = {"b_after": after, "b_window": LOOKED_AT}
    ready = bool(connection.execute(_READY, {**window, "count": 1}).rows)
    end = connection.execute(_END_OF_WINDOW, window).one()
    return Look(ready, end.seq if end.jobs == LOOKED_AT else 0)


def settle_some(connection: Connection, after: int, at: int, writer: Writer) -> int:
    """The first of these that could go on, and do not. How many."""
    window = {"b_after": after, "b_window": LOOKED_AT}
    rows = connection.execute(_READY, {**window, "count": AT_ONCE}).rows
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
