"""What the event log says becomes counters and times, each event once."""

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from comfy_mcp.domain.events import (
    CancelRequested,
    FailureKind,
    JobCancelled,
    JobCompleted,
    JobEvent,
    JobFailed,
    JobFailure,
    JobProgressed,
    JobRequeued,
    JobStarted,
    Priority,
    PriorityChanged,
    StoredEvent,
)
from comfy_mcp.domain.gpu_use import GpuUse
from comfy_mcp.domain.ids import EngineId, JobId
from comfy_mcp.domain.job import TERMINAL, Job, JobStatus
from comfy_mcp.domain.transitions import evolve, queued
from comfy_mcp.metrics.instruments import Instruments
from comfy_mcp.metrics.jobs import JobMeter
from tests.metrics.conftest import ENGINE, Clock, Log, claimed
from tests.support.jobs import queued_event

JOB = JobId("job-1")


def start(job_id: JobId = JOB, *, attempt: int = 1, at: int = 2_000) -> JobStarted:
    return JobStarted(job_id=job_id, at=at, attempt=attempt)


def complete(job_id: JobId = JOB, *, attempt: int = 1, at: int = 5_000) -> JobCompleted:
    return JobCompleted(job_id=job_id, at=at, attempt=attempt)


def fail(kind: FailureKind, *, attempt: int = 1, at: int = 5_000) -> JobFailed:
    return JobFailed(job_id=JOB, at=at, attempt=attempt, failure=JobFailure(kind=kind, message="No."))


def entered(log: Log) -> dict[str, float | None]:
    shown = set(JobStatus) - {JobStatus.BLOCKED}
    return {status.value: log.value("comfyui_workflow_total", status=status.value) for status in shown}


def test_before_anything_happened_every_status_and_kind_is_there_and_0(log: Log) -> None:
    assert set(entered(log).values()) == {0.0}
    for kind in FailureKind:
        assert log.value("comfyui_workflow_errors_total", error_type=kind.value) == 0
    assert log.value("comfyui_workflow_duration_seconds_count", gpu_type="local") == 0
    assert log.value("comfy_bridge_attempts_total", engine=ENGINE) == 0
    for status in TERMINAL:
        assert log.value("comfy_bridge_workflow_run_seconds_count", engine=ENGINE, status=status.value) == 0


def test_a_workflow_that_completes_counts_once_in_each_status_it_had(log: Log) -> None:
    log.append(queued_event(JOB, at=1_000, priority=Priority.HIGH), claimed(JOB), start(), complete())
    assert entered(log) == {"queued": 1, "running": 1, "completed": 1, "failed": 0, "cancelled": 0}
    assert log.value("comfy_bridge_attempts_total", engine=ENGINE) == 1
    assert log.value("comfy_bridge_workflow_wait_seconds_sum", priority="high") == 1.0
    assert log.value("comfy_bridge_workflow_run_seconds_sum", engine=ENGINE, status="completed") == 3.0
    assert log.value("comfyui_workflow_duration_seconds_sum", gpu_type="local") == 3.0
    assert log.value("comfyui_workflow_duration_seconds_bucket", gpu_type="local", le="5.0") == 1
    assert log.value("comfyui_workflow_duration_seconds_bucket", gpu_type="local", le="1.0") == 0


def test_the_contract_s_buckets_are_exactly_its_own(log: Log) -> None:
    les = [
        sample.labels["le"]
        for metric in log.metrics.registry.collect()
        if metric.name == "comfyui_workflow_duration_seconds"
        for sample in metric.samples
        if sample.name.endswith("_bucket") and sample.labels["gpu_type"] == "local"
    ]
    assert les == ["1.0", "5.0", "10.0", "30.0", "60.0", "120.0", "300.0", "600.0", "+Inf"]


def test_events_that_are_read_again_count_no_second_time(log: Log) -> None:
    log.append(queued_event(JOB), claimed(JOB), start(), complete())
    for stored in log.events:
        log.metrics.hear(stored)
    assert entered(log) == {"queued": 1, "running": 1, "completed": 1, "failed": 0, "cancelled": 0}
    assert log.value("comfyui_workflow_duration_seconds_count", gpu_type="local") == 1
    assert log.value("comfy_bridge_event_lag_seconds_count") == 2


def test_a_failure_counts_by_its_kind_and_is_no_duration(log: Log) -> None:
    log.append(queued_event(JOB), claimed(JOB), start(), fail(FailureKind.OOM))
    assert log.value("comfyui_workflow_errors_total", error_type="oom") == 1
    assert log.value("comfyui_workflow_errors_total", error_type="internal") == 0
    assert entered(log)["failed"] == 1
    assert log.value("comfyui_workflow_duration_seconds_count", gpu_type="local") == 0
    assert log.value("comfy_bridge_workflow_run_seconds_count", engine=ENGINE, status="failed") == 1


