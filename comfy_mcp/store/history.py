"""What was tried: the attempts of a job and of those that it retries; and whose prompts an engine has."""

from collections.abc import Sequence

from comfy_mcp.domain.events import JobFailed, JobRequeued
from comfy_mcp.domain.ids import JobId, PromptId
from comfy_mcp.store import event_log
from comfy_mcp.store.connection import Connection, Statement
from comfy_mcp.store.core import attempts, bindparam, jobs, select
from comfy_mcp.store.queries import AttemptView

MAX_CHAIN = 20
"""Jobs whose attempts are shown together: a retry of a retry of …"""

ASKED_AT_ONCE = 500
"""Bound parameters of one statement; SQLite takes 32,766 of them at most."""

_KNOWN = Statement(
    select(attempts.c.prompt_id).where(attempts.c.prompt_id.in_(bindparam("ids", expanding=True)))
)
_RETRY_OF = Statement(select(jobs.c.retry_of).where(jobs.c.id == bindparam("b_id")))
_ATTEMPTS = Statement(
    select(attempts).where(attempts.c.job_id == bindparam("b_id")).order_by(attempts.c.attempt)
)


def attempts_of(connection: Connection, job_id: JobId) -> list[AttemptView]:
    """Oldest first, those of the jobs that it retries before its own (as far as they are kept)."""
    found: list[AttemptView] = []
    for each in _chain(connection, job_id):
        found[:0] = _attempts(connection, each)
    return found


def ours(connection: Connection, prompts: Sequence[PromptId]) -> set[PromptId]:
    """Those of `prompts` that some process of this store chose; the others are foreign."""
    known: set[PromptId] = set()
    for start in range(0, len(prompts), ASKED_AT_ONCE):
        some = prompts[start : start + ASKED_AT_ONCE]
        known.update(connection.execute(_KNOWN, {"ids": some}).scalars())
    return known


def _chain(connection: Connection, job_id: JobId) -> list[JobId]:
    chain = [job_id]
    while len(chain) < MAX_CHAIN and (before := connection.execute(_RETRY_OF, {"b_id": chain[-1]}).scalar()):
        chain.append(before)
    return chain


def _attempts(connection: Connection, job_id: JobId) -> list[AttemptView]:
    reasons: dict[int, str] = {}
    for stored in event_log.setbacks_of(connection, job_id):
        match stored.event:
            case JobRequeued(attempt=attempt, reason=reason):
                reasons[attempt] = reason
            case JobFailed(attempt=attempt, failure=failure):
                # A job that waited again, after a requeue, may have failed without another attempt.
                reasons.setdefault(attempt, failure.message)
            case _:
                pass
    return [
        AttemptView(
            job_id=job_id,
            attempt=row.attempt,
            engine=row.engine,
            prompt_id=row.prompt_id,
            claimed_at=row.claimed_at,
            finished_at=row.finished_at,
            outcome=row.state,
            reason=reasons.get(row.attempt),
        )
        for row in connection.execute(_ATTEMPTS, {"b_id": job_id})
    ]
