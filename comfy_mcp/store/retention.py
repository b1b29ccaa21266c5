"""Forgetting final jobs. Files of outputs are never touched."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, delete, or_, select

from comfy_mcp.domain.job import TERMINAL
from comfy_mcp.store import turns
from comfy_mcp.store.connection import Connection, Statement
from comfy_mcp.store.schema import ONE, attempts, events, graphs, jobs, outputs

BATCH = 200
"""Jobs forgotten in one transaction: some milliseconds, so that a submit never waits for long."""

_DAY_MS = 86_400_000
_FINAL = jobs.c.status.in_(sorted(status.value for status in TERMINAL))
_CHILDREN = (graphs, attempts, events, outputs)
_OLDEST_KEPT = Statement(
    select(jobs.c.seq)
    .where(_FINAL)
    .order_by(jobs.c.seq.desc())
    .limit(ONE)
    .offset(bindparam("b_kept", type_=jobs.c.node_count.type))
)


def beyond(connection: Connection, now: int, retention_days: float, retention_jobs: int) -> list[str]:
    """At most BATCH final jobs that are too old or too many, oldest first; 0 = no such limit."""
    reasons: list[Any] = []
    if retention_days > 0:
        reasons.append(jobs.c.finished_at < now - round(retention_days * _DAY_MS))
    if retention_jobs > 0:
        newest_too_many = connection.execute(_OLDEST_KEPT, {"b_kept": retention_jobs}).scalar()
        if newest_too_many is not None:
            reasons.append(jobs.c.seq <= newest_too_many)
    if not reasons:
        return []
    doomed = select(jobs.c.id).where(_FINAL, or_(*reasons)).order_by(jobs.c.seq).limit(BATCH)
    return list(connection.execute(doomed).scalars())


def forget(connection: Connection, *, job_ids: Sequence[str]) -> int:
    """How many there were still: another process may have been first. What is final stays final."""
    for child in _CHILDREN:  # children first, though the foreign keys would cascade: no surprise anywhere
        connection.execute(delete(child).where(child.c.job_id.in_(job_ids)))
    turns.forget(connection)
    return connection.execute(delete(jobs).where(jobs.c.id.in_(job_ids))).rowcount
