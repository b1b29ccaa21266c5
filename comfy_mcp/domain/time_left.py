"""The time left of a running job, as of now: what was estimated at its last step, aged since then. And how
long a job waits behind others."""

from collections.abc import Callable, Sequence
from typing import Final

from comfy_mcp.domain.job import Job, JobStatus

LOW: Final = 0.75
HIGH: Final = 1.4
"""The range beside the estimate: chosen, not measured."""

GRACE_MS: Final = 5_000
"""Short estimates may be exceeded by this; then nothing is known any more."""


def time_left(job: Job, now: int) -> int | None:
    """Milliseconds; never less than has passed since the last step. None: not known."""
    if job.status is not JobStatus.RUNNING or job.eta_ms is None:
        return None
    age = 0 if job.progress_at is None else max(0, now - job.progress_at)
    if age > max(job.eta_ms, GRACE_MS):
        return None
    return max(job.eta_ms - age, age)


def wait_behind(
    before: Sequence[Job],
    now: int,
    pace_ms: Callable[[Job], float | None],
    *,
    unseen: int = 0,
    engines: int = 1,
) -> float | None:
    """Milliseconds until those `before` it, and the number of others that is `unseen`, have ended.

    `pace_ms`: how long a job takes as a whole. One of which nobody knows that takes as long as the others do
    on average. None: it is known of none.
    """
    left: list[float | None] = []
    whole: list[float | None] = []
    for job in before:
        if job.status is JobStatus.RUNNING:
            left.append(time_left(job, now))
            whole.append(None if left[-1] is None else now - (job.started_at or now) + left[-1])
        else:
            left.append(pace_ms(job))
            whole.append(left[-1])
    known = [each for each in whole if each is not None]
    if not known:
        return None
    mean = sum(known) / len(known)
    return sum(mean if each is None else each for each in (*left, *[None] * unseen)) / engines


def in_range(left_ms: int) -> tuple[int, int]:
    return round(left_ms * LOW), round(left_ms * HIGH)
