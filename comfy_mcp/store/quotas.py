"""What one client may have: of the queue, of the engines, of a day. Synchronous; runs in a transaction of the
caller.

A client is known by its key. Who has none (the person at the machine, everybody while no key is required) and
who has the right `admin` is bounded by the whole queue only, unless the key says more.
"""

from collections.abc import Collection, Mapping

from comfy_mcp.domain.access import Right
from comfy_mcp.domain.days import day_end
from comfy_mcp.domain.errors import LimitExceeded
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.domain.job import JobStatus
from comfy_mcp.domain.quotas import ClientUse
from comfy_mcp.store.codec import storable
from comfy_mcp.store.connection import AnyRow, Connection, Statement, Values
from comfy_mcp.store.core import (
    IS_ACTIVE,
    IS_QUEUED,
    api_keys,
    attempts,
    bindparam,
    case,
    exists,
    func,
    jobs,
    or_,
    select,
    update,
)
from comfy_mcp.store.queries import Submission

KEPT_FOR_OTHERS = 0.25
"""The part of the queue that one client can't fill: so the others can still submit."""

_k = api_keys.c
LIMITS = (_k.rights, _k.max_queued, _k.max_queued_bytes, _k.max_running, _k.max_gpu_seconds)
"""Of a key. `rights` are null where the client has none."""
_OWN = select(func.count()).where(IS_QUEUED, jobs.c.client == bindparam("b_client"))
_JOBS = Statement(_OWN)
_BYTES = Statement(
    select(func.sum(jobs.c.graph_bytes)).where(IS_QUEUED, jobs.c.client == bindparam("b_client"))
)
_BLOCKED = (jobs.c.status == JobStatus.BLOCKED.value, jobs.c.client == bindparam("b_client"))
_BLOCKED_JOBS = Statement(select(func.count()).where(*_BLOCKED))
_BLOCKED_BYTES = Statement(select(func.sum(jobs.c.graph_bytes)).where(*_BLOCKED))
_BLOCKED_OF_KEY = select(func.count()).where(_BLOCKED[0], jobs.c.client == _k.name)


# What engines have of each client whose key limits that.
_mine = jobs.alias("mine")
_BUSY = (
    select(_k.name)
    .select_from(
        attempts.join(_mine, _mine.c.id == attempts.c.job_id).join(api_keys, _k.name == _mine.c.client)
    )
    .where(IS_ACTIVE, _k.max_running.is_not(None))
    .group_by(_k.name, _k.max_running)
    .having(func.count() >= _k.max_running)
)
_SPENT = select(_k.name).where(_k.gpu_until > bindparam("b_now"), _k.gpu_seconds >= _k.max_gpu_seconds)
_AT_LIMIT = Statement(select(_k.name).where(or_(_k.name.in_(_BUSY), _k.name.in_(_SPENT))))

_IS_LIMITED = (_k.name == bindparam("b_name"), _k.max_gpu_seconds.is_not(None))
IS_LIMITED = exists().where(*_IS_LIMITED)
"""The key of a client has a limit for the day."""

_CHARGE = Statement(
    update(api_keys)
    .where(*_IS_LIMITED)
    .values(
        gpu_seconds=case(
            (_k.gpu_until > bindparam("b_at"), _k.gpu_seconds + bindparam("b_seconds")),
            else_=bindparam("b_seconds"),
        ),
        gpu_until=bindparam("b_until"),
    )
)
_RUNNING = (
    select(func.count())
    .select_from(attempts.join(_mine, _mine.c.id == attempts.c.job_id))
    .where(IS_ACTIVE, _mine.c.client == _k.name)
)
_QUEUED = select(func.count()).where(IS_QUEUED, jobs.c.client == _k.name)
_USE = Statement(
    select(
        api_keys,
        _RUNNING.scalar_subquery().label("running"),
        _QUEUED.scalar_subquery().label("queued"),
        _BLOCKED_OF_KEY.scalar_subquery().label("blocked"),
    ).where(_k.name.in_(bindparam("names", expanding=True)))
)
_LIMITED = Statement(
    select(api_keys.c.name).where(
        or_(_k.max_queued.is_not(None), _k.max_running.is_not(None), _k.max_gpu_seconds.is_not(None))
    )
)


def check(
    connection: Connection,
    submission: Submission,
    key: AnyRow,
    graph_bytes: int,
    *,
    queued: int,
    blocked: int,
) -> bool:
    """Whether the client's `key`, a row with its LIMITS, also limits what runs. `queued` are all jobs that
    wait for a turn, `blocked` those without one yet. Raises LimitExceeded."""
    if key.rights is None:
        return False
    client, max_queued = submission.event.client, submission.max_queued
    is_admin = Right.ADMIN.value in key.rights.split()
    share = max_queued if is_admin else max(1, int(max_queued * (1 - KEPT_FOR_OTHERS)))
    most = share if key.max_queued is None else min(share, key.max_queued)
    whose = {"b_client": client}
    if queued + blocked >= most and _sum(connection, (_JOBS, _BLOCKED_JOBS), whose, blocked) >= most:
        raise _full(f"You have {most} queued workflows, the limit of your key.")
    if key.max_queued_bytes is not None:
        waiting = _sum(connection, (_BYTES, _BLOCKED_BYTES), whose, blocked) if queued + blocked else 0
        if waiting + graph_bytes > key.max_queued_bytes:
            raise _full(
                f"Your queued workflows have {waiting} bytes and this one {graph_bytes}; the limit of your "
                f"key is {key.max_queued_bytes}."
            )
    return key.max_running is not None or key.max_gpu_seconds is not None


def at_limit(connection: Connection, now: int) -> list[str]:
    """Clients of which no job is claimed now, because of what they have at engines or have used today."""
    return connection.execute(_AT_LIMIT, {"b_now": now}).scalars()


def charge(connection: Connection, client: ClientId, seconds: float, at: int) -> None:
    """An attempt of the client has ended: it counts for the day, where its key has a limit of that."""
    use = {"b_seconds": seconds, "b_at": at, "b_until": day_end(at)}
    connection.send(_CHARGE, {"b_name": storable(client), **use})


def use_of(connection: Connection, clients: Collection[str], now: int) -> Mapping[ClientId, ClientUse]:
    """Of those that have a key."""
    names = [storable(client) for client in clients]
    return {
        row.name: ClientUse(
            client=row.name,
            queued=row.queued + row.blocked,
            running=row.running,
            gpu_seconds=row.gpu_seconds if row.gpu_until is not None and row.gpu_until > now else 0.0,
            day_ends=day_end(now),
            max_queued=row.max_queued,
            max_running=row.max_running,
            max_gpu_seconds=row.max_gpu_seconds,
        )
        for row in connection.execute(_USE, {"names": names})
    }


def limited_use(connection: Connection, now: int) -> Collection[ClientUse]:
    """Of all clients whose key limits them."""
    names = connection.execute(_LIMITED).scalars()
    return use_of(connection, names, now).values() if names else ()


def _sum(connection: Connection, both: tuple[Statement, Statement], whose: Values, blocked: int) -> int:
    """Of those that wait for a turn and, if there are any, for others."""
    asked = both if blocked else both[:1]
    return sum(connection.execute(each, whose).scalar() or 0 for each in asked)


def _full(message: str) -> LimitExceeded:
    return LimitExceeded(message, next_step="Wait until some have ended, or cancel some; then submit again.")
