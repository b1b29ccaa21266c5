"""The log of events. Synchronous; runs in a transaction of the caller."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from comfy_mcp.domain.events import JobEvent, JobProgressed, StoredEvent
from comfy_mcp.domain.ids import JobId
from comfy_mcp.store.codec import event_values, stored_event_of
from comfy_mcp.store.schema import events
from comfy_mcp.store.sqlite.threads import notes

_INSERT = insert(events)
_DROP_PROGRESS = delete(events).where(
    events.c.job_id == bindparam("b_job_id"), events.c.type == JobProgressed.type
)
_COLUMNS = (events.c.seq, events.c.job_id, events.c.type, events.c.at, events.c.payload)
_AFTER = (
    select(*_COLUMNS)
    .where(events.c.seq > bindparam("after"))
    .order_by(events.c.seq)
    .limit(bindparam("count", type_=events.c.at.type))
)
_AFTER_OF_JOB = _AFTER.where(events.c.job_id == bindparam("b_job_id"))
_LAST = select(func.max(events.c.seq))


def append(connection: Connection, happened: Sequence[JobEvent]) -> None:
    left = notes(connection)
    for event in happened:  # one by one: only so each row's seq is told
        seq = connection.execute(_INSERT, event_values(event)).lastrowid
        left.appended += (StoredEvent(seq=seq, event=event),)


def drop_progress(connection: Connection, job_id: JobId) -> None:
    """The final event supersedes them; whoever reads the log later has no use for them."""
    connection.execute(_DROP_PROGRESS, {"b_job_id": job_id})
    left = notes(connection)
    left.appended = tuple(stored for stored in left.appended if not _is_progress_of(job_id, stored))


def after(connection: Connection, seq: int, job_id: JobId | None, limit: int) -> list[StoredEvent]:
    values: dict[str, Any] = {"after": seq, "count": limit}
    if job_id is None:
        rows = connection.execute(_AFTER, values)
    else:
        rows = connection.execute(_AFTER_OF_JOB, {**values, "b_job_id": job_id})
    return [stored_event_of(row) for row in rows]


def last_seq(connection: Connection) -> int:
    return connection.execute(_LAST).scalar() or 0


def _is_progress_of(job_id: JobId, stored: StoredEvent) -> bool:
    return isinstance(stored.event, JobProgressed) and stored.event.job_id == job_id
