"""The job state machine, against an independent model and rule by rule."""

import pytest

from comfy_mcp.domain.events import (
    FINAL_EVENTS,
    CancelRequested,
    FailureKind,
    JobCancelled,
    JobClaimed,
    JobCompleted,
    JobEvent,
    JobFailed,
    JobFailure,
    JobProgressed,
    JobQueued,
    JobRequeued,
    JobStarted,
    Priority,
    PriorityChanged,
    StoredEvent,
)
from comfy_mcp.domain.ids import ClientId, EngineId, JobId, NodeId, PromptId
from comfy_mcp.domain.job import (
    TERMINAL,
    TRANSITIONS,
    CancelAnswer,
    IllegalTransition,
    Job,
    JobStatus,
    decide_cancel,
)
from comfy_mcp.domain.transitions import evolve, queued

JOB = JobId("11111111-1111-4111-8111-111111111111")
FAILURE = JobFailure(kind=FailureKind.NODE_ERROR, message="it broke", node_id=NodeId("3"))


def the_queued_event(at: int = 1000) -> JobQueued:
    return JobQueued(
        job_id=JOB,
        at=at,
        client=ClientId("ann"),
        lane="local",
        priority=Priority.HIGH,
        node_count=3,
        warnings=("careful",),
    )


def claimed(attempt: int = 1, at: int = 1010) -> JobClaimed:
    return JobClaimed(
        job_id=JOB, at=at, attempt=attempt, engine=EngineId("e"), prompt_id=PromptId(f"p{attempt}")
    )


def started(attempt: int = 1, at: int = 1020) -> JobStarted:
    return JobStarted(job_id=JOB, at=at, attempt=attempt)


def progressed(progress: float, attempt: int = 1, at: int = 1030) -> JobProgressed:
    return JobProgressed(
        job_id=JOB,
        at=at,
        attempt=attempt,
        progress=progress,
        node_id=NodeId("3"),
        node_title="Sampler",
        eta_ms=500,
    )


def requeued(attempt: int = 1) -> JobRequeued:
    return JobRequeued(job_id=JOB, at=1040, attempt=attempt, reason="the engine was restarted")


def completed(attempt: int = 1) -> JobCompleted:
    return JobCompleted(job_id=JOB, at=1050, attempt=attempt, output_count=2)


def failed(attempt: int = 1) -> JobFailed:
    return JobFailed(job_id=JOB, at=1050, attempt=attempt, failure=FAILURE, output_count=1)


def cancelled(attempt: int = 1) -> JobCancelled:
    return JobCancelled(job_id=JOB, at=1050, attempt=attempt, output_count=1)


def cancel_requested(reason: str | None = None) -> CancelRequested:
    return CancelRequested(job_id=JOB, at=1025, reason=reason)


def after(*events: JobEvent) -> Job:
    job = queued(the_queued_event())
    for event in events:
        job = evolve(job, event)
    return job


def test_a_new_job_is_queued_with_what_was_submitted() -> None:
    job = queued(the_queued_event(at=7))
    assert job == Job(
        id=JOB,
        client=ClientId("ann"),
        lane="local",
        priority=Priority.HIGH,
        status=JobStatus.QUEUED,
        created_at=7,
        node_count=3,
        warnings=("careful",),
    )
    assert not job.is_claimed
    assert not job.is_final


def test_a_claim_counts_the_attempt_and_names_engine_and_prompt_while_the_job_stays_queued() -> None:
    job = after(claimed())
    assert (job.status, job.attempt, job.engine, job.prompt_id) == (JobStatus.QUEUED, 1, "e", "p1")
    assert job.is_claimed


def test_the_priority_changes_as_long_as_no_engine_has_the_job() -> None:
    low = PriorityChanged(job_id=JOB, at=2, priority=Priority.LOW)
    job = after(low)
    assert (job.status, job.priority) == (JobStatus.QUEUED, Priority.LOW)
    for known in (after(claimed()), after(claimed(), started()), after(claimed(), completed())):
        with pytest.raises(IllegalTransition):
            evolve(known, low)
    assert after(claimed(), requeued(), low).priority is Priority.LOW


def test_the_whole_happy_path_ends_completed_at_exactly_one() -> None:
    job = after(claimed(), started(), progressed(0.4), completed())
    assert job.status is JobStatus.COMPLETED
    assert (job.progress, job.output_count) == (1.0, 2)
    assert (job.started_at, job.finished_at) == (1020, 1050)
    assert (job.current_node, job.current_node_title, job.eta_ms) == (None, None, None)
    assert job.is_final
    assert not job.is_claimed


def test_progress_starts_a_job_whose_start_was_not_seen() -> None:
    job = after(claimed(), progressed(0.25))
    assert (job.status, job.started_at, job.progress) == (JobStatus.RUNNING, 1030, 0.25)
    assert (job.current_node, job.current_node_title, job.eta_ms) == ("3", "Sampler", 500)


def test_a_start_at_the_epoch_is_not_forgotten() -> None:
    assert after(claimed(), started(at=0), progressed(0.1)).started_at == 0


@pytest.mark.parametrize(("reported", "kept"), [(0.2, 0.5), (-3.0, 0.5), (7.0, 1.0), (float("nan"), 0.5)])
def test_progress_never_shrinks_nor_leaves_its_range(reported: float, kept: float) -> None:
    assert after(claimed(), progressed(0.5), progressed(reported)).progress == kept


