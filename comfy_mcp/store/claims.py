"""What the holder of an engine's lease does: claim, adopt, record. Every write is fenced.

A lease in a database can't fence an engine. So the attempt and its prompt_id are written before the POST, and
each write checks the lease and the attempt in the transaction that it belongs to.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from comfy_mcp.domain import fair_share
from comfy_mcp.domain.catalog import Output
from comfy_mcp.domain.events import JobClaimed, JobEvent, Priority
from comfy_mcp.domain.extra_data import Submitted
from comfy_mcp.domain.ids import JobId, PromptId
from comfy_mcp.domain.job import IllegalTransition, Job
from comfy_mcp.store import choosing, heads, holds, journal, leases, outputs, quotas, reads, turns
from comfy_mcp.store.codec import UNREADABLE, job_of, submitted_of
from comfy_mcp.store.connection import AnyRow, Connection, Statement, Values
from comfy_mcp.store.core import (
    IS_ACTIVE,
    ONE,
    and_,
    attempts,
    bindparam,
    engine_leases,
    graphs,
    insert,
    literal,
    select,
    update,
)
from comfy_mcp.store.core import jobs as jobs_table
from comfy_mcp.store.queries import Claim, ClaimOffer, Lease
from comfy_mcp.store.waiting import NOT_REFUSED, WAITS

_j, _a, _l = jobs_table.c, attempts.c, engine_leases.c

_WITH_GRAPH = (jobs_table, graphs.c.graph, graphs.c.needs, graphs.c.submitted)

_CHOSEN = Statement(
    select(*_WITH_GRAPH)
    .join(graphs, graphs.c.job_id == _j.id)
    .where(_j.id == bindparam("b_id"), WAITS, NOT_REFUSED, heads.NOT_AT_LIMIT)
)
_ANY_WAITS = Statement(select(literal(1)).select_from(jobs_table).where(WAITS).limit(ONE))
_ANY_BELOW_LIMIT = heads.any_head(WAITS)
_ANY_BELOW_LIMIT_AT = heads.any_head(WAITS, _j.priority == bindparam("b_priority"))
_LOWEST = Statement(select(_j.priority).where(WAITS).order_by(_j.priority.desc()).limit(ONE))
_WAITS_AT = Statement(
    select(literal(1)).select_from(jobs_table).where(WAITS, _j.priority == bindparam("b_priority")).limit(ONE)
)
_INSERT_ATTEMPT = Statement(insert(attempts))
_IN_FLIGHT = Statement(
    select(*_WITH_GRAPH, _a.stream_id, _a.reference)
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
    """Held jobs wait too, those of a client at its limit do not."""
    where = {"b_lane": lane, "b_now": now}
    if not connection.execute(_ANY_WAITS, where).rows:
        return False
    at_limit = quotas.at_limit(connection, now)
    return not at_limit or bool(connection.execute(_ANY_BELOW_LIMIT, {**where, "at_limit": at_limit}).rows)


def claim_next(
    connection: Connection, offer: ClaimOffer, now: int, found: choosing.Found | None = None
) -> Claim | None:
    """One whose wait is over is left to `expiry.expire`, one whose client is at a limit waits. `found`: that
    job and no other, if it waits still; jobs passed over for lack of memory are marked as held. Raises
    Fenced."""
    claiming = leases.claiming(connection, offer.lease)
    if not claiming.takes_jobs:
        return None
    passed = turns.passed(connection, offer.lane)
    where = choosing.values(connection, offer, claiming, now)
    if found is None:
        read = _next(connection, offer, where, fair_share.first_rank(passed))
    else:
        read = None if found.job_id is None else _read(connection, where, found.job_id)
    claim = None if read is None else _claim(connection, offer, where, passed, *read)
    if found is not None and offer.admission is not None:
        holds.tell(connection, offer.admission, found.told, now)
    return claim


_Readable = tuple[AnyRow, Job, Submitted | None]


def _next(connection: Connection, offer: ClaimOffer, where: Values, first_rank: int) -> _Readable | None:
    """The first one that can be read. Those before it are set aside, and are not found again."""
    while (row := choosing.chosen(connection, offer, where, first_rank)) is not None:
        if (read := _read(connection, where, row.id)) is not None:
            return read
    return None


def _read(connection: Connection, where: Values, job_id: JobId) -> _Readable | None:
    row = connection.execute(_CHOSEN, {**where, "b_id": job_id}).first()
    return None if row is None else _readable(connection, row)


def _claim(
    connection: Connection,
    offer: ClaimOffer,
    where: Values,
    passed: Mapping[int, int],
    row: AnyRow,
    before: Job,
    submitted: Submitted | None,
) -> Claim:
    now = where["b_now"]
    job = journal.apply(connection, before, (claimed(before, offer.lease, offer.prompt_id, now),))
    waiting = _waiting_ranks(connection, job, where)
    begin_attempt(connection, offer.lease, job, offer.stream_id, now)
    if before.attempt == 0:  # queued again, it has had its turn
        turns.claimed(connection, job, row.share_tag, more=bool(waiting))
    turns.passes(connection, job, passed, [each for each in waiting if each > job.priority.rank])
    return Claim(
        job=job,
        text=row.graph,
        needs=choosing.needs_in(row),
        submitted=submitted,
        stream_id=offer.stream_id,
        more=bool(waiting),
    )


def _waiting_ranks(connection: Connection, job: Job, where: Values) -> list[int]:
    """The priorities below the job's of which jobs wait, and the lowest of all that do."""
    if where["at_limit"]:
        ranks = [each.rank for each in Priority]
        return [each for each in ranks if _waits_at(connection, _ANY_BELOW_LIMIT_AT, where, each)]
    lowest = connection.execute(_LOWEST, where).scalar()
    if lowest is None:
        return []
    between = range(job.priority.rank + 1, lowest)
    return [*(each for each in between if _waits_at(connection, _WAITS_AT, where, each)), lowest]


def _waits_at(connection: Connection, statement: Statement, where: Values, rank: int) -> bool:
    return bool(connection.execute(statement, {**where, "b_priority": rank}).rows)


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
    connection.send(
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
    connection.send(
        _KEEP_REFERENCE, {"b_prompt_id": prompt_id, "b_fence": lease.fence, "b_reference": reference}
    )


def adopt(connection: Connection, lease: Lease) -> list[Claim]:
    """What the engine has, or may have, from whoever drove it before; oldest claim first. What can't be read
    ends. Raises Fenced."""
    leases.verify(connection, lease)
    connection.send(_REFENCE, {"b_engine": lease.engine, "b_fence": lease.fence})
    rows = connection.execute(_IN_FLIGHT, {"b_engine": lease.engine})
    found = [each for row in rows if (each := _readable(connection, row)) is not None]
    return [
        Claim(
            job=job,
            text=row.graph,
            needs=choosing.needs_in(row),
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
