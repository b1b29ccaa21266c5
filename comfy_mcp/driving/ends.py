"""What follows for a job whose attempt is over: its end, or another attempt."""

from dataclasses import replace

from comfy_mcp.domain.events import FailureKind, JobCompleted, JobEvent, JobFailed, JobFailure, JobRequeued
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.job import Job
from comfy_mcp.domain.prompt import PromptResult
from comfy_mcp.driving import recovery
from comfy_mcp.driving.attempt import Attempt
from comfy_mcp.driving.clock import Clock
from comfy_mcp.driving.fleet import Fleet


class Ends:
    """Of the attempts on one engine. `max_attempts` is the setting."""

    def __init__(self, engine: EngineId, *, fleet: Fleet, clock: Clock, max_attempts: int) -> None:
        self._engine = engine
        self._fleet = fleet
        self._clock = clock
        self._max_attempts = max_attempts

    def of_result(self, attempt: Attempt, result: PromptResult) -> JobEvent:
        """Its prompt has ended."""
        attempt.start(self._clock.now_ms(), self._clock.monotonic())
        attempt.ran_ms = result.ran_ms
        end = recovery.conclude(
            attempt.job,
            result,
            now=self._clock.now_ms(),
            expired=attempt.expired,
            max_attempts=self.max_attempts(attempt.job),
        )
        if recovery.must_free_memory(end):
            self._fleet.ran_short(self._engine, end.job_id)
        if isinstance(end, JobCompleted) and (warnings := attempt.warnings):
            return replace(end, warnings=warnings)
        return end

    def max_attempts(self, job: Job) -> int:
        """Those that engines refused do not count."""
        return self._max_attempts + len(job.refused_by)

    def of_refusal(self, attempt: Attempt, failure: JobFailure) -> JobEvent:
        """The engine refuses the graph: another may run it, else that is the job's end."""
        job, needs = attempt.job, attempt.needs
        if needs is None or not self._fleet.may_go_elsewhere(needs, self._engine, job.refused_by):
            return self.failed(job, failure)
        return JobRequeued(
            job_id=job.id,
            at=self._clock.now_ms(),
            attempt=job.attempt,
            reason=f"Engine {self._engine} refused it: {failure.message}",
            cause=FailureKind.VALIDATION,
        )

    def of_loss(self, attempt: Attempt, reason: str) -> JobEvent:
        """The engine has it no more, or does not say."""
        return recovery.lost(
            attempt.job,
            reason,
            expired=attempt.expired,
            max_attempts=self.max_attempts(attempt.job),
            now=self._clock.now_ms(),
        )

    def failed(self, job: Job, failure: JobFailure) -> JobFailed:
        return JobFailed(job_id=job.id, at=self._clock.now_ms(), attempt=job.attempt, failure=failure)