def test_a_second_start_keeps_the_first_time() -> None:
    assert after(claimed(), started(at=1020), started(at=1099)).started_at == 1020


def test_a_job_may_complete_before_its_start_was_seen() -> None:
    assert after(claimed(), completed()).status is JobStatus.COMPLETED


def test_a_requeued_job_forgets_the_lost_attempt_but_not_its_count() -> None:
    job = after(claimed(), started(), progressed(0.6), requeued())
    assert (job.status, job.attempt) == (JobStatus.QUEUED, 1)
    assert (job.engine, job.prompt_id, job.started_at, job.progress) == (None, None, None, 0.0)
    assert (job.current_node, job.current_node_title, job.eta_ms) == (None, None, None)


def test_a_requeued_job_keeps_that_its_cancel_was_asked_for() -> None:
    job = after(claimed(), cancel_requested("too slow"), requeued())
    assert (job.cancel_requested, job.cancel_reason) == (True, "too slow")


def test_a_second_attempt_is_number_two() -> None:
    job = after(claimed(), requeued(), claimed(2), started(2))
    assert (job.attempt, job.prompt_id, job.status) == (2, "p2", JobStatus.RUNNING)


def test_a_failure_is_kept_and_progress_stays_where_it_was() -> None:
    job = after(claimed(), progressed(0.4), failed())
    assert (job.status, job.failure, job.progress, job.output_count) == (JobStatus.FAILED, FAILURE, 0.4, 1)
    assert job.finished_at == 1050


def test_a_job_that_never_reached_an_engine_fails_and_is_cancelled_with_attempt_zero() -> None:
    assert after(failed(0)).status is JobStatus.FAILED
    assert after(cancelled(0)).status is JobStatus.CANCELLED


def test_a_cancel_request_changes_no_status() -> None:
    job = after(claimed(), started(), cancel_requested("no longer needed"))
    assert (job.status, job.cancel_requested) == (JobStatus.RUNNING, True)
    assert job.cancel_reason == "no longer needed"


def test_a_second_cancel_request_without_a_reason_keeps_the_first_reason() -> None:
    job = after(cancel_requested("first"), cancel_requested())
    assert job.cancel_reason == "first"
    assert evolve(job, cancel_requested("second")).cancel_reason == "second"


@pytest.mark.parametrize(
    ("history", "event"),
    [
        ((), the_queued_event()),
        ((), started()),
        ((), completed(0)),
        ((), requeued(0)),
        ((), claimed(2)),
        ((), failed(1)),
        ((claimed(),), claimed(2)),
        ((claimed(),), claimed(1)),
        ((claimed(),), started(2)),
        ((claimed(), requeued(), claimed(2)), completed(1)),
        ((claimed(), requeued(), claimed(2)), failed(1)),
        ((claimed(), requeued()), progressed(0.3)),
    ],
)
def test_an_event_out_of_place_or_of_another_attempt_is_refused(
    history: tuple[JobEvent, ...], event: JobEvent
) -> None:
    job = after(*history)
    with pytest.raises(IllegalTransition) as caught:
        evolve(job, event)
    assert (caught.value.job, caught.value.event) == (job, event)
    assert type(event).__name__ in str(caught.value)


@pytest.mark.parametrize("end", [completed(), failed(), cancelled()])
@pytest.mark.parametrize(
    "event",
    [
        the_queued_event(),
        claimed(2),
        started(),
        progressed(0.9),
        requeued(),
        cancel_requested(),
        completed(),
        failed(),
        cancelled(),
    ],
)
def test_nothing_leaves_a_final_state(end: JobEvent, event: JobEvent) -> None:
    job = after(claimed(), end)
    with pytest.raises(IllegalTransition):
        evolve(job, event)


def test_the_table_has_every_status_and_no_way_out_of_the_final_ones() -> None:
    assert set(TRANSITIONS) == set(JobStatus)
    assert {status for status, targets in TRANSITIONS.items() if not targets} == TERMINAL


@pytest.mark.parametrize(
    ("job", "answer"),
    [
        (after(), CancelAnswer.CANCEL_NOW),
        (after(claimed(), requeued()), CancelAnswer.CANCEL_NOW),
        (after(claimed()), CancelAnswer.ASK_ENGINE),
        (after(claimed(), started()), CancelAnswer.ASK_ENGINE),
        (after(cancelled(0)), CancelAnswer.ALREADY_CANCELLED),
        (after(claimed(), completed()), CancelAnswer.TOO_LATE),
        (after(failed(0)), CancelAnswer.TOO_LATE),
    ],
)
def test_what_a_cancel_means_depends_on_where_the_job_is(job: Job, answer: CancelAnswer) -> None:
    assert decide_cancel(job) is answer


def test_priorities_rank_high_first() -> None:
    assert sorted(Priority, key=lambda priority: priority.rank) == [
        Priority.HIGH,
        Priority.NORMAL,
        Priority.LOW,
    ]


def test_only_the_three_endings_are_final_events() -> None:
    endings: list[JobEvent] = [completed(), failed(), cancelled()]
    others: list[JobEvent] = [
        the_queued_event(),
        claimed(),
        started(),
        progressed(0.1),
        requeued(),
        cancel_requested(),
    ]
    assert all(StoredEvent(seq=1, event=event).is_final for event in endings)
    assert not any(StoredEvent(seq=1, event=event).is_final for event in others)
    assert tuple(type(event) for event in endings) == FINAL_EVENTS
