"""`gpu: "auto"`: when a workflow goes to a service, and what keeps it on the engines."""

import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from comfy_mcp.domain.access import Right
from comfy_mcp.domain.errors import BridgeError, StoreFault
from comfy_mcp.domain.ids import EngineId, JobId
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.domain.spending import MILLION
from comfy_mcp.domain.transitions import queued
from comfy_mcp.driving.lanes import Lanes
from comfy_mcp.embedded import EmbeddedEngine
from comfy_mcp.operations import spilling, submitting
from comfy_mcp.operations.context import Caller
from comfy_mcp.operations.spilling import FOR_EVER, expected_wait_ms
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import load_settings
from comfy_mcp.store import QueueView, Store
from tests.operations.conftest import CALLER, Bench
from tests.support import graphs, jobs

LANE = "comfy-api-v2"
SERVICE = {"comfy_api_url": "http://127.0.0.1:9"}
MONEY = {"cloud_price": 3.6, "cloud_budget": 5.0, "cloud_budget_job": 2.0}
PNG = graphs.own_file(random.Random(1), side=8)


async def long_wait(*_given: Any) -> float:
    return 400_000.0


@pytest.fixture
async def opened(
    tmp_path: Path, engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[..., Any]]:
    """Opens a bridge whose service seems well, and whose own engine is busy for long."""
    monkeypatch.setattr(spilling, "expected_wait_ms", long_wait)
    monkeypatch.setattr(Lanes, "trouble", lambda *_given: None)
    stack: list[Any] = []

    async def open_(**settings: Any) -> Bench:
        given: dict[str, Any] = {"engine_urls": engine.url, "state_dir": tmp_path / "state"}
        runtime = open_runtime(load_settings(**(given | settings)))
        stack.append(runtime)
        return Bench(await runtime.__aenter__(), CALLER)

    yield open_
    for runtime in stack:
        await runtime.__aexit__(None, None, None)


async def ran_there(call: Bench, graph: dict[str, Any], lane: str = LANE) -> None:
    """Such a workflow was completed there before."""
    local = await call("submit_workflow", workflow=graph)
    known = await call.services.store.get_job(JobId(local.workflow_id))
    assert known is not None
    store: Store = call.services.store
    now = call.services.now_ms()  # an older one would be forgotten
    event = replace(jobs.queued_event(lane="before", at=now), shape=known.shape)
    lease = await store.acquire_lease(EngineId("before"), "me", 60)
    assert lease is not None
    await store.add_job(replace(event, lane=lane), jobs.GRAPH, max_queued=100)
    claim = await store.claim_next(lease, prompt_id=jobs.new_prompt_id(), now=now, lane=lane)
    assert claim is not None
    await store.record(lease, claim.job.id, [jobs.completed(claim.job, at=now)])
    await call("wait_for_workflow", workflow_id=local.workflow_id, timeout_s=20)


async def submitted(call: Bench, graph: dict[str, Any], **more: Any) -> tuple[Job, str]:
    answer = await call("submit_workflow", workflow=graph, gpu="auto", **more)
    job = await call.services.store.get_job(JobId((answer.workflow_ids or [answer.workflow_id])[-1]))
    assert job is not None
    return job, " ".join(answer.warnings)


async def test_it_goes_where_such_a_workflow_ran_before_and_reserves_what_it_may_cost(opened: Any) -> None:
    call = await opened(**SERVICE, **MONEY)
    await ran_there(call, graphs.picture())
    job, said = await submitted(call, graphs.picture())
    assert job.lane == LANE
    assert said == f"gpu='auto' sends it to {LANE}: here it would wait about 7 min."
    assert job.spend is not None
    assert (job.spend.reserved, job.spend.budget) == (2 * MILLION, 5 * MILLION)
    assert job.run_timeout_ms == 2_000_000
    state = await call("workflow_status", workflow_id=job.id)
    assert state.cost == 2.0
    status = await call("system_status")
    assert (status.spending.today, status.spending.budget) == (2.0, 5.0)
    assert "Services today: 2 of 5" in status.text()


async def test_beyond_the_budget_it_stays_and_says_so(opened: Any) -> None:
    call = await opened(**SERVICE, **MONEY)
    await ran_there(call, graphs.picture())
    lanes = [(await submitted(call, graphs.picture()))[0].lane for _ in range(2)]
    job, said = await submitted(call, graphs.picture())
    assert (lanes, job.lane, job.spend) == ([LANE, LANE], "local", None)
    assert "budget for services has 1 of 5 left; one workflow reserves 2" in said
    assert list(job.warnings)[-1] in said


