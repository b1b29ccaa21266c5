"""The one reader of the event log. Synchronous; runs in a transaction of the caller.

The order is a promise (docs/decisions/0001): once a reader has seen `seq` n, no event with a smaller `seq`
ever appears. It holds because one transaction writes at a time, and commits before the next one is given a
`seq`: SQLite sees to it by itself, and on PostgreSQL a writer takes a lock first (0037).
"""

from collections.abc import Iterable, Iterator
from typing import Any

import structlog

from comfy_mcp.domain.events import JobFailed, JobRequeued, StoredEvent
from comfy_mcp.domain.ids import ClientId, JobId
from comfy_mcp.store.codec import UNREADABLE, stored_event_of
from comfy_mcp.store.connection import AnyRow, Connection, Statement
from comfy_mcp.store.core import bindparam, events, func, jobs, select

log = structlog.get_logger(__name__)

_COLUMNS = (events.c.seq, events.c.job_id, events.c.type, events.c.at, events.c.payload)
_PAGE = (
    select(*_COLUMNS)
    .where(events.c.seq > bindparam("after"))
    .order_by(events.c.seq)
    .limit(bindparam("count", type_=events.c.at.type))
)
_AFTER = Statement(_PAGE)
_AFTER_OF_JOB = Statement(_PAGE.where(events.c.job_id == bindparam("b_job_id")))
_AFTER_OF_CLIENT = Statement(
    _PAGE.join(jobs, jobs.c.id == events.c.job_id).where(jobs.c.client == bindparam("b_client"))
)
_LAST = Statement(select(func.max(events.c.seq)))
_SETBACKS = Statement(
    select(*_COLUMNS).where(
        events.c.job_id == bindparam("b_job_id"), events.c.type.in_([JobRequeued.type, JobFailed.type])
    )
)


def after(
    connection: Connection, seq: int, job_id: JobId | None, limit: int, client: ClientId | None = None
) -> list[StoredEvent]:
    """Of one job, or of the jobs of one client, or of all. What can't be read is left out; fewer than `limit`
    are all that there are."""
    values: dict[str, Any] = {"after": seq, "count": limit}
    statement = _AFTER
    if job_id is not None:
        statement, values = _AFTER_OF_JOB, {**values, "b_job_id": job_id}
    elif client is not None:
        statement, values = _AFTER_OF_CLIENT, {**values, "b_client": client}
    found: list[StoredEvent] = []
    while values["count"]:
        rows = connection.execute(statement, values).all()
        found += _readable(rows)
        if len(rows) < values["count"]:
            break
        values |= {"after": rows[-1].seq, "count": limit - len(found)}
    return found


def _readable(rows: Iterable[AnyRow]) -> Iterator[StoredEvent]:
    """Those that can be decoded. What is damaged, or of a newer version, is logged and left out."""
    for row in rows:
        try:
            yield stored_event_of(row)
        except UNREADABLE:
            log.warning("event_unreadable", seq=row.seq, type=row.type)


def setbacks_of(connection: Connection, job_id: JobId) -> list[StoredEvent]:
    """What went wrong with a job: each time that it was queued again, and its failure."""
    return list(_readable(connection.execute(_SETBACKS, {"b_job_id": job_id})))


def last_seq(connection: Connection) -> int:
    return connection.execute(_LAST).scalar() or 0
