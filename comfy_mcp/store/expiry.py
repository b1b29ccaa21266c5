"""Jobs that have waited for too long. Any process may end them: no engine has them."""

from comfy_mcp.domain.deadlines import Deadline, timed_out
from comfy_mcp.domain.job import Job
from comfy_mcp.store import journal
from comfy_mcp.store.connection import Connection, Statement
from comfy_mcp.store.core import MAY_EXPIRE, ONE, Integer, bindparam, literal, select
from comfy_mcp.store.core import jobs as table

BATCH = 100

# What an engine has, or may have, its driver stops there first.
_OVERDUE = (MAY_EXPIRE, table.c.prompt_id.is_(None), table.c.queue_deadline <= bindparam("b_now"))
_ANY = Statement(select(literal(1)).select_from(table).where(*_OVERDUE).limit(ONE))
_NEXT = Statement(
    select(table).where(*_OVERDUE).order_by(table.c.queue_deadline).limit(bindparam("count", type_=Integer))
)


def any_overdue(connection: Connection, now: int) -> bool:
    return connection.execute(_ANY, {"b_now": now}).first() is not None


def expire(connection: Connection, now: int) -> list[Job]:
    """They fail as `timeout`, at most BATCH at a time. Fenced by status: a job that was claimed is left."""
    ended = []
    for row in connection.execute(_NEXT, {"b_now": now, "count": BATCH}).all():
        before = journal.readable(connection, row)
        if before.is_final:
            ended.append(before)
            continue
        event = timed_out(before, Deadline.QUEUE, at=now)
        ended.append(journal.apply(connection, before, (event,)))
    return ended
