"""Forgetting final jobs that no other one waits for or takes outputs of, once their events were sent. Files
are never touched."""

from collections.abc import Sequence
from typing import Any

from comfy_mcp.domain.days import DAY_MS
from comfy_mcp.domain.job import TERMINAL
from comfy_mcp.store import chains, outbox, turns
from comfy_mcp.store.connection import Connection, Statement
from comfy_mcp.store.core import (
    ONE,
    attempts,
    bindparam,
    delete,
    deliveries,
    events,
    graphs,
    job_tags,
    jobs,
    or_,
    outputs,
    select,
)

BATCH = 200
"""Jobs forgotten in one transaction: some milliseconds, so that a submit never waits for long."""

_FINAL = jobs.c.status.in_(sorted(status.value for status in TERMINAL))
_IDS: Any = bindparam("ids", expanding=True)
_FORGET_CHILDREN = tuple(
    Statement(delete(child).where(child.c.job_id.in_(_IDS)))
    for child in (graphs, attempts, events, outputs, deliveries, job_tags)
)
_FORGET = Statement(delete(jobs).where(jobs.c.id.in_(_IDS)))
_NOBODY_NEEDS = (~chains.HAS_CHILDREN, ~outbox.HAS_PENDING)
_STILL_NOBODY = Statement(select(jobs.c.id).where(jobs.c.id.in_(_IDS), *_NOBODY_NEEDS))
_BEYOND = Statement(
    select(jobs.c.id)
    .where(
        _FINAL,
        *_NOBODY_NEEDS,
        or_(jobs.c.finished_at < bindparam("b_before"), jobs.c.seq <= bindparam("b_newest")),
    )
    .order_by(jobs.c.seq)
    .limit(BATCH)
)
_OLDEST_KEPT = Statement(
    select(jobs.c.seq)
    .where(_FINAL)
    .order_by(jobs.c.seq.desc())
    .limit(ONE)
    .offset(bindparam("b_kept", type_=jobs.c.node_count.type))
)


def beyond(connection: Connection, now: int, retention_days: float, retention_jobs: int) -> list[str]:
    """At most BATCH final jobs that are too old or too many, oldest first; 0 = no such limit."""
    too_old, newest_too_many = 0, 0
    if retention_days > 0:
        too_old = now - round(retention_days * DAY_MS)
    if retention_jobs > 0:
        newest_too_many = connection.execute(_OLDEST_KEPT, {"b_kept": retention_jobs}).scalar() or 0
    if not too_old and not newest_too_many:
        return []
    return connection.execute(_BEYOND, {"b_before": too_old, "b_newest": newest_too_many}).scalars()


def forget(connection: Connection, *, job_ids: Sequence[str]) -> int:
    """Those of them that nobody has come to need since they were found. How many there were still: another
    process may have been first. What is final stays final."""
    ids = {"ids": connection.execute(_STILL_NOBODY, {"ids": job_ids}).scalars()}
    for forget_children in _FORGET_CHILDREN:  # first, though the foreign keys would cascade: no surprise
        connection.execute(forget_children, ids)
    turns.forget(connection)
    return connection.execute(_FORGET, ids).rowcount
