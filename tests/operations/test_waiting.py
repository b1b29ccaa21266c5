"""Why a queued workflow waits for its turn: counts of what is ahead of it, and when it may start."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from comfy_mcp.domain.events import Priority
from comfy_mcp.domain.ids import ClientId, EngineId, JobId, PromptId
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.domain.quotas import ClientUse
from comfy_mcp.domain.time_left import in_range
from comfy_mcp.operations.brief import brief
from comfy_mcp.operations.context import Caller
from comfy_mcp.operations.shapes import about
from comfy_mcp.operations.waiting import Turns
from comfy_mcp.store import QueueView
from tests.operations.conftest import Bench
from tests.support import graphs

ME, BEN = ClientId("me"), ClientId("ben")
E, F = EngineId("e"), EngineId("f")


def job(name: str, client: ClientId, *, runs: bool = False, **more: Any) -> Job:
    known = Job(
        id=JobId(name), client=client, lane="local", priority=Priority.NORMAL,
        status=JobStatus.RUNNING if runs else JobStatus.QUEUED, created_at=0, node_count=1,
    )  # fmt: skip
    return replace(known, **more)


def turns(*jobs: Job, pace_ms: float | None = None) -> Turns:
    running = tuple(each for each in jobs if each.status is JobStatus.RUNNING)
    queued = tuple(each for each in jobs if each.status is JobStatus.QUEUED)
    view = QueueView(running=running, queued=queued, blocked=(), counts={})
    return Turns(queue=view, client=ME, now=1000, pace_ms=lambda _: pace_ms)


RUNS = job("a", BEN, runs=True, engine=E, eta_ms=20_000, progress_at=1000)
MINE, LAST = job("b", ME), job("c", ME)


def test_what_is_ahead_is_counted_by_whose_it_is() -> None:
    why = turns(RUNS, MINE, LAST).why(LAST, 2)
    assert why is not None
    assert (why.reason, why.yours, why.others, why.foreign) == ("turn", 1, 1, 2)
    assert why.message.startswith("Ahead of it: 1 yours, 1 of others, 2 given to ComfyUI itself; ")


def test_the_start_is_estimated_by_what_is_ahead() -> None:
    known = turns(RUNS, MINE, LAST, pace_ms=10_000.0).why(LAST, 0)
    assert known is not None
    assert known.start_ms == 30_000
    assert known.message.endswith("; it may start in about 30 s (22 to 42).")


@pytest.mark.parametrize(
    ("left_s", "said"),
    [
        (0.2, "about 1 s"), (40, "about 40 s (30 to 56)"), (119, "about 119 s (89 to 167)"),
        (760, "about 13 min (10 to 18)"), (8889, "about 2.5 h (1.9 to 3.5)"),
    ],
)  # fmt: skip
def test_a_long_time_is_said_in_minutes_or_hours(left_s: float, said: str) -> None:
    left_ms = round(1000 * left_s)
    assert about(left_ms, in_range(left_ms)) == said
    assert about(left_ms) == said.partition(" (")[0]


@pytest.mark.parametrize(
    ("ahead", "pace_ms", "foreign", "start_ms"),
    [
        ([RUNS, MINE], None, 0, 40_000),  # of which nobody knows takes as long as the others
        ([RUNS, MINE], 10_000.0, 2, 60_000),
        ([replace(RUNS, eta_ms=None)], 1.0, 0, None),
        ([RUNS, replace(RUNS, id=JobId("d"), engine=F)], None, 0, 20_000),  # two engines share it
        ([RUNS, replace(RUNS, id=JobId("d"), engine=F), MINE], 10_000.0, 0, 25_000),
    ],
)
def test_the_start_where_some_of_it_is_unknown_and_on_several_engines(
    ahead: list[Job], pace_ms: float | None, foreign: int, start_ms: int | None
) -> None:
    why = turns(*ahead, LAST, pace_ms=pace_ms).why(LAST, foreign)
    assert why is not None
    assert why.start_ms == start_ms


def test_one_that_an_engine_has_waits_for_that_engine_and_its_lane_only() -> None:
    other = job("x", ME, runs=True, engine=F)
    cloud = job("y", ME, runs=True, lane="cloud")
    here = replace(LAST, engine=E)
    why = turns(RUNS, other, cloud, here).why(here, 0)
    assert why is not None
    assert (why.yours, why.others) == (0, 1)


def test_nothing_is_said_where_nothing_is_known_to_be_ahead() -> None:
    assert turns(LAST).why(LAST, 0) is None
    assert turns(RUNS, MINE).why(LAST, 0) is None  # beyond what was looked through


async def test_state_wait_list_and_queue_say_it(call: Bench) -> None:
    ben = Bench(call.services, Caller(client=BEN, surface="test"))
    first = (await ben("submit_workflow", workflow=graphs.slow())).workflow_id
    async with asyncio.timeout(20):
        while (await call("workflow_status", workflow_id=first)).status != "running":
            await asyncio.sleep(0)
    mine = [(await call("submit_workflow", workflow=graphs.slow())).workflow_id for _ in range(3)]
    state = await call("workflow_status", workflow_id=mine[2])
    assert (state.waiting_for.yours, state.waiting_for.others) == (2, 1)
    assert "Ahead of it: 2 yours, 1 of others" in state.text()
    waited = await call("wait_for_workflow", workflow_id=mine[2], timeout_s=0)
    assert (waited.waiting_for.yours, waited.waiting_for.others) == (2, 1)
    listed = await call("list_workflows", limit=1)
    assert "Ahead of it: 2 yours" in listed.text()
    (entry,) = brief(listed)["workflows"]
    assert entry["waitingFor"] == {"reason": "turn", "yours": 2, "others": 1, "foreign": 0}
    queued = (await call("queue")).queued
    assert [each.waiting_for.yours for each in queued] == [0, 1, 2]
    several = await call("workflow_status", workflow_id=mine)
    assert several.waiting_for.yours == 0  # that of the first
    await call("cancel_workflow", workflow_id="mine")
    await ben("cancel_workflow", workflow_id=first)


async def test_an_engine_that_is_down_is_said_instead(call_without_engine: Bench) -> None:
    call = call_without_engine
    job_id = (await call("submit_workflow", workflow=graphs.picture())).workflow_id
    async with asyncio.timeout(20):
        while (state := await call("workflow_status", workflow_id=job_id)).waiting_for is None:
            await asyncio.sleep(0)
    assert state.waiting_for.reason == "engine"
    assert "No ComfyUI answers" in state.text()
    (entry,) = brief(await call("list_workflows"))["workflows"]
    assert set(entry["waitingFor"]) == {"reason", "message"}


async def test_the_time_of_a_workflow_is_that_of_the_last_ones(call: Bench) -> None:
    done = await call("submit_workflow", workflow=graphs.slow(steps=1, step_ms=1))
    await call("wait_for_workflow", workflow_id=done.workflow_id, timeout_s=20)
    known = await call.services.store.get_job(JobId(done.workflow_id))
    assert known is not None
    expected = call.services.engines.pace_ms(known)
    assert expected is not None
    assert expected > 0
    assert call.services.engines.pace_ms(replace(known, shape="other")) is None


async def test_a_client_at_a_limit_is_told_so_and_sees_its_own_numbers(
    call_without_engine: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Bench(call_without_engine.services, Caller(client=ClientId("ann"), surface="test"))
    services = call.services
    monkeypatch.setattr(services.engines, "keeps_waiting", lambda _job: None)  # as if an engine were there
    await call("add_key", name="ann", max_running=1, max_queued=9)
    assert (await call_without_engine("queue")).quota is None
    first, second = [await call("submit_workflow", workflow=graphs.picture()) for _ in range(2)]
    assert (await call("workflow_status", workflow_id=first.workflow_id)).waiting_for is None
    lease = await services.store.acquire_lease(EngineId("e"), "test", 60)
    assert lease is not None
    await services.store.claim_next(lease, prompt_id=PromptId("p"), now=services.now_ms())
    waiting = (await call("workflow_status", workflow_id=second.workflow_id)).waiting_for
    assert (waiting.reason, waiting.start_ms) == ("quota", None)
    assert waiting.message.startswith("Engines have 1 of its client's workflows, the limit of its key.")
    shown = await call("queue")
    assert shown.queued[1].waiting_for == waiting
    assert shown.queued[0].waiting_for is None  # an engine has it
    quota = shown.quota
    assert (quota.queued, quota.max_queued, quota.running, quota.max_running) == (2, 9, 1, 1)
    assert (quota.gpu_seconds, quota.max_gpu_seconds) == (0, None)


def test_who_has_used_the_day_is_told_when_it_ends() -> None:
    use = ClientUse(client=ME, queued=1, running=0, gpu_seconds=7.0, day_ends=86_400_000, max_gpu_seconds=5.0)
    why = replace(turns(MINE), use={ME: use}).why(MINE, 0)
    assert why is not None
    assert (why.reason, why.start_ms) == ("quota", 86_399_000)
    assert why.message == "Its key has used 7 of 5 GPU-seconds today. It goes on at midnight UTC."
