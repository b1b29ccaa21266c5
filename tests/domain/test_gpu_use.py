"""GPU-seconds and peak memory of a run, and of a job of several attempts."""

from dataclasses import replace

import pytest

from comfy_mcp.domain.events import JobClaimed
from comfy_mcp.domain.gpu_use import GpuAccount, GpuUse
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.job import Job
from comfy_mcp.domain.transitions import evolve, queued
from tests.support import jobs
from tests.support.gpus import CARD, GIB, busy


def test_utilisation_is_summed_over_the_time_before_each_sample_and_after_the_last() -> None:
    account = GpuAccount(started_at=10.0)
    account.take(busy(50.0), at=12.0)
    account.take(busy(100.0, memory_used_bytes=9 * GIB), at=13.0)
    account.take(busy(0.0), at=15.0)
    assert account.close(at=20.0) == GpuUse(seconds=2.0, peak_bytes=9 * GIB)
    account.take(busy(100.0), at=16.0)
    assert account.close(at=17.0) == GpuUse(seconds=4.0, peak_bytes=9 * GIB)


def test_a_sample_from_right_after_the_start_tells_of_what_was_before() -> None:
    account = GpuAccount(started_at=10.0)
    account.take(busy(100.0), at=10.1)
    assert account.close(at=10.2) == GpuUse()


def test_the_most_that_the_engines_torch_held_is_kept_from_samples_of_the_run() -> None:
    account = GpuAccount(started_at=10.0)
    account.hold(9 * GIB, at=10.1)  # it tells of what was before
    for held in (3 * GIB, 7 * GIB, 5 * GIB):
        account.hold(held, at=12.0)
    assert account.close(at=13.0) == GpuUse(held_bytes=7 * GIB)


def test_what_the_driver_does_not_say_is_not_measured() -> None:
    account = GpuAccount(started_at=0.0)
    account.take(replace(CARD, utilization_percent=None), at=1.0)
    assert account.close(at=2.0) == GpuUse(peak_bytes=4 * GIB)
    account = GpuAccount(started_at=0.0)
    account.take(replace(CARD, memory_used_bytes=None), at=1.0)
    assert account.close(at=2.0) == GpuUse(seconds=1.0)


def test_no_run_takes_more_than_its_time_and_a_clock_may_stand_still() -> None:
    account = GpuAccount(started_at=0.0)
    account.take(busy(700.0), at=1.0)
    account.take(busy(-3.0), at=1.0)
    account.take(busy(50.0), at=0.5)
    assert account.close(at=0.9) == GpuUse(seconds=1.0, peak_bytes=4 * GIB)


def claimed(job: Job) -> Job:
    event = JobClaimed(
        job_id=job.id,
        at=2,
        attempt=job.attempt + 1,
        engine=EngineId("e"),
        prompt_id=jobs.new_prompt_id(),
    )
    return evolve(job, event)


@pytest.mark.parametrize("end", [jobs.completed, jobs.failed, jobs.cancelled])
def test_a_job_takes_the_sum_of_its_attempts_and_the_greatest_peak(end: object) -> None:
    job = claimed(queued(jobs.queued_event()))
    job = evolve(job, replace(jobs.requeued(job), gpu_use=GpuUse(seconds=1.5, peak_bytes=8)))
    assert (job.gpu_seconds, job.peak_vram_bytes) == (1.5, 8)
    job = claimed(job)
    assert callable(end)
    job = evolve(job, replace(end(job), gpu_use=GpuUse(seconds=2.25, peak_bytes=5)))
    assert (job.gpu_seconds, job.peak_vram_bytes) == (3.75, 8)


def test_an_attempt_that_was_not_measured_changes_nothing() -> None:
    job = claimed(queued(jobs.queued_event()))
    assert evolve(job, jobs.completed(job)).gpu_seconds is None
    measured = evolve(job, replace(jobs.requeued(job), gpu_use=GpuUse(peak_bytes=8)))
    again = claimed(measured)
    done = evolve(again, replace(jobs.completed(again), gpu_use=GpuUse(seconds=1.0)))
    assert (done.gpu_seconds, done.peak_vram_bytes) == (1.0, 8)
