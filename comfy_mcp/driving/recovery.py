"""What an engine's answer about a prompt means for its job: pure decisions, no I/O.

Used at every ending and after every resync (start, takeover, reconnect, quiet poll), so that a job that was
followed live and one that was found again later end in the same way.
"""

from dataclasses import dataclass, replace
from typing import assert_never

from comfy_mcp.domain.deadlines import Deadline, timed_out
from comfy_mcp.domain.events import (
    FailureKind,
    JobCancelled,
    JobCompleted,
    JobEvent,
    JobFailed,
    JobFailure,
    JobRequeued,
)
from comfy_mcp.domain.ids import LOCAL
from comfy_mcp.domain.job import Job
from comfy_mcp.domain.prompt import PromptEnding, PromptResult

OOM_REASON = "The engine ran out of memory. The bridge asked it to free some and runs the job again."


def name_of(job: Job) -> str:
    """Who runs it, for people."""
    return "ComfyUI" if job.lane == LOCAL else job.lane


def conclude(
    job: Job, result: PromptResult, *, now: int, expired: Deadline | None = None, max_attempts: int = 1
) -> JobEvent:
    """What follows for a prompt that the engine has in its history: a final event, or another attempt.

    `expired`: the deadline for which the engine was asked to stop it. A cancel or a deadline that lost the
    race gives `completed`: the state says what happened, not what was asked for. Only running out of memory
    is tried again, once in a job's life; whatever else failed would fail again.
    """
    count = len(result.outputs)
    match result.ending:
        case PromptEnding.SUCCESS:
            return JobCompleted(job_id=job.id, at=now, attempt=job.attempt, output_count=count)
        case PromptEnding.INTERRUPTED if job.cancel_requested:
            return JobCancelled(job_id=job.id, at=now, attempt=job.attempt, output_count=count)
        case PromptEnding.INTERRUPTED if expired is not None:
            return timed_out(job, expired, at=now, output_count=count)
        case PromptEnding.INTERRUPTED:
            failure = JobFailure(
                kind=FailureKind.CANCELLED_EXTERNALLY,
                message=f"Somebody else interrupted the run in {name_of(job)}.",
            )
        case PromptEnding.ERROR:
            failure = result.failure or JobFailure(
                kind=FailureKind.NODE_ERROR, message=f"{name_of(job)} reported an error without details."
            )
            if failure.kind is FailureKind.OOM:
                if job.oom_retried:
                    said = f"{failure.message} (again, after the engine was asked to free memory)"
                    failure = replace(failure, message=said)
                elif job.attempt < max_attempts and expired is None and not job.cancel_requested:
                    return JobRequeued(
                        job_id=job.id,
                        at=now,
                        attempt=job.attempt,
                        reason=f"{OOM_REASON} {failure.message}",
                        cause=FailureKind.OOM,
                    )
        case _:
            assert_never(result.ending)
    return JobFailed(job_id=job.id, at=now, attempt=job.attempt, failure=failure, output_count=count)


def must_free_memory(event: JobEvent) -> bool:
    """The engine has to be asked to free memory before the job is tried again."""
    return isinstance(event, JobRequeued) and event.cause is FailureKind.OOM


def explain_unbrought(job: Job, reason: str, *, max_attempts: int, now: int) -> JobRequeued | JobFailed:
    """The event for a job whose input files did not get to the engine."""
    if job.attempt < max_attempts:
        return JobRequeued(job_id=job.id, at=now, attempt=job.attempt, reason=reason)
    failure = JobFailure(
        kind=FailureKind.MISSING_INPUT, message=f"{reason} All {max_attempts} attempts were used."
    )
    return JobFailed(job_id=job.id, at=now, attempt=job.attempt, failure=failure)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What was known of a prompt that the engine no longer has.

    `same_connection`: the event stream has been open without a break since the engine accepted it.
    `expired`: the deadline for which the engine was asked to stop it. `answer`: what came instead of the
    answer to the POST.
    """

    accepted: bool
    same_connection: bool
    expired: Deadline | None = None
    answer: str | None = None


def end_of_stopped(
    job: Job, expired: Deadline | None, *, now: int, output_count: int = 0
) -> JobCancelled | JobFailed | None:
    """The end of a job that the bridge has asked the engine to stop. None: it has not."""
    if job.cancel_requested:
        return JobCancelled(job_id=job.id, at=now, attempt=job.attempt, output_count=output_count)
    return None if expired is None else timed_out(job, expired, at=now, output_count=output_count)


def explain_absence(job: Job, seen: Sighting, *, max_attempts: int, now: int) -> JobEvent:
    """The event for a prompt that is neither queued, running nor in the history.

    ComfyUI leaves no trace of a deleted pending prompt, nor of anything after a restart.
    """
    if (stopped := end_of_stopped(job, seen.expired, now=now)) is not None:
        return stopped
    if seen.accepted and seen.same_connection:
        failure = JobFailure(
            kind=FailureKind.CANCELLED_EXTERNALLY,
            message=f"Somebody else deleted the prompt from {name_of(job)}'s queue or history.",
        )
        return JobFailed(job_id=job.id, at=now, attempt=job.attempt, failure=failure)
    reason = (
        f"{name_of(job)} was restarted and lost the prompt."
        if seen.accepted
        else f"{name_of(job)} did not receive the prompt. {seen.answer or 'The connection broke.'}"
    )
    return lost(job, reason, expired=seen.expired, max_attempts=max_attempts, now=now)


def lost(job: Job, reason: str, *, expired: Deadline | None, max_attempts: int, now: int) -> JobEvent:
    """The engine has it no more: another attempt, as long as there may be one."""
    if (stopped := end_of_stopped(job, expired, now=now)) is not None:
        return stopped
    if job.attempt < max_attempts:
        return JobRequeued(job_id=job.id, at=now, attempt=job.attempt, reason=reason)
    failure = JobFailure(
        kind=FailureKind.ENGINE_LOST, message=f"{reason} All {max_attempts} attempts were used."
    )
    return JobFailed(job_id=job.id, at=now, attempt=job.attempt, failure=failure)
