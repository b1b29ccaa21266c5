"""Whose turn it is, see `domain/fair_share.py`. Synchronous; runs in a transaction of the caller.

`jobs.share_tag` is a job's tag, given at its submit: a job that is queued again keeps it, and so its turn.
`client_shares` has the tag of each client's last claimed job, by lane and priority; the greatest of them is
the queue's virtual time. `passed_over` counts how often each priority was passed by.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from comfy_mcp.domain.events import JobQueued, Priority
from comfy_mcp.domain.fair_share import age_tag, next_tag, start_tag
from comfy_mcp.domain.job import Job
from comfy_mcp.store.codec import storable
from comfy_mcp.store.connection import AnyRow, Connection, Statement, Values
from comfy_mcp.store.core import (
    IS_QUEUED,
    ONE,
    bindparam,
    client_shares,
    delete,
    func,
    insert,
    jobs,
    literal_column,
    passed_over,
    select,
    update,
)

MOST_AHEAD = 1_000
"""Behind more jobs than these a new one is said to be behind all: counting them walks the queue."""

_s, _j = client_shares.c, jobs.c
_SAME_QUEUE = (_s.lane == bindparam("b_lane"), _s.priority == bindparam("b_priority"))
_SAME_CLIENT = (*_SAME_QUEUE, _s.client == bindparam("b_client"))
_IN_QUEUE = (IS_QUEUED, _j.lane == bindparam("b_lane"), _j.priority == bindparam("b_priority"))
_OF_CLIENT = (*_IN_QUEUE, _j.client == bindparam("b_client"))

STANDING = (
    select(func.max(_s.tag)).where(*_SAME_QUEUE).scalar_subquery().label("virtual_time"),
    select(_s.tag).where(*_SAME_CLIENT).scalar_subquery().label("claimed"),
    select(func.max(_j.share_tag)).where(*_OF_CLIENT).scalar_subquery().label("waiting"),
    select(func.max(_j.share_tag)).where(*_IN_QUEUE).scalar_subquery().label("newest"),
)
"""What a new job's turn depends on."""
_STANDING = Statement(select(*STANDING))
_FIRST_AHEAD = (
    select(_j.seq)
    .where(*_IN_QUEUE, _j.prompt_id.is_(None), _j.share_tag <= bindparam("b_tag"))
    .limit(literal_column(str(MOST_AHEAD)))
)
_AHEAD = Statement(select(func.count()).select_from(_FIRST_AHEAD.subquery()))
_CLAIMED = Statement(
    insert(client_shares),
    "(lane, priority, client) DO UPDATE SET tag = excluded.tag WHERE client_shares.tag < excluded.tag",
)
_BEGIN = Statement(update(jobs).where(_j.id == bindparam("b_id")).values(share_tag=bindparam("b_tag")))
_TAG = Statement(select(_j.share_tag).where(_j.id == bindparam("b_id")))
_NEXT_OF_CLIENT = (
    select(_j.seq).where(*_OF_CLIENT, _j.prompt_id.is_(None)).order_by(_j.share_tag, _j.seq).limit(ONE)
)
_MOVE_UP = Statement(
    update(jobs)
    .where(_j.seq == _NEXT_OF_CLIENT.scalar_subquery(), _j.share_tag > bindparam("b_tag"))
    .values(share_tag=bindparam("b_tag"))
)
_p = passed_over.c
_OF_LANE, _OF_PRIORITY = _p.lane == bindparam("b_lane"), _p.priority == bindparam("b_priority")
_PASSED = Statement(select(_p.priority, _p.claims).where(_OF_LANE, _p.claims > 0))
_PASS = Statement(
    insert(passed_over), "(lane, priority) DO UPDATE SET claims = passed_over.claims + excluded.claims"
)
_SERVED = Statement(update(passed_over).where(_OF_LANE, _OF_PRIORITY).values(claims=0))
_greatest = client_shares.alias("greatest")
_FORGET = Statement(
    delete(client_shares).where(
        _s.tag
        < select(func.max(_greatest.c.tag))
        .where(_greatest.c.lane == _s.lane, _greatest.c.priority == _s.priority)
        .scalar_subquery()
    )
)


