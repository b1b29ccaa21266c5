"""What an engine's answer means for a job, case by case."""

from dataclasses import replace

import pytest

from comfy_mcp.domain.deadlines import Deadline
from comfy_mcp.domain.events import (
    FailureKind,
    JobCancelled,
    JobClaimed,
    JobCompleted,
    JobEvent,
    JobFailed,
    JobFailure,
    JobRequeued,
)
from comfy_mcp.domain.ids import EngineId, PromptId
from comfy_mcp.domain.job import Job
from comfy_mcp.domain.prompt import PromptEnding, PromptResult
from comfy_mcp.domain.transitions import evolve, queued
from comfy_mcp.driving.recovery import Sighting, conclude, explain_absence, must_free_memory
from tests.support.jobs import queued_event, started
from tests.support.scripted_place import PICTURE, success

OOM = JobFailure(kind=FailureKind.OOM, message="OutOfMemoryError: CUDA out of memory.")
INTERRUPTED = PromptResult(ending=PromptEnding.INTERRUPTED, outputs=(PICTURE,))


def running(**changes: object) -> Job:
    new = replace(queued_event(), queue_timeout_ms=1000, run_timeout_ms=2000)
    job = evolve(
        queued(new),
        JobClaimed(job_id=new.job_id, at=1_500, attempt=1, engine=EngineId("e"), prompt_id=PromptId("p")),
    )
    return replace(evolve(job, started(job)), **changes)  # type: ignore[arg-type]


def error(failure: JobFailure | None) -> PromptResult:
    return PromptResult(ending=PromptEnding.ERROR, outputs=(), failure=failure)


def kind_of(event: JobEvent) -> FailureKind:
    assert isinstance(event, JobFailed)
    return event.failure.kind


def test_running_out_of_memory_is_tried_once_more_and_says_why() -> None:
    event = conclude(running(), error(OOM), now=5_000, max_attempts=2)
    assert isinstance(event, JobRequeued)
    assert event.cause is FailureKind.OOM
    assert OOM.message in event.reason
    assert must_free_memory(event)


def test_the_second_time_it_fails_with_the_facts() -> None:
    event = conclude(running(oom_retried=True), error(OOM), now=5_000, max_attempts=9)
    assert isinstance(event, JobFailed)
    assert event.failure.kind is FailureKind.OOM
    assert event.failure.message.startswith(OOM.message)
    assert "again" in event.failure.message
    assert not must_free_memory(event)


@pytest.mark.parametrize(
    ("job", "expired", "max_attempts"),
    [
        (running(), None, 1),
        (running(cancel_requested=True), None, 2),
        (running(), Deadline.RUN, 2),
    ],
)
def test_there_is_no_further_try_without_an_attempt_or_for_a_job_that_is_to_stop(
    job: Job, expired: Deadline | None, max_attempts: int
) -> None:
    event = conclude(job, error(OOM), now=5_000, expired=expired, max_attempts=max_attempts)
    assert isinstance(event, JobFailed)
    assert event.failure == OOM


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if kind is not FailureKind.OOM])
def test_no_other_error_is_tried_again(kind: FailureKind) -> None:
    failure = JobFailure(kind=kind, message="broken")
    event = conclude(running(), error(failure), now=5_000, max_attempts=9)
    assert isinstance(event, JobFailed)
    assert event.failure == failure


def test_an_error_without_details_is_a_node_error() -> None:
    assert kind_of(conclude(running(), error(None), now=1)) is FailureKind.NODE_ERROR


def test_a_requeue_for_a_lost_engine_frees_no_memory() -> None:
    event = explain_absence(running(), Sighting(accepted=True, same_connection=False), max_attempts=2, now=1)
    assert isinstance(event, JobRequeued)
    assert event.cause is FailureKind.ENGINE_LOST
    assert not must_free_memory(event)


@pytest.mark.parametrize("which", list(Deadline))
def test_an_interrupt_after_a_deadline_is_a_timeout_and_keeps_the_outputs(which: Deadline) -> None:
    event = conclude(running(), INTERRUPTED, now=5_000, expired=which)
    assert isinstance(event, JobFailed)
    assert (event.failure.kind, event.output_count) == (FailureKind.TIMEOUT, 1)
    assert which.value in event.failure.message


def test_an_interrupt_that_nobody_here_asked_for_is_somebody_elses() -> None:
    assert kind_of(conclude(running(), INTERRUPTED, now=1)) is FailureKind.CANCELLED_EXTERNALLY


def test_a_cancel_goes_before_a_deadline() -> None:
    job = running(cancel_requested=True)
    assert isinstance(conclude(job, INTERRUPTED, now=1, expired=Deadline.RUN), JobCancelled)
    seen = Sighting(accepted=True, same_connection=True, expired=Deadline.QUEUE)
    assert isinstance(explain_absence(job, seen, max_attempts=2, now=1), JobCancelled)


def test_a_run_that_won_the_race_against_its_deadline_is_completed() -> None:
    assert isinstance(conclude(running(), success(), now=1, expired=Deadline.RUN), JobCompleted)


@pytest.mark.parametrize("same_connection", [True, False])
def test_a_prompt_that_was_deleted_for_its_deadline_is_a_timeout(same_connection: bool) -> None:
    seen = Sighting(accepted=True, same_connection=same_connection, expired=Deadline.QUEUE)
    assert kind_of(explain_absence(running(), seen, max_attempts=9, now=1)) is FailureKind.TIMEOUT


@pytest.mark.parametrize(("lane", "named"), [("local", "ComfyUI"), ("salad", "salad")])
def test_what_happened_at_a_service_is_not_said_of_comfyui(lane: str, named: str) -> None:
    job = running(lane=lane)
    seen = [Sighting(accepted=accepted, same_connection=accepted) for accepted in (True, False)]
    events = [explain_absence(job, each, max_attempts=9, now=5_000) for each in seen]
    events += [conclude(job, INTERRUPTED, now=5_000), conclude(job, error(None), now=5_000)]
    for event in events:
        said = event.reason if isinstance(event, JobRequeued) else ""
        said += event.failure.message if isinstance(event, JobFailed) else ""
        assert named in said
        assert (named == "ComfyUI") == ("ComfyUI" in said)