async def test_what_is_sent_there_by_name_is_refused_beyond_the_budget(opened: Any) -> None:
    call = await opened(**SERVICE, **MONEY)
    for _ in range(2):
        await call("submit_workflow", workflow=graphs.picture(), gpu=LANE)
    with pytest.raises(BridgeError) as caught:
        await call("submit_workflow", workflow=graphs.picture(), gpu=LANE)
    assert (caught.value.code.value, caught.value.retryable) == ("budget_spent", True)


async def test_several_of_one_submit_go_together(opened: Any) -> None:
    call = await opened(**SERVICE, **MONEY)
    await ran_there(call, graphs.picture())
    job, _ = await submitted(call, graphs.picture(), matrix={"1.color": [1, 2]})
    assert job.lane == LANE
    job, said = await submitted(call, graphs.picture(), matrix={"1.color": [1, 2]})
    assert job.lane == "local"
    assert "budget" in said


@pytest.mark.parametrize(
    ("settings", "more", "why"),
    [
        (MONEY, {}, "no service is configured"),
        (SERVICE, {}, "no budget for services (COMFY_BRIDGE_CLOUD_BUDGET)"),
        (SERVICE | MONEY, {"rights": {Right.SUBMIT}}, "your key lacks the right 'spend'"),
        (SERVICE | MONEY, {"engine": True}, "it asks for an engine"),
        (SERVICE | MONEY, {"after": True}, "it waits for other workflows"),
    ],
)
async def test_what_never_goes(opened: Any, settings: Any, more: Any, why: str) -> None:
    call = await opened(**settings)
    arguments: dict[str, Any] = {}
    if "rights" in more:
        caller = Caller(client=CALLER.client, surface="test", rights=frozenset(more["rights"]))
        call = Bench(call.services, caller)
    if "engine" in more:
        arguments["engine"] = next(iter(call.services.engines.pool))
    if "after" in more:
        first = await call("submit_workflow", workflow=graphs.slow(steps=20))
        arguments["after"] = [first.workflow_id]
    job, said = await submitted(call, graphs.picture(), **arguments)
    assert job.lane == "local"
    assert said.startswith("gpu='auto' keeps it on the engines here: ")
    assert why in said


async def test_what_nobody_knows_to_run_there_stays(opened: Any) -> None:
    call = await opened(**SERVICE, **MONEY)
    job, said = await submitted(call, graphs.picture())
    assert job.lane == "local"
    assert f"Submit one with gpu='{LANE}' to find out" in said


