"""Jobs come into the queue and leave it by a cancel. Synchronous; runs in a transaction of the caller."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from comfy_mcp.domain import fair_share
from comfy_mcp.domain.errors import LimitExceeded
from comfy_mcp.domain.events import CancelRequested, JobCancelled, JobEvent, Priority, PriorityChanged
from comfy_mcp.domain.ids import JobId
from comfy_mcp.domain.job import TERMINAL, CancelAnswer, Job, JobStatus, decide_cancel
from comfy_mcp.domain.transitions import queued
from comfy_mcp.store import chains, claims, idempotency, journal, leases, quotas, reads, spending, turns, vram
from comfy_mcp.store.codec import needs_text
from comfy_mcp.store.connection import AnyRow, Connection, QueueCount, QueueSize, Statement
from comfy_mcp.store.core import (
    and_,
    api_keys,
    bindparam,
    engine_leases,
    func,
    graphs,
    insert,
    jobs,
    literal_column,
    select,
)
from comfy_mcp.store.queries import ClaimOffer, Submission
from comfy_mcp.store.waiting import SIZES

LONG_QUEUE, RECOUNT_MS = 2_000, 1_000
"""A count walks the queue. One of 2,000 jobs and more is counted once a second, not at each submit; until the
next count the positions of new jobs are estimates."""

_INSERT_GRAPH = Statement(insert(graphs))
_NO_RANK = -1
"""In the place of a priority, in the row of the jobs that wait for others."""

_QUEUE_SIZES = Statement(
    SIZES.union_all(
        select(literal_column("''"), literal_column(str(_NO_RANK)), func.count(), literal_column("0")).where(
            jobs.c.status == literal_column("'blocked'")
        )
    )
)
# Whose turn it would be, what the client's key allows, and whether the lease with which it is to be claimed
# is the engine's still: one look.
_SUBMIT = Statement(
    select(*turns.STANDING, *quotas.LIMITS, engine_leases.c.fence, engine_leases.c.drained_at).select_from(
        select(literal_column("1").label("one"))
        .subquery()
        .outerjoin(api_keys, api_keys.c.name == bindparam("b_client"))
        .outerjoin(engine_leases, and_(*leases.OWN))
    )
)
_NO_LEASE = dict.fromkeys(("b_engine", "b_holder", "b_fence"))


@dataclass(frozen=True, slots=True)
class Added:
    """`position` is the position in the lane's run order, 1 = next; 0: it waits for other jobs. `claimed`: it
    was, in the same step; then `others_wait` says whether there is more to claim."""

    job: Job
    position: int
    claimed: bool = False
    others_wait: bool = True


def add(connection: Connection, submission: Submission, offer: ClaimOffer | None = None) -> Added:
    """One more job; of a key's first use, the job then.

    With an `offer` it is claimed at once if it is the next to run.

    Raises LimitExceeded, and Conflict for a key that was used for something else.
    """
    event, use = submission.event, submission.idempotency
    if use is not None and (known := idempotency.first_use(connection, use)):
        job_id, position = known
        first = reads.get(connection, job_id)
        assert first is not None, "a key goes with its job"
        return Added(first, position)
    count = _room(connection, submission)
    sizes, graph_bytes = count.sizes, submission.texts.size
    place, lease = turns.queue_of(event), _NO_LEASE if offer is None else leases.own(offer.lease)
    found = connection.execute(_SUBMIT, {**place, **lease}).one()
    if quotas.check(connection, submission, found, graph_bytes, queued=count.queued, blocked=count.blocked):
        offer = None  # the claim decides
    spending.require(connection, event)
    if event.after:
        return _add_blocked(connection, submission)
    job = queued(event)
    turn = turns.turn_by(connection, place, found, fair=submission.fair)
    in_front = _ahead(sizes, job, turn)
    happened: tuple[JobEvent, ...] = (event,)
    passed = turns.passed(connection, job.lane) if offer is not None and in_front.lower else {}
    is_next = not in_front.waiting and not fair_share.first_rank(passed) and count.total < LONG_QUEUE
    takes_jobs = found.fence is not None and found.drained_at is None
    if offer is not None and is_next and takes_jobs and _has_memory(connection, offer, job):
        happened += (claims.claimed(job, offer.lease, offer.prompt_id, event.at),)
    job = _write(connection, submission, happened, turn.tag)
    others_wait = any(size.jobs > size.claimed for (lane, _), size in sizes.items() if lane == job.lane)
    size = sizes.setdefault((job.lane, job.priority.rank), QueueSize(jobs=0, claimed=0))
    size.jobs += 1
    if offer is not None and job.is_claimed:
        size.claimed += 1
        claims.begin_attempt(connection, offer.lease, job, offer.stream_id, event.at)
        turns.claimed(connection, job, turn.tag, more=others_wait)
        turns.passes(connection, job, passed, in_front.lower)
    position = submission.ahead + in_front.waiting + in_front.claimed + 1
    if use is not None:
        idempotency.remember_use(connection, use, job.id, position, event.at)
    return Added(job, position, claimed=job.is_claimed, others_wait=others_wait)


def ahead_of(connection: Connection, job: Job, *, fair: bool) -> int:
    """How many of its lane would run before a job, if it came now."""
    turn = turns.new_turn(connection, job, fair=fair)
    in_front = _ahead(_counted(connection, job.created_at).sizes, job, turn)
    return in_front.waiting + in_front.claimed


def _write(
    connection: Connection, submission: Submission, happened: Sequence[JobEvent], share_tag: int
) -> Job:
    needs, texts = submission.needs, submission.texts
    job = journal.apply(
        connection,
        None,
        happened,
        columns={
            "share_tag": share_tag,
            "graph_bytes": texts.size,
            "needs_key": None if needs is None else needs.key,
        },
    )
    values = {"graph": texts.graph, "needs": needs_text(needs), "submitted": texts.submitted}
    connection.send(_INSERT_GRAPH, {"job_id": job.id, **values})
    return job


def _add_blocked(connection: Connection, submission: Submission) -> Added:
    """A job that waits for others; queued at once, or failed, where these have ended."""
    event, use = submission.event, submission.idempotency
    job = _write(connection, submission, (event,), turns.none_yet(fair=submission.fair))
    if connection.notes.count is not None:
        connection.notes.count.blocked += 1
    job = chains.begin(connection, job, event.at, journal.WRITER)
    place = reads.position(connection, job.id)
    position = 0 if place is None else submission.ahead + place
    if use is not None:
        idempotency.remember_use(connection, use, job.id, position, event.at)
    return Added(job, position)


def add_all(connection: Connection, submissions: Sequence[Submission]) -> list[Added]:
    """All or none. Of a first submission that was made before, only that one comes back."""
    try:
        first = add(connection, submissions[0])
        if first.job.id != submissions[0].event.job_id:
            return [first]
        return [first, *(add(connection, each) for each in submissions[1:])]
    except LimitExceeded:
        connection.notes.count = connection.long_count = None  # they count those that are not kept
        raise


def _has_memory(connection: Connection, offer: ClaimOffer, job: Job) -> bool:
    if offer.admission is None or job.shape is None:
        return True
    return offer.admission.admits(vram.need(connection, job.shape), None)


def cancel(
    connection: Connection, job_id: JobId, at: int, reason: str | None, by: str | None = None
) -> tuple[Job, CancelAnswer]:
    """Raises NotFound. Asking again adds nothing."""
    return _cancel(connection, _row(connection, job_id), at, reason, by)


def cancel_all(
    connection: Connection, ids: Collection[JobId], at: int, reason: str | None, by: str | None
) -> list[tuple[Job, CancelAnswer]]:
    """The newest first. Those that are no more there are left out."""
    rows = [row for each in ids if (row := reads.row_of(connection, each)) is not None]
    rows.sort(key=lambda row: row.seq, reverse=True)
    return [_cancel(connection, row, at, reason, by) for row in rows]


def _cancel(
    connection: Connection, row: AnyRow, at: int, reason: str | None, by: str | None
) -> tuple[Job, CancelAnswer]:
    job = journal.readable(connection, row)
    job_id = job.id
    answer = decide_cancel(job)
    request = CancelRequested(job_id=job_id, at=at, reason=reason, by=by)
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


def set_priorities(
    connection: Connection, ids: Collection[JobId], priority: Priority, *, at: int, by: str | None, fair: bool
) -> list[Job]:
    """Those that no engine has, with the new priority, in their order. The others are left out."""
    changed = []
    for each in ids:
        row = reads.row_of(connection, each)
        job = None if row is None else journal.readable(connection, row)
        if job is not None and job.waits_unclaimed and job.priority is not priority:
            changed.append(_set_priority(connection, job, priority, at=at, by=by, fair=fair))
    return changed


def _set_priority(
    connection: Connection, job: Job, priority: Priority, *, at: int, by: str | None, fair: bool
) -> Job:
    event = PriorityChanged(job_id=job.id, at=at, priority=priority, by=by)
    if job.status is JobStatus.BLOCKED:  # it has no turn yet
        return journal.apply(connection, job, (event,))
    return turns.change(
        connection, job, priority, fair=fair, write=lambda: journal.apply(connection, job, (event,))
    )


def abandon(connection: Connection, job_id: JobId, at: int, reason: str, by: str | None = None) -> Job | None:
    """Cancel it without asking whoever has it. None: it has ended. Raises NotFound."""
    row = _row(connection, job_id)
    job = journal.readable(connection, row)
    if job.is_final:
        return None if row.status in TERMINAL else job
    request = CancelRequested(job_id=job_id, at=at, reason=reason, by=by)
    end = JobCancelled(job_id=job_id, at=at, attempt=job.attempt, output_count=job.output_count)
    return journal.apply(connection, job, (request, end))


def _row(connection: Connection, job_id: JobId) -> AnyRow:
    if (row := reads.row_of(connection, job_id)) is None:
        raise reads.not_found(job_id)
    return row


def _room(connection: Connection, submission: Submission) -> QueueCount:
    """What is queued before the submission. Raises LimitExceeded."""
    at = submission.event.at
    count = _counted(connection, at)
    if count.total < submission.max_queued:
        return count
    if count is connection.long_count:  # it may be less by now
        connection.notes.count = connection.long_count = None
        count = _counted(connection, at)
    if count.total >= submission.max_queued:
        raise LimitExceeded(
            f"The queue is full: {count.total} jobs; the limit is {submission.max_queued}.",
            next_step="Wait until some have ended, or cancel some; then submit again.",
        )
    return count


def _counted(connection: Connection, at: int) -> QueueCount:
    """Counted once in a transaction that serves many submits, and seldom where the queue is long."""
    notes, known = connection.notes, connection.long_count
    if notes.count is None and known is not None and 0 <= at - known.at < RECOUNT_MS:
        notes.count = known
    if notes.count is None:
        rows = connection.execute(_QUEUE_SIZES).rows
        sizes = {
            (row.lane, row.priority): QueueSize(jobs=row.jobs, claimed=row.claimed)
            for row in rows
            if row.priority != _NO_RANK
        }
        notes.count = QueueCount(sizes, sum(row.jobs for row in rows if row.priority == _NO_RANK), at)
        connection.long_count = notes.count if notes.count.total >= LONG_QUEUE else None
    return notes.count


@dataclass(slots=True)
class _InFront:
    """Jobs of a lane that run before a new one: those that wait, and those that an engine has. `lower`: the
    lower priorities, by rank, of which jobs wait."""

    waiting: int = 0
    claimed: int = 0
    lower: list[int] = field(default_factory=list)


def _ahead(sizes: Mapping[tuple[str, int], QueueSize], job: Job, turn: turns.Turn) -> _InFront:
    rank, found = job.priority.rank, _InFront()
    for (lane, priority), size in sizes.items():
        if lane != job.lane:
            continue
        found.claimed += size.claimed
        if priority == rank and turn.ahead is not None:
            found.waiting += turn.ahead
        elif priority <= rank:
            found.waiting += size.jobs - size.claimed
        elif size.jobs > size.claimed:
            found.lower.append(priority)
    return found
