"""Limits on queue time and run time, through the registry and a real engine."""

from typing import Any

import pytest

from comfy_mcp.domain.errors import Conflict, ErrorCode, InvalidInput
from comfy_mcp.embedded import EmbeddedEngine
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import Settings
from tests.operations.conftest import CALLER, Bench, foreign_count
from tests.support import graphs


async def ended(call: Bench, submitted: Any, **arguments: Any) -> Any:
    return await call("wait_for_workflow", workflow_id=submitted.workflow_id, **arguments)


async def status(call: Bench, workflow_id: str) -> Any:
    return await call("workflow_status", workflow_id=workflow_id, attempts=True)


async def test_a_run_beyond_its_timeout_ends_as_timeout_and_the_engine_has_stopped_it(
    call: Bench, engine: EmbeddedEngine
) -> None:
    submitted = await call("submit_workflow", workflow=graphs.slow(steps=5000), run_timeout_s=0.2)
    state = await ended(call, submitted)
    assert (state.status, state.failure.kind) == ("failed", "timeout")
    assert "0.2 s" in state.error
    assert "longer timeout" in state.next_step
    assert await foreign_count(engine) == 0


async def test_the_deadlines_are_shown_where_they_count(call_without_engine: Bench) -> None:
    call = call_without_engine
    submitted = await call("submit_workflow", workflow=graphs.picture(), queueTimeoutS=60, runTimeoutS=5)
    state = await call("workflow_status", workflow_id=submitted.workflow_id)
    assert state.queue_deadline == state.created_time + 60_000
    assert state.run_deadline is None
    assert "must start by 20" in state.text()
    assert state.model_dump(mode="json")["queueDeadline"] == state.queue_deadline


async def test_a_running_workflow_shows_until_when_it_may_run(call: Bench) -> None:
    running: list[Any] = []

    async def report(state: Any) -> None:
        if state.status == "running":
            running.append(state)

    submitted = await call("submit_workflow", workflow=graphs.slow(steps=3), run_timeout_s=60)
    await call("wait_for_workflow", report, workflow_id=submitted.workflow_id)
    assert running
    assert {state.run_deadline - state.start_time for state in running} == {60_000}
    assert "must end by 20" in running[0].text()


async def test_a_wait_beyond_its_timeout_ends_with_no_engine_at_all(call_without_engine: Bench) -> None:
    call = call_without_engine
    submitted = await call("submit_workflow", workflow=graphs.picture(), queue_timeout_s=0.001)
    state = await ended(call, submitted)
    assert (state.status, state.failure.kind, state.attempt) == ("failed", "timeout", 0)


async def test_without_a_word_the_settings_timeouts_count_and_their_limit_is_the_limit(
    settings: Settings,
) -> None:
    settings = settings.model_copy(update={"queue_timeout_s": 7.0, "run_timeout_s": 9.0})
    async with open_runtime(settings, drive=False) as services:
        call = Bench(services, CALLER)
        plain = await call("submit_workflow", workflow=graphs.picture())
        job = await services.store.get_job(plain.workflow_id)
        assert job is not None
        assert (job.queue_timeout_ms, job.run_timeout_ms) == (7_000, 9_000)
        with pytest.raises(InvalidInput, match=r"run_timeout_s is 700000; the maximum is 604800"):
            await call("submit_workflow", workflow=graphs.picture(), run_timeout_s=700_000)


@pytest.mark.parametrize("value", [0, -1, "soon", float("nan"), float("inf"), 1e300])
async def test_a_timeout_that_is_none_is_refused(call_without_engine: Bench, value: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        await call_without_engine("submit_workflow", workflow=graphs.picture(), queue_timeout_s=value)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


async def test_one_key_with_other_timeouts_is_another_submit(call_without_engine: Bench) -> None:
    call, graph = call_without_engine, graphs.picture()
    first = await call("submit_workflow", workflow=graph, idempotency_key="k", run_timeout_s=5)
    assert await call("submit_workflow", workflow=graph, idempotency_key="k", run_timeout_s=5) == first
    with pytest.raises(Conflict) as caught:
        await call("submit_workflow", workflow=graph, idempotency_key="k")
    assert caught.value.code is ErrorCode.IDEMPOTENCY_MISMATCH
