"""The time left as of now: aged since the last step, and none rather than a wrong one."""

from dataclasses import replace

import pytest

from comfy_mcp.domain.events import JobQueued, Priority
from comfy_mcp.domain.ids import ClientId, JobId
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.domain.time_left import GRACE_MS, in_range, time_left, wait_behind
from comfy_mcp.domain.transitions import queued


def running(eta_ms: int | None, progress_at: int | None = 1_000) -> Job:
    event = JobQueued(
        job_id=JobId("j"), at=0, client=ClientId("c"), lane="local", priority=Priority.LOW, node_count=1
    )
    return replace(queued(event), status=JobStatus.RUNNING, eta_ms=eta_ms, progress_at=progress_at)


WAITS = replace(running(None), status=JobStatus.QUEUED)


@pytest.mark.parametrize(
    ("eta_ms", "age", "left"),
    [
        (60_000, 0, 60_000),
        (60_000, 20_000, 40_000),
        (60_000, 50_000, 50_000),  # so long has the present step taken: it may take as long again
        (60_000, 60_001, None),
        (2_000, 1_500, 1_500),
        (2_000, GRACE_MS, GRACE_MS),
        (2_000, GRACE_MS + 1, None),
        (2_000, -300, 2_000),  # another machine's clock
        (None, 0, None),
    ],
)
def test_it_ages_and_ends(eta_ms: int | None, age: int, left: int | None) -> None:
    assert time_left(running(eta_ms), 1_000 + age) == left


def test_without_a_time_it_is_as_it_was_said_and_a_job_that_does_not_run_has_none() -> None:
    assert time_left(running(7_000, None), 10**12) == 7_000
    assert time_left(replace(running(7_000), status=JobStatus.QUEUED), 1_000) is None


def test_the_range_is_around_it() -> None:
    low, high = in_range(10_000)
    assert low < 10_000 < high


@pytest.mark.parametrize(
    ("before", "pace_ms", "unseen", "engines", "wait_ms"),
    [
        ([], None, 0, 1, None),
        ([], 4_000, 3, 1, None),
        ([running(6_000)], None, 0, 1, 6_000),
        ([running(6_000)], None, 2, 1, 18_000),
        ([replace(running(6_000), started_at=400)], None, 1, 1, 12_600),  # a whole one takes 6.6 s
        ([running(None)], None, 0, 1, None),
        ([running(6_000), running(None)], None, 0, 2, 6_000),
        ([running(6_000), WAITS, WAITS], 4_000, 1, 2, 9_333),
        ([running(None), WAITS], 4_000, 0, 1, 8_000),
    ],
)
def test_what_is_ahead_is_shared_and_the_unknown_counts_as_the_rest(
    before: list[Job], pace_ms: float | None, unseen: int, engines: int, wait_ms: float | None
) -> None:
    found = wait_behind(before, 1_000, lambda _: pace_ms, unseen=unseen, engines=engines)
    assert (None if found is None else round(found)) == wait_ms
