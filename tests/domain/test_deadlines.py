"""Deadlines, retries and the one more try after running out of memory, in the state machine."""

from dataclasses import replace

import pytest

from comfy_mcp.domain.deadlines import Deadline, timed_out
from comfy_mcp.domain.events import FailureKind, JobEvent
from comfy_mcp.domain.ids import JobId
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.domain.spending import Spend
from comfy_mcp.domain.transitions import evolve, queued
from tests.domain.test_job import (
    cancelled,
    claimed,
    completed,
    failed,
    progressed,
    requeued,
    started,
    the_queued_event,
)

BOTH = replace(the_queued_event(at=1000), queue_timeout_ms=500, run_timeout_ms=2000)


def after(*events: JobEvent) -> Job:
    job = queued(BOTH)
    for event in events:
        job = evolve(job, event)
    return job


def test_a_new_job_must_start_within_its_queue_timeout() -> None:
    job = after()
    assert (job.queue_deadline, job.run_deadline) == (1500, None)


def test_without_timeouts_there_are_no_deadlines() -> None:
    job = evolve(evolve(queued(the_queued_event()), claimed()), started())
    assert (job.queue_deadline, job.run_deadline) == (None, None)


def test_a_run_must_end_within_its_run_timeout_and_a_start_is_what_it_counts_from() -> None:
    assert after(claimed()).run_deadline is None
    assert after(claimed(), started(at=1020)).run_deadline == 3020
    assert after(claimed(), progressed(0.5, at=1030)).run_deadline == 3030
    assert after(claimed(), started(), completed()).run_deadline is None


def test_a_requeue_begins_the_wait_anew() -> None:
    job = after(claimed(), started(), replace(requeued(), at=9000))
    assert (job.queue_deadline, job.run_deadline) == (9500, None)


def test_only_a_requeue_for_want_of_memory_uses_up_the_one_more_try() -> None:
    lost = after(claimed(), requeued())
    assert not lost.oom_retried
    again = evolve(evolve(lost, claimed(attempt=2)), replace(requeued(attempt=2), cause=FailureKind.OOM))
    assert again.oom_retried
    for event in (claimed(attempt=3), requeued(attempt=3)):
        again = evolve(again, event)
    assert again.oom_retried


def test_a_job_knows_what_it_retries() -> None:
    assert queued(replace(the_queued_event(), retry_of=JobId("old"))).retry_of == "old"
    assert queued(the_queued_event()).retry_of is None


@pytest.mark.parametrize(
    ("events", "possible"),
    [
        ((), False),
        ((claimed(), started()), False),
        ((claimed(), completed()), False),
        ((claimed(), failed()), True),
        ((cancelled(attempt=0),), True),
    ],
)
def test_what_failed_or_was_cancelled_can_be_retried(events: tuple[JobEvent, ...], possible: bool) -> None:
    assert after(*events).can_be_retried is possible


def test_a_job_that_waited_too_long_fails_as_timeout_whatever_the_attempt() -> None:
    for job in (after(), after(claimed(), requeued())):
        event = timed_out(job, Deadline.QUEUE, at=1600)
        ended = evolve(job, event)
        assert ended.status is JobStatus.FAILED
        assert ended.failure is not None
        assert ended.failure.kind is FailureKind.TIMEOUT
        assert ended.failure.message == "It did not start within 0.5 s (queue timeout)."


def test_a_job_that_ran_too_long_keeps_its_outputs_and_says_so() -> None:
    job = after(claimed(), started())
    ended = evolve(job, timed_out(job, Deadline.RUN, at=9999, output_count=2))
    assert ended.output_count == 2
    assert ended.failure is not None
    assert ended.failure.message == "It was stopped: it did not end within 2 s (run timeout)."


def test_a_timeout_of_a_job_without_a_limit_names_none() -> None:
    event = timed_out(queued(the_queued_event()), Deadline.RUN, at=1)
    assert event.failure.message == "It was stopped: it did not end in time (run timeout)."


@pytest.mark.parametrize(("budget", "said"), [(9, True), (None, False)])
def test_a_run_that_used_up_its_reservation_says_so(budget: int | None, said: bool) -> None:
    job = replace(after(claimed(), started()), spend=Spend(per_hour=1, budget=budget))
    for which, expected in ((Deadline.RUN, said), (Deadline.QUEUE, False)):
        message = timed_out(job, which, at=9).failure.message
        assert ("reserved for it at local pays for" in message) == expected
