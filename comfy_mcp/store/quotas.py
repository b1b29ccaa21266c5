"""How much of the queue one client may fill. Synchronous; runs in the transaction of the submit.

A client is known by its key. Who has none (the person at the machine, everybody while no key is required) and
who has the right `admin` is bounded by the whole queue only.
"""

from comfy_mcp.domain.access import Right
from comfy_mcp.domain.errors import LimitExceeded
from comfy_mcp.domain.job import JobStatus
from comfy_mcp.store.codec import storable
from comfy_mcp.store.connection import Connection, Statement, Values
from comfy_mcp.store.core import IS_QUEUED, api_keys, bindparam, func, jobs, select
from comfy_mcp.store.queries import Submission

KEPT_FOR_OTHERS = 0.25
"""The part of the queue that one client can't fill: so the others can still submit."""

_KEY = Statement(
    select(api_keys.c.rights, api_keys.c.max_queued, api_keys.c.max_queued_bytes).where(
        api_keys.c.name == bindparam("b_name")
    )
)
_OWN = select(func.count()).where(IS_QUEUED, jobs.c.client == bindparam("b_client"))
_JOBS = Statement(_OWN)
_BYTES = Statement(
    select(func.sum(jobs.c.graph_bytes)).where(IS_QUEUED, jobs.c.client == bindparam("b_client"))
)
_BLOCKED = (jobs.c.status == JobStatus.BLOCKED.value, jobs.c.client == bindparam("b_client"))
_BLOCKED_JOBS = Statement(select(func.count()).where(*_BLOCKED))
_BLOCKED_BYTES = Statement(select(func.sum(jobs.c.graph_bytes)).where(*_BLOCKED))


def check(
    connection: Connection, submission: Submission, graph_bytes: int, *, queued: int, blocked: int
) -> None:
    """Raises LimitExceeded. `queued` are all jobs that wait for a turn, `blocked` those without one yet."""
    client, max_queued = submission.event.client, submission.max_queued
    key = connection.execute(_KEY, {"b_name": storable(client)}).first()
    if key is None:
        return
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


def _sum(connection: Connection, both: tuple[Statement, Statement], whose: Values, blocked: int) -> int:
    """Of those that wait for a turn and, if there are any, for others."""
    asked = both if blocked else both[:1]
    return sum(connection.execute(each, whose).scalar() or 0 for each in asked)


def _full(message: str) -> LimitExceeded:
    return LimitExceeded(message, next_step="Wait until some have ended, or cancel some; then submit again.")
