"""What an engine's answer about a prompt means for its job: pure decisions, no I/O.

Used at every ending and after every resync (start, takeover, reconnect, quiet poll), so that a job that was
followed live and one that was found again later end in the same way.
"""

from dataclasses import dataclass
from typing import assert_never

from comfy_mcp.domain.events import (
    FailureKind,
    JobCancelled,
    JobCompleted,
    JobEvent,
    JobFailed,
    JobFailure,
    JobRequeued,
)
from comfy_mcp.domain.job import Job
from comfy_mcp.domain.prompt import PromptEnding, PromptResult


def conclude(job: Job, result: PromptResult, *, now: int) -> JobEvent:
    """The final event for a prompt that the engine has in its history.

    A cancel that lost the race gives `completed`: the state says what happened, not what was asked for.
    """
    count = len(result.outputs)
    match result.ending:
        case PromptEnding.SUCCESS:
            return JobCompleted(job_id=job.id, at=now, attempt=job.attempt, output_count=count)
        case PromptEnding.INTERRUPTED if job.cancel_requested:
            return JobCancelled(job_id=job.id, at=now, attempt=job.attempt, output_count=count)
        case PromptEnding.INTERRUPTED:
            failure = JobFailure(
                kind=FailureKind.CANCELLED_EXTERNALLY,
                message="The run was interrupted in ComfyUI by somebody else.",
            )
        case PromptEnding.ERROR:
            failure = result.failure or JobFailure(
                kind=FailureKind.NODE_ERROR, message="ComfyUI reported an error without details."
            )
        case _:
            assert_never(result.ending)
    return JobFailed(job_id=job.id, at=now, attempt=job.attempt, failure=failure, output_count=count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What was known of a prompt that the engine no longer has.

    `same_connection`: the event stream has been open without a break since the engine accepted it.
    """

    accepted: bool
    same_connection: bool


def explain_absence(job: Job, seen: Sighting, *, max_attempts: int, now: int) -> JobEvent:
    """The event for a prompt that is neither queued, running nor in the history.

    ComfyUI leaves no trace of a deleted pending prompt, nor of anything after a restart.
    """
    if job.cancel_requested:
        return JobCancelled(job_id=job.id, at=now, attempt=job.attempt)
    if seen.accepted and seen.same_connection:
        failure = JobFailure(
            kind=FailureKind.CANCELLED_EXTERNALLY,
            message="The prompt was deleted from ComfyUI's queue or history by somebody else.",
        )
        return JobFailed(job_id=job.id, at=now, attempt=job.attempt, failure=failure)
    reason = (
        "ComfyUI was restarted and lost the prompt."
        if seen.accepted
        else "ComfyUI did not take the prompt: the connection broke."
    )
    if job.attempt < max_attempts:
        return JobRequeued(job_id=job.id, at=now, attempt=job.attempt, reason=reason)
    failure = JobFailure(
        kind=FailureKind.ENGINE_LOST, message=f"{reason} No attempt is left (of {max_attempts})."
    )
    return JobFailed(job_id=job.id, at=now, attempt=job.attempt, failure=failure)