@dataclass(frozen=True, slots=True)
class Turn:
    """A new job's tag, and how many of its queue that no engine has run before it; None: all of them, or
    too many to count."""

    tag: int
    ahead: int | None


def new_turn(connection: Connection, job: Job, *, fair: bool) -> Turn:
    """The turn of a job that is not written yet. Not `fair`: after all jobs of its priority."""
    queue = queue_of(job)
    return turn_by(connection, queue, connection.execute(_STANDING, queue).one(), fair=fair)


def turn_by(connection: Connection, queue: Values, standing: AnyRow, *, fair: bool) -> Turn:
    """The same by a row that has STANDING of that queue and client."""
    virtual_time = standing.virtual_time or 0
    if fair:
        known = [tag for tag in (standing.waiting, standing.claimed) if tag is not None]
        tag = start_tag(virtual_time=virtual_time, last=max(known, default=None))
    else:
        tag = age_tag(virtual_time=virtual_time, newest=standing.newest)
    if standing.newest is None or tag >= standing.newest:
        return Turn(tag, None)
    ahead = connection.execute(_AHEAD, {**queue, "b_tag": tag}).scalar_one()
    return Turn(tag, ahead if ahead < MOST_AHEAD else None)


def none_yet(*, fair: bool) -> int:
    """In the place of a tag, of a job that has no turn yet because it waits for others."""
    return _FAIR if fair else _BY_AGE


def begin(connection: Connection, job: Job, none: int) -> None:
    """From now on it has a turn, as if it had come now. `none` is what `none_yet` said."""
    turn = new_turn(connection, job, fair=none != _BY_AGE)
    connection.send(_BEGIN, {"b_id": job.id, "b_tag": turn.tag})


_FAIR, _BY_AGE = 0, -1


def change(
    connection: Connection, before: Job, priority: Priority, *, fair: bool, write: Callable[[], Job]
) -> Job:
    """Its turn among those of another priority, as if it had come there now, around the `write` of that. The
    client's next job of the old priority takes its place, unless it has had its turn."""
    new = new_turn(connection, replace(before, priority=priority), fair=fair)
    old: int = connection.execute(_TAG, {"b_id": before.id}).scalar_one()
    after = write()
    connection.send(_BEGIN, {"b_id": before.id, "b_tag": new.tag})
    if before.attempt == 0:
        connection.send(_MOVE_UP, {**queue_of(before), "b_tag": next_tag(old, claimed=False)})
    return after


def claimed(connection: Connection, job: Job, tag: int, *, more: bool) -> None:
    """The job has its turn, the first one. `more`: others wait in its lane."""
    values = {"lane": job.lane, "priority": job.priority.rank, "client": storable(job.client), "tag": tag}
    connection.send(_CLAIMED, values)
    if more:
        connection.send(_MOVE_UP, {**queue_of(job), "b_tag": next_tag(tag, claimed=True)})


def passed(connection: Connection, lane: str) -> Mapping[int, int]:
    """See `fair_share.first_rank`."""
    return {row.priority: row.claims for row in connection.execute(_PASSED, {"b_lane": lane})}


def passes(connection: Connection, job: Job, before: Mapping[int, int], waiting: Collection[int]) -> None:
    """The job was claimed. `waiting`: the lower priorities of its lane of which jobs wait; `before`: what
    `passed` said."""
    if job.priority.rank in before:
        connection.send(_SERVED, {"b_lane": job.lane, "b_priority": job.priority.rank})
    for rank in waiting:
        connection.send(_PASS, {"lane": job.lane, "priority": rank, "claims": 1})


def ended_unclaimed(connection: Connection, job: Job) -> None:
    """The job waits no more and never had a turn."""
    tag: int = connection.execute(_TAG, {"b_id": job.id}).scalar_one()
    connection.send(_MOVE_UP, {**queue_of(job), "b_tag": next_tag(tag, claimed=False)})


def forget(connection: Connection) -> None:
    """What changes no tag any more: a client behind the virtual time starts there, as a new one does."""
    connection.execute(_FORGET)


def queue_of(job: Job | JobQueued) -> Values:
    """A job's lane and priority there, and its client."""
    return {"b_lane": job.lane, "b_priority": job.priority.rank, "b_client": storable(job.client)}
