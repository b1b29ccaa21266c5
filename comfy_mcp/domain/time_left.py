"""The time left of a running job, as of now: what was estimated at its last step, aged since then."""

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


def in_range(left_ms: int) -> tuple[int, int]:
    return round(left_ms * LOW), round(left_ms * HIGH)