async def test_partner_nodes_stay(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    call = await opened(**SERVICE, **MONEY)
    await ran_there(call, graphs.picture())
    monkeypatch.setattr(spilling, "partner_nodes", lambda *_given: ("one",))
    job, said = await submitted(call, graphs.picture())
    assert job.lane == "local"
    assert "partner nodes cost more than their time" in said


async def test_a_service_in_trouble_gets_nothing(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    call = await opened(**SERVICE, **MONEY)
    monkeypatch.setattr(Lanes, "trouble", lambda *_given: "It is down.")
    job, said = await submitted(call, graphs.picture())
    assert (job.lane, said) == ("local", "gpu='auto' keeps it on the engines here: It is down.")


@pytest.mark.parametrize(("wait_ms", "said"), [(300_000.0, ""), (None, "how long it waits is not known yet")])
async def test_a_short_wait_and_an_unknown_one_stay(
    opened: Any, monkeypatch: pytest.MonkeyPatch, wait_ms: float | None, said: str
) -> None:
    call = await opened(**SERVICE, **MONEY)
    await ran_there(call, graphs.picture())

    async def waits(*_given: Any) -> float | None:
        return wait_ms

    monkeypatch.setattr(spilling, "expected_wait_ms", waits)
    job, warned = await submitted(call, graphs.picture())
    assert job.lane == "local"
    assert said in warned
    assert bool(said) == bool(warned)


@pytest.mark.parametrize(("limit", "lane"), [(1, "local"), (10_000, LANE)])
async def test_a_file_that_the_service_does_not_take_stays(
    opened: Any, monkeypatch: pytest.MonkeyPatch, limit: int, lane: str
) -> None:
    call = await opened(**SERVICE, **MONEY)
    await ran_there(call, PNG)
    monkeypatch.setattr(Lanes, "largest_input", lambda *_given: limit)
    job, said = await submitted(call, PNG)
    assert job.lane == lane
    assert ("larger than the 1 bytes" in said) == (lane == "local")


async def test_a_store_that_fails_is_an_error_and_not_a_reason(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = await opened(**SERVICE, **MONEY)
    await ran_there(call, graphs.picture())

    async def broken(*_given: Any) -> Any:
        raise StoreFault("The disk is full.", next_step="")

    monkeypatch.setattr(submitting, "_submit_one", broken)
    with pytest.raises(StoreFault):
        await submitted(call, graphs.picture())


async def test_without_an_engine_that_takes_workflows_the_wait_has_no_end(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = await opened(**SERVICE, **MONEY)
    await ran_there(call, graphs.picture())
    monkeypatch.setattr(spilling, "expected_wait_ms", expected_wait_ms)
    (engine,) = call.services.engines.pool
    await call.services.engines.drain(engine, at=1)
    job, said = await submitted(call, graphs.picture())
    assert job.lane == LANE
    assert "no engine here takes workflows now" in said


async def test_a_dry_run_and_a_repeat_decide_nothing_new(opened: Any) -> None:
    call = await opened(**SERVICE, **MONEY)
    await ran_there(call, graphs.picture())
    graph = graphs.picture()
    assert (await call("submit_workflow", workflow=graph, gpu="auto", dry_run=True)).status == "not_queued"
    first = await call("submit_workflow", workflow=graph, gpu="auto", idempotency_key="k")
    again = await call("submit_workflow", workflow=graph, gpu="auto", idempotency_key="k")
    assert (again.workflow_id, again.warnings) == (first.workflow_id, first.warnings)
    assert (await call("system_status")).spending.today == 2.0


# ------------------------------------------------------------------------------------------ the expected wait

WAITS = queued(replace(jobs.queued_event(), shape="s"))
ELSEWHERE = replace(WAITS, lane=LANE)


def runs(left_ms: int | None, *, since: int | None = None) -> Job:
    return replace(WAITS, status=JobStatus.RUNNING, eta_ms=left_ms, progress_at=1_000, started_at=since)


@pytest.mark.parametrize(
    ("running", "waiting", "ahead", "pace_ms", "able", "foreign", "expected"),
    [
        ([], [], 0, None, 1, 0, 0.0),
        ([], [], 0, None, 0, 0, FOR_EVER),
        ([runs(5_000)], [], 0, None, 2, 0, 0.0),  # another engine is free
        ([runs(5_000)], [], 0, None, 1, 0, 5_000.0),
        ([runs(5_000)], [WAITS, WAITS], 2, 7_000.0, 1, 0, 19_000.0),
        ([runs(5_000)], [WAITS, WAITS], 1, 7_000.0, 1, 0, 12_000.0),  # one comes after it
        ([runs(5_000)], [WAITS, ELSEWHERE], 1, 7_000.0, 1, 0, 12_000.0),
        ([runs(None)], [WAITS], 1, None, 1, 0, None),
        ([runs(None)], [WAITS], 1, 6_000.0, 1, 0, 12_000.0),
        ([runs(8_000)], [WAITS], 1, None, 1, 2, 32_000.0),
        ([runs(5_000, since=400)], [WAITS], 1, None, 1, 0, 10_600.0),  # a whole one takes 5.6 s
        ([runs(8_000)], [], 9, None, 2, 0, 40_000.0),  # more wait than were looked at
    ],
)
async def test_the_expected_wait(
    running: list[Job],
    waiting: list[Job],
    ahead: int,
    pace_ms: float | None,
    able: int,
    foreign: int,
    expected: float | None,
) -> None:
    async def ahead_of(_job: Job, *, fair: bool) -> int:
        return ahead

    async def queue(_limit: int) -> QueueView:
        return QueueView(running=tuple(running), queued=tuple(waiting), blocked=(), counts={})

    services: Any = SimpleNamespace(
        engines=SimpleNamespace(able=able, pace_ms=lambda _job: pace_ms, foreign_ahead=lambda: foreign),
        store=SimpleNamespace(ahead_of=ahead_of, queue=queue),
        settings=SimpleNamespace(fair_share=True),
        now_ms=lambda: 1_000,
    )
    assert await expected_wait_ms(services, WAITS) == expected