def test_a_wait_counts_under_the_priority_that_it_ended_with(log: Log) -> None:
    low = PriorityChanged(job_id=JOB, at=1_100, priority=Priority.LOW)
    log.append(queued_event(JOB), low, claimed(JOB), start())
    assert log.value("comfy_bridge_workflow_wait_seconds_count", priority="low") == 1
    assert log.value("comfy_bridge_workflow_wait_seconds_count", priority="normal") == 0


def test_a_workflow_cancelled_in_the_queue_neither_waited_nor_ran(log: Log) -> None:
    log.append(
        queued_event(JOB),
        CancelRequested(job_id=JOB, at=1_100),
        JobCancelled(job_id=JOB, at=1_100, attempt=0),
    )
    assert entered(log) == {"queued": 1, "running": 0, "completed": 0, "failed": 0, "cancelled": 1}
    assert log.value("comfy_bridge_workflow_wait_seconds_count", priority="normal") == 0
    assert log.value("comfy_bridge_workflow_run_seconds_count", engine=ENGINE, status="cancelled") == 0


def test_a_second_attempt_counts_as_attempt_and_requeue_but_as_one_running_workflow(log: Log) -> None:
    log.append(
        queued_event(JOB, at=1_000),
        claimed(JOB),
        start(at=2_000),
        JobRequeued(job_id=JOB, at=10_000, attempt=1, reason="gone"),
        claimed(JOB, attempt=2),
        start(attempt=2, at=20_000),
        complete(attempt=2, at=21_000),
    )
    assert entered(log) == {"queued": 1, "running": 1, "completed": 1, "failed": 0, "cancelled": 0}
    assert log.value("comfy_bridge_attempts_total", engine=ENGINE) == 2
    assert log.value("comfy_bridge_requeues_total", engine=ENGINE) == 1
    assert log.value("comfy_bridge_workflow_wait_seconds_sum", priority="normal") == 1.0
    assert log.value("comfyui_workflow_duration_seconds_sum", gpu_type="local") == 1.0


def test_running_out_of_memory_is_counted_apart_from_lost_attempts_and_as_the_failure_it_ends_in(
    log: Log,
) -> None:
    requeue = JobRequeued(job_id=JOB, at=3_000, attempt=1, reason="full", cause=FailureKind.OOM)
    log.append(queued_event(JOB), claimed(JOB), start(), requeue, claimed(JOB, attempt=2))
    assert log.value("comfy_bridge_oom_retries_total", engine=ENGINE) == 1
    assert log.value("comfy_bridge_requeues_total", engine=ENGINE) == 0
    assert log.value("comfyui_workflow_errors_total", error_type="oom") == 0
    log.append(fail(FailureKind.OOM, attempt=2))
    assert log.value("comfyui_workflow_errors_total", error_type="oom") == 1


def test_a_workflow_that_fails_after_a_requeue_did_not_run_at_its_end(log: Log) -> None:
    log.append(
        queued_event(JOB),
        claimed(JOB),
        start(),
        JobRequeued(job_id=JOB, at=3_000, attempt=1, reason="gone"),
        fail(FailureKind.ENGINE_LOST),
    )
    assert entered(log)["failed"] == 1
    assert log.value("comfy_bridge_workflow_run_seconds_count", engine=ENGINE, status="failed") == 0


def test_engines_and_lanes_that_are_not_ours_share_one_label(log: Log) -> None:
    other = EngineId("http://somewhere.else:1234")
    log.append(queued_event(JOB, lane="attic"), claimed(JOB, engine=other), start(), complete())
    assert log.value("comfy_bridge_attempts_total", engine="other") == 1
    assert log.value("comfy_bridge_attempts_total", engine=other) is None
    assert log.value("comfyui_workflow_duration_seconds_count", gpu_type="other") == 1
    assert log.value("comfyui_workflow_duration_seconds_count", gpu_type="attic") is None


def test_lag_is_what_passes_between_an_engine_s_word_and_the_hub(log: Log) -> None:
    log.clock.now = 2_040
    log.append(queued_event(JOB), claimed(JOB), start(at=2_000))
    log.append(JobProgressed(job_id=JOB, at=2_030, attempt=1, progress=0.5))
    assert log.value("comfy_bridge_event_lag_seconds_count") == 2
    assert log.value("comfy_bridge_event_lag_seconds_sum") == pytest.approx(0.05)


def test_a_clock_that_was_set_back_makes_no_time_negative(log: Log) -> None:
    log.clock.now = 500
    log.append(queued_event(JOB, at=3_000), claimed(JOB), start(at=2_000), complete(at=1_000))
    assert log.value("comfy_bridge_event_lag_seconds_sum") == 0
    assert log.value("comfy_bridge_workflow_wait_seconds_sum", priority="normal") == 0
    assert log.value("comfyui_workflow_duration_seconds_sum", gpu_type="local") == 0


def running_job(job_id: JobId, *events: JobEvent) -> Job:
    job = queued(queued_event(job_id, at=1_000))
    for event in events:
        job = evolve(job, event)
    return job


