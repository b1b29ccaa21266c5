"""A defect that one job meets stays that job's: it never ends the tenure in which all the others run.

Every step that concludes, looks up, prepares or writes one attempt runs inside `step`. An exception there is
logged with an id and the step is tried again; after MAX_CONCLUDE_TRIES the job fails as `internal`. Faults of
the store are not the attempt's and come out, except `internal`: it refused what was to be written.
"""

from collections.abc import Callable
from types import TracebackType
from uuid import uuid4

import structlog

from comfy_mcp.domain.errors import ErrorCode, StoreFault
from comfy_mcp.domain.events import FailureKind, JobFailed, JobFailure
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.job import Job
from comfy_mcp.driving.attempt import Attempt
from comfy_mcp.driving.clock import Clock

MAX_CONCLUDE_TRIES = 3
"""Exceptions of one attempt, or answers about it that can't be read, after which its job is given up. More
than one, because what failed may pass: an engine that restarts, a machine without memory."""

RETRY_S = 1.0
"""Pause before the next try."""

log = structlog.get_logger(__name__)


class Containment:
    """One tenure's. `ring` wakes its task."""

    def __init__(self, engine: EngineId, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._log = log.bind(engine=engine)

    def step(self, attempt: Attempt, name: str) -> "_Step":
        """A context for one step of one attempt: nothing but a fault of the store comes out."""
        return _Step(self, attempt, name)

    def not_heard(self, attempt: Attempt, error: Exception) -> None:
        """An event could not be applied. That counts as a missed event: the end is looked up."""
        if not attempt.story_lost:
            self._report(attempt.job, "hear", error)
        attempt.lose_story()

    def failed(self, attempt: Attempt, step: str, error: Exception) -> None:
        """Try again later, or give the job up."""
        error_id = self._report(attempt.job, step, error)
        attempt.tries += 1
        attempt.not_before = attempt.look_due = self._clock.monotonic() + RETRY_S
        if attempt.tries >= MAX_CONCLUDE_TRIES:
            attempt.give_up(self.internal(attempt.job, error_id))
        self._ring()

    def refuse(self, job: Job, step: str, error: Exception) -> JobFailed:
        """The end of a job of which no attempt could be made."""
        return self.internal(job, self._report(job, step, error))

    def internal(self, job: Job, error_id: str) -> JobFailed:
        failure = JobFailure(
            kind=FailureKind.INTERNAL,
            message=f"The bridge failed on this workflow (error id {error_id}). Its log has the details.",
        )
        return JobFailed(job_id=job.id, at=self._clock.now_ms(), attempt=job.attempt, failure=failure)

    def _report(self, job: Job, step: str, error: Exception) -> str:
        error_id = uuid4().hex[:8]
        self._log.error(
            "attempt_step_failed",
            job_id=job.id,
            attempt=job.attempt,
            step=step,
            error_id=error_id,
            exc_info=error,
        )
        return error_id


class _Step:
    """Several are entered for each job: a generator would cost three times as much."""

    __slots__ = ("_attempt", "_containment", "_name")

    def __init__(self, containment: Containment, attempt: Attempt, name: str) -> None:
        self._containment = containment
        self._attempt = attempt
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        if isinstance(error, StoreFault) and error.code is not ErrorCode.INTERNAL:
            return False
        self._containment.failed(self._attempt, self._name, error)
        return True
