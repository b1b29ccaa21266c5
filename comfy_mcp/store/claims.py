"""What the holder of an engine's lease does: claim, adopt, record. Every write is fenced.

A lease in a database can't fence an engine. So the attempt and its prompt_id are written before the POST, and
each write checks the lease and the attempt in the transaction that it belongs to.
"""

import contextlib
from collections.abc import Sequence
from typing import Any

from comfy_mcp.domain.catalog import Output
from comfy_mcp.domain.events import JobClaimed, JobEvent
from comfy_mcp.domain.extra_data import Submitted
from comfy_mcp.domain.ids import JobId, PromptId
from comfy_mcp.domain.job import IllegalTransition, Job
from comfy_mcp.domain.vram import Admission
from comfy_mcp.store import holds, journal, leases, outputs, reads, turns
from comfy_mcp.store.codec import UNREADABLE, job_of, submitted_of
from comfy_mcp.store.connection import AnyRow, Connection, Statement, Values
from comfy_mcp.store.core import (
    IS_ACTIVE,
    IS_QUEUED,
    ONE,
    and_,
    attempts,
    bindparam,
    engine_leases,
    false,
    graphs,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from comfy_mcp.store.core import jobs as jobs_table
from comfy_mcp.store.queries import Claim, Lease
from comfy_mcp.store.vram import WITH_NEED

_j, _a, _l = jobs_table.c, attempts.c, engine_leases.c

_WAITS = and_(
    IS_QUEUED,
    _j.lane == bindparam("b_lane"),
    _j.prompt_id.is_(None),
    _j.cancel_requested == false(),
    or_(_j.queue_deadline.is_(None), _j.queue_deadline > bindparam("b_now")),
)
_ORDER = (_j.priority, _j.share_tag, _j.seq)
_NEXT = Statement(
    select(jobs_table, graphs.c.graph, graphs.c.submitted)
    .join(graphs, graphs.c.job_id == _j.id)
    .where(_WAITS)
    .order_by(*_ORDER)
    .limit(ONE)
)
_NEXT_THAT_FITS = Statement(
    select(jobs_table, graphs.c.graph, graphs.c.submitted)
    .select_from(WITH_NEED.join(graphs, graphs.c.job_id == _j.id))
    .where(_WAITS, holds.FITS)
    .order_by(*_ORDER)
    .limit(ONE)
)
_BEFORE_IT = tuple_(*_ORDER) < tuple_(bindparam("b_priority"), bindparam("b_tag"), bindparam("b_seq"))
_PASSED_OVER = holds.unseen(_WAITS)
_PASSED_OVER_BEFORE = holds.unseen(and_(_WAITS, _BEFORE_IT))
_ANY_WAITS = Statement(select(literal(1)).select_from(jobs_table).where(_WAITS).limit(ONE))
_INSERT_ATTEMPT = Statement(insert(attempts))
_IN_FLIGHT = Statement(
    select(jobs_table, graphs.c.graph, graphs.c.submitted, _a.stream_id, _a.reference)
    .select_from(attempts)
    .join(jobs_table, and_(_j.id == _a.job_id, _j.attempt == _a.attempt))
    .join(graphs, graphs.c.job_id == _j.id)
    .where(IS_ACTIVE, _a.engine == bindparam("b_engine"))
    .order_by(_a.claimed_at, _j.seq)
)
_KEEP_REFERENCE = Statement(
    update(attempts)
    .where(_a.prompt_id == bindparam("b_prompt_id"), _a.fence == bindparam("b_fence"))
    .values(reference=bindparam("b_reference"))
)
_REFENCE = Statement(
    update(attempts).where(IS_ACTIVE, _a.engine == bindparam("b_engine")).values(fence=bindparam("b_fence"))
)
# The job, who owns its latest attempt, and whether the lease is still the engine's: one look.
_OWNED = Statement(
    select(
        jobs_table,
        _a.engine.label("attempt_engine"),
        _a.fence.label("attempt_fence"),
        _l.fence.label("lease_fence"),
    )
    .outerjoin(attempts, and_(_a.job_id == _j.id, _a.attempt == _j.attempt))
    .outerjoin(
        engine_leases,
        and_(
            _l.engine == bindparam("b_engine"),
            _l.holder == bindparam("b_holder"),
            _l.fence == bindparam("b_fence"),
        ),
    )
    .where(_j.id == bindparam("b_job_id"))
)


def any_waits(connection: Connection, now: int, lane: str) -> bool:
    """Held jobs wait too."""
    return connection.execute(_ANY_WAITS, {"b_lane": lane, "b_now": now}).first() is not None


def claim_next(
    connection: Connection,
    lease: Lease,
    prompt_id: PromptId,
    stream_id: str | None,
    now: int,
    lane: str,
    admission: Admission | None,
) -> Claim | None:
    """One whose wait is over is left to `expiry.expire`. With `admission`, jobs that are passed over
    for lack of memory are marked as held. Raises Fenced."""
    leases.verify(connection, lease)
    where = {"b_lane": lane, "b_now": now}
    if admission is None:
        found = _first(connection, _NEXT, where)
        return None if found is None else _claim(connection, lease, prompt_id, stream_id, now, lane, *found)
    found = _first(connection, _NEXT_THAT_FITS, {**where, **holds.limits(admission)})
    claim = None if found is None else _claim(connection, lease, prompt_id, stream_id, now, lane, *found)
    if found is None:
        holds.review(connection, admission, _PASSED_OVER, where, now)
    else:
        row = found[0]
        place = {"b_priority": row.priority, "b_tag": row.share_tag, "b_seq": row.seq}
        holds.review(connection, admission, _PASSED_OVER_BEFORE, {**where, **place}, now)
    return claim


def _claim(
    connection: Connection,
    lease: Lease,
    prompt_id: PromptId,
    stream_id: str | None,
    now: int,
    lane: str,
    row: AnyRow,
    before: Job,
    submitted: Submitted | None,
) -> Claim:
    job = journal.apply(connection, before, (claimed(before, lease, prompt_id, now),))
    more = any_waits(connection, now, lane)
    begin_attempt(connection, lease, job, stream_id, now)
    if before.attempt == 0:  # queued again, it has had its turn
        turns.claimed(connection, job, row.share_tag, more=more)
    return Claim(
        job=job,
        text=row.graph,
        submitted=submitted,
        stream_id=stream_id,
        more=more,
    )


_Readable = tuple[AnyRow, Job, Submitted | None]


def _first(connection: Connection, statement: Statement, where: Values) -> _Readable | None:
    """The first row that can be read. Those before it are set aside, and are not found again."""
    while (row := connection.execute(statement, where).first()) is not None:
        if (found := _readable(connection, row)) is not None:
            return found
    return None


def _readable(connection: Connection, row: AnyRow) -> _Readable | None:
    """None: the job can't be read, and has ended."""
    try:
        return row, job_of(row), submitted_of(row.submitted)
    except UNREADABLE:
        journal.set_aside(connection, row)
        return None


def claimed(job: Job, lease: Lease, prompt_id: PromptId, now: int) -> JobClaimed:
    return JobClaimed(
        job_id=job.id, at=now, attempt=job.attempt + 1, engine=lease.engine, prompt_id=prompt_id
    )


def begin_attempt(connection: Connection, lease: Lease, job: Job, stream_id: str | None, now: int) -> None:
    """Of a job that was just claimed."""
    connection.execute(
        _INSERT_ATTEMPT,
        {
            "job_id": job.id,
            "attempt": job.attempt,
            "prompt_id": job.prompt_id,
            "engine": lease.engine,
            "fence": lease.fence,
            "state": "active",
            "claimed_at": now,
            "stream_id": stream_id,
        },
    )


def keep_reference(connection: Connection, lease: Lease, prompt_id: PromptId, reference: str) -> None:
    """Raises Fenced."""
    leases.verify(connection, lease)
    connection.execute(
        _KEEP_REFERENCE, {"b_prompt_id": prompt_id, "b_fence": lease.fence, "b_reference": reference}
    )


def adopt(connection: Connection, lease: Lease) -> list[Claim]:
    """What the engine has, or may have, from whoever drove it before; oldest claim first. What can't be read
    ends. Raises Fenced."""
    leases.verify(connection, lease)
    connection.execute(_REFENCE, {"b_engine": lease.engine, "b_fence": lease.fence})
    rows = connection.execute(_IN_FLIGHT, {"b_engine": lease.engine})
    found = [each for row in rows if (each := _readable(connection, row)) is not None]
    return [
        Claim(
            job=job,
            text=row.graph,
            submitted=submitted,
            stream_id=row.stream_id,
            reference=row.reference,
        )
        for row, job, submitted in found
    ]


def record(
    connection: Connection,
    lease: Lease,
    job_id: JobId,
    happened: Sequence[JobEvent],
    made: Sequence[Output],
    known: Job | None = None,
) -> Job:
    """Raises NotFound, Fenced, IllegalTransition; then nothing is written.

    `known`: the job as the caller has written it last. If it still is so, it need not be read.
    """
    if any(event.job_id != job_id for event in happened):
        raise ValueError(f"an event of another job among those of {job_id}")
    after = None
    if known is not None and happened and not any(isinstance(event, JobClaimed) for event in happened):
        with contextlib.suppress(journal.Changed, IllegalTransition):  # by what is known: the row decides
            after = journal.apply(connection, known, happened, by=lease)
    if after is None:
        after = _record(connection, lease, job_id, happened)
    if made and after.is_claimed:
        raise ValueError("outputs are written with the end of an attempt")
    outputs.add(connection, job_id, made)
    return after


def _record(connection: Connection, lease: Lease, job_id: JobId, happened: Sequence[JobEvent]) -> Job:
    row = connection.execute(_OWNED, {**leases.own(lease), "b_job_id": job_id}).first()
    if row is None:
        raise reads.not_found(job_id)
    if row.lease_fence is None or not _owns(row, lease):
        raise leases.lost(lease)
    before = journal.readable(connection, row)
    for event in happened:
        if isinstance(event, JobClaimed):
            raise IllegalTransition(before, event)  # only a claim does it: it writes the attempt down
    return journal.apply(connection, before, happened) if happened else before


def _owns(row: Any, lease: Lease) -> bool:
    """An attempt in flight, or one that ended with its job, is its driver's alone. A job that waits is
    nobody's: any live driver may speak for it (fail it when no attempt is left)."""
    if row.prompt_id is None:
        return True
    return bool(row.attempt_engine == lease.engine and row.attempt_fence == lease.fence)