def test_jobs_that_were_open_before_are_timed_whole_and_not_counted_again(log: Log) -> None:
    waiting, running = JobId("waiting"), JobId("running")
    jobs = log.metrics.jobs
    jobs.begin_recall()
    jobs.recall([running_job(waiting), running_job(running, claimed(running), start(running))])
    jobs.end_recall()
    assert set(entered(log).values()) == {0.0}
    log.append(complete(running, at=4_000), claimed(waiting), start(waiting, at=8_000))
    assert log.value("comfyui_workflow_duration_seconds_sum", gpu_type="local") == 2.0
    assert log.value("comfy_bridge_workflow_wait_seconds_sum", priority="normal") == 7.0
    assert entered(log) == {"queued": 0, "running": 1, "completed": 1, "failed": 0, "cancelled": 0}


def test_a_job_that_was_requeued_before_does_not_count_as_running_again(log: Log) -> None:
    again = running_job(
        JOB, claimed(JOB), start(), JobRequeued(job_id=JOB, at=3_000, attempt=1, reason="gone")
    )
    log.metrics.jobs.recall([evolve(again, claimed(JOB, attempt=2))])
    log.append(start(attempt=2, at=4_000), complete(attempt=2, at=5_000))
    assert entered(log)["running"] == 0
    assert log.value("comfyui_workflow_duration_seconds_sum", gpu_type="local") == 1.0


def test_a_job_that_ended_while_it_was_looked_up_is_not_kept(log: Log) -> None:
    jobs = log.metrics.jobs
    jobs.begin_recall()
    log.append(complete(at=3_000))
    jobs.recall([running_job(JOB, claimed(JOB), start())])
    jobs.end_recall()
    log.append(complete(at=4_000))  # never happens; it would be timed if the job had been kept
    assert log.value("comfyui_workflow_duration_seconds_count", gpu_type="local") == 0


def test_what_the_log_has_said_meanwhile_counts_more_than_an_older_look(log: Log) -> None:
    log.append(queued_event(JOB, at=1_000), claimed(JOB), start(at=2_000))
    log.metrics.jobs.recall([replace(running_job(JOB, claimed(JOB)), created_at=0), running_job(JobId("x"))])
    log.append(complete(at=2_500))
    assert log.value("comfyui_workflow_duration_seconds_sum", gpu_type="local") == 0.5


def test_ended_jobs_are_not_recalled(log: Log) -> None:
    log.metrics.jobs.recall([running_job(JOB, claimed(JOB), start(), complete())])
    log.append(complete())
    assert log.value("comfyui_workflow_duration_seconds_count", gpu_type="local") == 0


def test_a_job_of_which_only_the_middle_was_seen_is_counted_and_not_timed(log: Log) -> None:
    log.append(start(at=2_000))
    log.append(start(at=2_000))
    assert entered(log)["running"] == 1
    assert log.value("comfy_bridge_workflow_wait_seconds_count", priority="normal") == 0
    log.append(JobRequeued(job_id=JobId("unseen"), at=2_500, attempt=1, reason="gone"))
    assert log.value("comfy_bridge_requeues_total", engine="other") == 1
    log.append(complete(JobId("never-seen")))
    assert entered(log)["completed"] == 1


def test_beyond_its_bound_the_oldest_job_is_counted_but_not_timed() -> None:
    registry = CollectorRegistry()
    meter = JobMeter(Instruments(registry), engine_label=str, now_ms=Clock(), open_jobs=2)
    oldest, older, newest = (JobId(f"job-{number}") for number in range(3))
    events: list[JobEvent] = [queued_event(each) for each in (oldest, older, newest)]
    events += [start(newest), start(oldest)]
    for seq, event in enumerate(events, start=1):
        meter.hear(StoredEvent(seq=seq, event=event))
    assert registry.get_sample_value("comfyui_workflow_total", {"status": "running"}) == 2
    waits = registry.get_sample_value("comfy_bridge_workflow_wait_seconds_count", {"priority": "normal"})
    assert waits == 1


def test_gpu_seconds_are_counted_for_each_attempt_that_was_measured(log: Log) -> None:
    requeue = JobRequeued(job_id=JOB, at=3_000, attempt=1, reason="gone", gpu_use=GpuUse(seconds=1.5))
    end = replace(complete(attempt=2), gpu_use=GpuUse(seconds=2.0, peak_bytes=7))
    log.append(queued_event(JOB), claimed(JOB), start(), requeue, claimed(JOB, attempt=2), end)
    assert log.value("comfy_bridge_workflow_gpu_seconds_total", engine=ENGINE) == 3.5
    log.append(replace(complete(JobId("unseen")), gpu_use=GpuUse(peak_bytes=7)))
    assert log.value("comfy_bridge_workflow_gpu_seconds_total", engine="other") is None
    log.append(replace(complete(JobId("unseen too")), gpu_use=GpuUse(seconds=4.0)))
    assert log.value("comfy_bridge_workflow_gpu_seconds_total", engine="other") == 4.0
