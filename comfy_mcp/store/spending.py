"""What the jobs at services cost, by day. Synchronous; runs in a transaction of the caller.

A job counts on the day of its submit: first with what is reserved for it, from its end on with what it has
cost. Writers take turns, so that what is checked here holds until the commit.
"""

from comfy_mcp.domain.days import day_of
from comfy_mcp.domain.errors import ErrorCode, LimitExceeded
from comfy_mcp.domain.events import JobQueued
from comfy_mcp.domain.ids import LOCAL
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.domain.spending import MILLION
from comfy_mcp.store.connection import Connection, Statement
from comfy_mcp.store.core import IS_ELSEWHERE, ONE, bindparam, insert, jobs, select, spending

_ON_DAY = spending.c.day == bindparam("b_day")
_SPENT = Statement(select(spending.c.amount).where(_ON_DAY))
_ADD = Statement(insert(spending), "(day) DO UPDATE SET amount = spending.amount + excluded.amount")
_ENDED = (JobStatus.COMPLETED.value, JobStatus.FAILED.value)
_LAST = Statement(
    select(jobs.c.status)
    .where(
        IS_ELSEWHERE,
        jobs.c.lane == bindparam("b_lane"),
        jobs.c.shape == bindparam("b_shape"),
        jobs.c.status.in_(_ENDED),
    )
    .order_by(jobs.c.seq.desc())
    .limit(ONE)
)


def of_day(connection: Connection, at: int) -> int:
    return connection.execute(_SPENT, {"b_day": day_of(at)}).scalar() or 0


def require(connection: Connection, event: JobQueued) -> None:
    """Raises LimitExceeded (`budget_spent`) where the day's budget has no room for the job."""
    spend = event.spend
    if spend is None or spend.budget is None:
        return
    left = spend.budget - of_day(connection, event.at)
    if spend.reserved > left:
        raise LimitExceeded(
            f"The day's budget for services has {_shown(max(0, left))} of {_shown(spend.budget)} left; one "
            f"workflow reserves {_shown(spend.reserved)}.",
            next_step=f"Submit with gpu={LOCAL!r}, or wait until others have ended or the next day (UTC).",
            code=ErrorCode.BUDGET_SPENT,
        )


def count(connection: Connection, before: Job | None, after: Job) -> None:
    """What an event has changed."""
    if after.spend is None:
        return
    more = _counted(after) - _counted(before)
    if more:
        connection.execute(_ADD, {"day": day_of(after.created_at), "amount": more})


def has_run(connection: Connection, lane: str, shape: str) -> bool:
    """Whether the last workflow of that shape which ended in the lane was completed."""
    row = connection.execute(_LAST, {"b_lane": lane, "b_shape": shape}).first()
    return row is not None and row.status == JobStatus.COMPLETED.value


def _counted(job: Job | None) -> int:
    return 0 if job is None or job.spend is None else job.spend.counted


def _shown(amount: int) -> str:
    return f"{amount / MILLION:g}"
