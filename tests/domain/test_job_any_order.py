"""The rules of a job under any sequence of events."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from comfy_mcp.domain.events import (
    FINAL_EVENTS,
    JobEvent,
)
from comfy_mcp.domain.job import (
    TRANSITIONS,
    CancelAnswer,
    IllegalTransition,
    JobStatus,
    decide_cancel,
)
from comfy_mcp.domain.transitions import evolve, queued
from tests.domain.test_job import (
    cancel_requested,
    cancelled,
    claimed,
    completed,
    failed,
    progressed,
    requeued,
    started,
    the_queued_event,
)

ATTEMPTS = st.integers(min_value=0, max_value=4)


TIMES = st.integers(min_value=0, max_value=2**41)


class JobMachine(RuleBasedStateMachine):
    """The model is three words: where the job is, whether an attempt is in flight, how many there were."""

    def __init__(self) -> None:
        super().__init__()
        self.job = queued(the_queued_event())
        self.where = "queued"
        self.in_flight = False
        self.attempts = 0
        self.cancel_asked = False
        self.seen_progress = 0.0
        self.finals = 0

    @initialize(at=TIMES)
    def submit(self, at: int) -> None:
        self.job = queued(the_queued_event(at))

    def feed(self, event: JobEvent, *, allowed: bool) -> bool:
        before = self.job
        try:
            self.job = evolve(before, event)
        except IllegalTransition:
            assert not allowed, f"{event} refused in {before}"
            return False
        assert allowed, f"{event} accepted in {before}"
        assert self.job.status in TRANSITIONS[before.status]
        self.finals += isinstance(event, FINAL_EVENTS)
        return True

    @property
    def open(self) -> bool:
        return self.where in {"queued", "running"}

    @rule(attempt=ATTEMPTS, at=TIMES)
    def claim(self, attempt: int, at: int) -> None:
        allowed = self.open and not self.in_flight and attempt == self.attempts + 1
        if self.feed(claimed(attempt, at), allowed=allowed):
            self.in_flight, self.attempts = True, attempt

    @precondition(lambda self: self.open and not self.in_flight and self.attempts < 4)
    @rule()
    def claim_rightly(self) -> None:
        self.claim(self.attempts + 1, 5)

    def current(self, attempt: int) -> bool:
        return self.open and self.in_flight and attempt == self.attempts

    @rule(attempt=ATTEMPTS, at=TIMES)
    def start(self, attempt: int, at: int) -> None:
        if self.feed(started(attempt, at), allowed=self.current(attempt)):
            self.where = "running"

    @rule(attempt=ATTEMPTS, at=TIMES, progress=st.floats())
    def progress(self, attempt: int, at: int, progress: float) -> None:
        if self.feed(progressed(progress, attempt, at), allowed=self.current(attempt)):
            self.where = "running"

    @rule(attempt=ATTEMPTS)
    def lose(self, attempt: int) -> None:
        if self.feed(requeued(attempt), allowed=self.current(attempt)):
            self.where, self.in_flight, self.seen_progress = "queued", False, 0.0

    @rule(reason=st.none() | st.text(max_size=5))
    def ask_cancel(self, reason: str | None) -> None:
        if self.feed(cancel_requested(reason), allowed=self.open):
            self.cancel_asked = True

    @rule(attempt=ATTEMPTS)
    def complete(self, attempt: int) -> None:
        if self.feed(completed(attempt), allowed=self.current(attempt)):
            self.where, self.in_flight = "completed", False

    @rule(attempt=ATTEMPTS)
    def fail(self, attempt: int) -> None:
        if self.feed(failed(attempt), allowed=self.open and attempt == self.attempts):
            self.where, self.in_flight = "failed", False

    @rule(attempt=ATTEMPTS)
    def cancel(self, attempt: int) -> None:
        if self.feed(cancelled(attempt), allowed=self.open and attempt == self.attempts):
            self.where, self.in_flight = "cancelled", False

    @rule()
    def queue_again(self) -> None:
        self.feed(the_queued_event(), allowed=False)

    @invariant()
    def it_agrees_with_the_model(self) -> None:
        job = self.job
        assert job.status.value == self.where
        assert job.is_claimed == self.in_flight
        assert job.attempt == self.attempts
        assert job.cancel_requested == self.cancel_asked
        assert job.is_final == (job.finished_at is not None) == (self.finals == 1)
        assert (job.failure is not None) == (job.status is JobStatus.FAILED)

    @invariant()
    def progress_grows_within_an_attempt(self) -> None:
        assert self.seen_progress <= self.job.progress <= 1.0
        self.seen_progress = self.job.progress

    @invariant()
    def running_means_started_on_an_engine(self) -> None:
        if self.job.status is JobStatus.RUNNING:
            assert self.job.engine is not None
            assert self.job.prompt_id is not None
            assert self.job.started_at is not None

    @invariant()
    def a_cancel_is_answered_by_where_the_job_is(self) -> None:
        expected = {
            "cancelled": CancelAnswer.ALREADY_CANCELLED,
            "completed": CancelAnswer.TOO_LATE,
            "failed": CancelAnswer.TOO_LATE,
        }.get(self.where, CancelAnswer.ASK_ENGINE if self.in_flight else CancelAnswer.CANCEL_NOW)
        assert decide_cancel(self.job) is expected


TestJobMachine = JobMachine.TestCase
TestJobMachine.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
