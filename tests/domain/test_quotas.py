from dataclasses import replace
from typing import Any

import pytest

from comfy_mcp.domain.days import DAY_MS, day_end
from comfy_mcp.domain.events import JobClaimed
from comfy_mcp.domain.gpu_use import GpuUse
from comfy_mcp.domain.ids import ClientId, EngineId
from comfy_mcp.domain.quotas import ClientUse, gpu_seconds_of
from comfy_mcp.domain.transitions import evolve, queued
from tests.support.jobs import completed, new_prompt_id, queued_event, started

NOON = DAY_MS // 2
USE = ClientUse(client=ClientId("ann"), queued=3, running=2, gpu_seconds=100.0, day_ends=DAY_MS)


@pytest.mark.parametrize(
    ("limits", "reached", "because"),
    [
        ({}, set(), None),
        ({"max_queued": 4, "max_running": 3, "max_gpu_seconds": 100.5}, set(), None),
        ({"max_queued": 3}, {"queued"}, None),  # its queued ones go on
        ({"max_running": 2}, {"running"}, "Engines have 2 of its client's workflows"),
        (
            {"max_running": 2, "max_gpu_seconds": 90.5},
            {"running", "gpu_seconds"},
            "used 100 of 90.5 GPU-seconds",
        ),
    ],
)
def test_a_client_waits_at_a_limit_of_what_runs(
    limits: dict[str, Any], reached: set[str], because: str | None
) -> None:
    use = replace(USE, **limits)
    assert use.reached == reached
    assert (use.waits_because is None) if because is None else (because in str(use.waits_because))


def test_who_has_used_the_day_goes_on_at_its_end() -> None:
    use = replace(USE, max_gpu_seconds=100.0)
    assert str(use.waits_because).endswith("It goes on at midnight UTC.")
    assert use.goes_on_in_ms(NOON) == DAY_MS - NOON
    assert use.goes_on_in_ms(2 * DAY_MS) == 0
    assert replace(USE, max_running=2).goes_on_in_ms(NOON) is None


def test_a_day_ends_at_midnight() -> None:
    assert (day_end(0), day_end(NOON), day_end(DAY_MS)) == (DAY_MS, DAY_MS, 2 * DAY_MS)


def test_an_attempt_counts_what_was_measured_else_the_time_that_it_ran() -> None:
    waiting = queued(queued_event())
    claim = JobClaimed(job_id=waiting.id, at=500, attempt=1, engine=EngineId("e"), prompt_id=new_prompt_id())
    at_engine = evolve(waiting, claim)
    runs = evolve(at_engine, started(at_engine, 1_000))
    end = completed(runs, 3_500)
    assert gpu_seconds_of(runs, end) == 2.5
    assert gpu_seconds_of(runs, replace(end, gpu_use=GpuUse(seconds=0.5))) == 0.5
    assert gpu_seconds_of(runs, replace(end, gpu_use=GpuUse(peak_bytes=1))) == 2.5
    assert gpu_seconds_of(runs, replace(end, at=500)) == 0
    assert gpu_seconds_of(at_engine, end) == 0
