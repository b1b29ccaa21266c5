"""Deadlines of a job's queue time and run time, and the failure when one has passed."""

from enum import StrEnum

from comfy_mcp.domain.events import FailureKind, JobFailed, JobFailure
from comfy_mcp.domain.job import Job

STOP_LIMIT_S = 30.0
"""A cancel or a deadline ends the job after this, whatever the engine says or does not say: it may be deaf,
or stop at its next step, minutes later. It is asked further times to stop the prompt."""


class Deadline(StrEnum):
    """Which of a job's two deadlines."""

    QUEUE = "queue"  # from the submit, or the last requeue, to a start
    RUN = "run"  # from the start to the end


def timed_out(job: Job, which: Deadline, *, at: int, output_count: int = 0) -> JobFailed:
    """The end of a job that waited or ran for too long."""
    limit_ms = job.queue_timeout_ms if which is Deadline.QUEUE else job.run_timeout_ms
    within = f" within {limit_ms / 1000:g} s" if limit_ms is not None else " in time"
    said = "It did not start" if which is Deadline.QUEUE else "It was stopped: it did not end"
    why = "" if job.waiting_for is None else f" {job.waiting_for.sentence}"
    if which is Deadline.RUN and job.spend is not None and job.spend.budget is not None:
        why = f" That is as long as what was reserved for it at {job.lane} pays for."
    message = f"{said}{within} ({which.value} timeout).{why}"
    failure = JobFailure(kind=FailureKind.TIMEOUT, message=message)
    return JobFailed(job_id=job.id, at=at, attempt=job.attempt, failure=failure, output_count=output_count)
