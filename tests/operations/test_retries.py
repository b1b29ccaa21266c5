"""Retries, deadlines, attempts, memory and foreign prompts, through the registry and a real engine."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from comfy_mcp.domain.access import Right
from comfy_mcp.domain.errors import BridgeError, Conflict, ErrorCode, InvalidInput
from comfy_mcp.domain.events import FailureKind, JobClaimed, JobFailed, JobFailure
from comfy_mcp.domain.ids import ClientId, EngineId, JobId, PromptId
from comfy_mcp.domain.job import Job, evolve, queued
from comfy_mcp.driving.engines import EnginePrompt
from comfy_mcp.embedded import EmbeddedEngine
from comfy_mcp.operations.context import Caller
from comfy_mcp.operations.views import workflow_result
from comfy_mcp.operations.workflows import FOREIGN_SHOWN, foreign_before
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import Settings
from comfy_mcp.store import Store
from tests.operations.conftest import CALLER, Bench
from tests.support import graphs
from tests.support.jobs import queued_event


def out_of_memory(*, until_freed: bool) -> dict[str, Any]:
    graph = graphs.failing("Allocation on device 0 would exceed allowed memory.\nStatistics follow")
    graph["3"]["inputs"] |= {"exception_type": "torch.OutOfMemoryError", "until_freed": until_freed}
    return graph


async def ended(call: Bench, submitted: Any, **arguments: Any) -> Any:
    return await call("wait_for_workflow", workflow_id=submitted.workflow_id, **arguments)


async def status(call: Bench, workflow_id: str) -> Any:
    return await call("workflow_status", workflow_id=workflow_id, attempts=True)


# ----------------------------------------------------------------------------------------------- retry


async def test_a_failed_workflow_is_retried_as_a_new_one_that_names_it(call: Bench) -> None:
    first = await call(
        "submit_workflow",
        workflow=graphs.failing(),
        priority="high",
        queue_timeout_s=600,
        run_timeout_s=300.5,
    )
    failed = await ended(call, first)
    assert f'retry_workflow(workflow_id="{first.workflow_id}")' not in failed.next_step  # it would fail again

    retry = await call("retry_workflow", workflow_id=first.workflow_id)
    assert retry.workflow_id != first.workflow_id
    assert (retry.retry_of, retry.status, retry.queue_position) == (first.workflow_id, "queued", 1)
    state = await ended(call, retry)

    assert (state.status, state.retry_of, state.priority) == ("failed", first.workflow_id, "high")
    assert state.client == "tester"
    old = await call.services.store.get_job(first.workflow_id)
    new = await call.services.store.get_job(retry.workflow_id)
    assert old is not None
    assert new is not None
    assert (new.queue_timeout_ms, new.run_timeout_ms) == (600_000, 300_500)
    assert await call.services.store.get_graph(new.id) == await call.services.store.get_graph(old.id)
    assert old.status.value == "failed"
    tried = (await status(call, retry.workflow_id)).attempts
    assert [(each.workflow_id, each.attempt, each.outcome, each.reason) for each in tried] == [
        (first.workflow_id, 1, "failed", "RuntimeError: boom"),
        (retry.workflow_id, 1, "failed", "RuntimeError: boom"),
    ]
    assert tried[0].prompt_id != tried[1].prompt_id
    assert tried[1].claimed_time <= tried[1].end_time


async def test_what_was_retried_names_its_newest_retry_and_can_be_left_out_of_the_list(call: Bench) -> None:
    first = await call("submit_workflow", workflow=graphs.failing())
    other = await call("submit_workflow", workflow=graphs.failing())
    assert (await ended(call, first)).retried_by is None
    await ended(call, other)
    await ended(call, await call("retry_workflow", workflow_id=first.workflow_id))
    newest = await call("retry_workflow", workflow_id=first.workflow_id)
    state = await call("workflow_status", workflow_id=first.workflow_id)
    assert (state.status, state.retried_by) == ("failed", newest.workflow_id)
    assert state.next_step == f'Retried: call workflow_status(workflow_id="{newest.workflow_id}").'
    assert (await ended(call, newest)).retried_by is None

    async def listed(**arguments: Any) -> set[str]:
        found = await call("list_workflows", status="failed", **arguments)
        return {item.workflow_id for item in found.workflows}

    assert await listed(retried=True) == {first.workflow_id}
    assert await listed() - await listed(retried=False) == {first.workflow_id}
    assert other.workflow_id in await listed(retried=False)


async def test_a_retry_under_one_key_is_one_retry_and_the_key_is_the_caller_s(
    call_without_engine: Bench,
) -> None:
    call = call_without_engine
    jobs = [await call("submit_workflow", workflow=graphs.picture()) for _ in range(2)]
    for job in jobs:
        await call("cancel_workflow", workflow_id=job.workflow_id)
    first, second = (job.workflow_id for job in jobs)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(call("retry_workflow", workflow_id=first, idempotency_key="again"))
            for _ in range(10)
        ]
    (one,) = {task.result().workflow_id for task in tasks}
    with pytest.raises(Conflict) as caught:
        await call("retry_workflow", workflow_id=second, idempotencyKey="again")
    assert caught.value.code is ErrorCode.IDEMPOTENCY_MISMATCH
    with pytest.raises(Conflict):
        await call("submit_workflow", workflow=graphs.picture(), idempotency_key="again")
    admin = Bench(call.services, Caller(client=ClientId("boss"), surface="test"))
    theirs = await admin("retry_workflow", workflow_id=second, idempotency_key="again")
    assert theirs.workflow_id != one
    assert (await call("workflow_status", workflow_id=theirs.workflow_id)).client == CALLER.client
    assert len((await call("list_workflows")).workflows) == 4


async def test_a_cancelled_workflow_is_retried_too(call_without_engine: Bench) -> None:
    call = call_without_engine
    first = await call("submit_workflow", workflow=graphs.picture())
    await call("cancel_workflow", workflow_id=first.workflow_id)
    retry = await call("retry_workflow", workflow_id=first.workflow_id)
    assert "waits until one answers" in retry.warnings[0]
    state = await call("workflow_status", workflow_id=retry.workflow_id)
    assert (state.status, state.retry_of, state.attempts) == ("queued", first.workflow_id, None)
    assert (await status(call, retry.workflow_id)).attempts == []


async def test_what_waits_or_has_completed_is_not_retried(call: Bench) -> None:
    running = await call("submit_workflow", workflow=graphs.slow())
    done = await call("submit_workflow", workflow=graphs.picture(), priority="low")
    with pytest.raises(Conflict, match=r"only failed or cancelled workflows") as caught:
        await call("retry_workflow", workflow_id=running.workflow_id)
    assert caught.value.code is ErrorCode.NOT_RETRYABLE
    assert "wait_for_workflow" in caught.value.next_step
    await call("cancel_workflow", workflow_id=running.workflow_id)
    await ended(call, done)
    with pytest.raises(Conflict, match="is completed") as caught:
        await call("retry_workflow", workflow_id=done.workflow_id)
    assert "Submit the graph again" in caught.value.next_step
    assert caught.value.details == {"currentStatus": "completed"}


async def test_what_a_caller_may_not_see_it_can_not_retry_and_an_admin_s_retry_stays_its_owner_s(
    call_without_engine: Bench,
) -> None:
    call = call_without_engine
    mine = await call("submit_workflow", workflow=graphs.picture())
    await call("cancel_workflow", workflow_id=mine.workflow_id)
    rights = frozenset({Right.READ, Right.SUBMIT})
    stranger = Bench(call.services, Caller(client=ClientId("other"), surface="test", rights=rights))
    for workflow_id in (mine.workflow_id, "nope"):
        with pytest.raises(BridgeError) as caught:
            await stranger("retry_workflow", workflow_id=workflow_id)
        assert caught.value.code is ErrorCode.WORKFLOW_NOT_FOUND
    admin = Bench(call.services, Caller(client=ClientId("boss"), surface="test"))
    retry = await admin("retry_workflow", workflow_id=mine.workflow_id)
    assert (await call("workflow_status", workflow_id=retry.workflow_id)).client == CALLER.client


async def test_a_graph_that_the_engine_would_refuse_now_is_refused_at_the_retry(
    settings: Settings, call_without_engine: Bench
) -> None:
    submitted = await call_without_engine(
        "submit_workflow", workflow={"1": {"class_type": "GoneNode", "inputs": {}}}
    )
    await call_without_engine("cancel_workflow", workflow_id=submitted.workflow_id)
    async with open_runtime(settings, drive=False) as services:
        call = Bench(services, CALLER)
        with pytest.raises(InvalidInput, match="GoneNode"):
            await call("retry_workflow", workflow_id=submitted.workflow_id)
        assert len((await call("list_workflows")).workflows) == 1


async def test_the_list_of_failures_shows_the_cause_and_can_be_narrowed_to_a_kind(call: Bench) -> None:
    broken = await call("submit_workflow", workflow=graphs.failing())
    await ended(call, await call("submit_workflow", workflow=graphs.picture()))
    await ended(call, broken)
    listed = await call("list_workflows", status="failed")
    (item,) = listed.workflows
    assert (item.workflow_id, item.failure.kind) == (broken.workflow_id, "node_error")
    assert f"{broken.workflow_id} failed (node_error)" in listed.text()
    assert (await call("list_workflows", failureKind="node_error")).workflows == [item]
    assert (await call("list_workflows", failure_kind="oom")).text() == "No workflows."


# -------------------------------------------------------------------------------------------- deadlines


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


# ----------------------------------------------------------------------------------------------- memory


async def test_a_workflow_that_runs_out_of_memory_gets_its_picture_after_the_engine_has_freed_some(
    call: Bench,
) -> None:
    submitted = await call("submit_workflow", workflow=out_of_memory(until_freed=True))
    state = await ended(call, submitted)
    assert (state.status, state.attempt) == ("completed", 2)
    assert len(state.outputs) == 1
    tried = (await status(call, submitted.workflow_id)).attempts
    assert [each.outcome for each in tried] == ["requeued", "completed"]
    assert "ran out of memory" in tried[0].reason
    assert "Allocation on device" in tried[0].reason


async def test_a_workflow_that_runs_out_of_memory_twice_fails_with_the_facts(call: Bench) -> None:
    submitted = await call("submit_workflow", workflow=out_of_memory(until_freed=False))
    state = await ended(call, submitted)
    assert (state.status, state.attempt, state.failure.kind) == ("failed", 2, "oom")
    assert state.failure.node_id == "3"
    assert state.error.startswith("OutOfMemoryError: Allocation on device 0")
    assert "asked to free memory" in state.error
    assert "smaller" in state.next_step


# ---------------------------------------------------------------------------------------------- foreign


@pytest.fixture
async def somebody(engine: EmbeddedEngine) -> AsyncIterator["Somebody"]:
    async with aiohttp.ClientSession() as http:
        yield Somebody(engine, http)


class Somebody:
    """A person at ComfyUI itself."""

    def __init__(self, engine: EmbeddedEngine, http: aiohttp.ClientSession) -> None:
        self.engine = engine
        self.http = http

    async def queue(self, graph: dict[str, Any]) -> str:
        prompt_id = str(uuid.uuid4())
        body = {"prompt": graph, "prompt_id": prompt_id}
        async with self.http.post(f"{self.engine.url}/prompt", json=body) as answer:
            assert answer.status == 200, await answer.text()
        return prompt_id

    async def stop(self, prompt_id: str) -> None:
        async with self.http.post(f"{self.engine.url}/interrupt", json={"prompt_id": prompt_id}) as answer:
            assert answer.status == 200


async def foreign_count(engine: EmbeddedEngine) -> int:
    async with aiohttp.ClientSession() as http, http.get(f"{engine.url}/prompt") as answer:
        return int(json.loads(await answer.text())["exec_info"]["queue_remaining"])


async def test_prompts_of_other_people_are_shown_counted_and_left_alone(
    settings: Settings, somebody: Somebody
) -> None:
    async with open_runtime(settings) as services:
        call = Bench(services, CALLER)
        theirs = await somebody.queue(graphs.slow())
        waiting = await somebody.queue(graphs.picture())
        ours = await call("submit_workflow", workflow=graphs.picture())
        seen = await call("queue")
        assert [(item.prompt_id, item.state) for item in seen.foreign] == [
            (theirs, "running"),
            (waiting, "pending"),
        ]
        assert {item.engine for item in seen.foreign} == {settings.engines[0].id}
        assert seen.foreign_count == 2
        assert "2 submitted in ComfyUI itself" in seen.text()
        (mine,) = seen.queued
        assert mine.workflow_id == ours.workflow_id
        assert (await call("workflow_status", workflow_id=ours.workflow_id)).status == "queued"
        await call("cancel_workflow", workflow_id=ours.workflow_id)
        after = await call("queue")
        assert [item.prompt_id for item in after.foreign] == [theirs, waiting]
        limited = Bench(
            services, Caller(client=ClientId("x"), surface="test", rights=frozenset({Right.READ}))
        )
        hidden = await limited("queue")
        assert (hidden.foreign, hidden.foreign_count) == ([], 2)
        await somebody.stop(theirs)


async def test_a_place_in_the_queue_counts_the_prompts_of_other_people(
    settings: Settings, somebody: Somebody
) -> None:
    async with open_runtime(settings) as services:
        call = Bench(services, CALLER)
        await ended(call, await call("submit_workflow", workflow=graphs.picture()))  # the engine is driven
        theirs = await somebody.queue(graphs.slow())
        await somebody.queue(graphs.picture())
        async with asyncio.timeout(20):
            while services.engines.foreign_ahead() != 2:
                await call("system_status")  # the engine's word is on its way
        submitted = await call("submit_workflow", workflow=graphs.picture())
        assert submitted.queue_position == 3
        state = await call("workflow_status", workflow_id=submitted.workflow_id)
        assert state.queue_position == 3
        (listed,) = (await call("queue")).queued
        assert listed.queue_position in {1, 3}
        await somebody.stop(theirs)


async def test_only_so_many_foreign_prompts_are_listed(settings: Settings, somebody: Somebody) -> None:
    theirs = await somebody.queue(graphs.slow())
    for _ in range(FOREIGN_SHOWN + 2):
        await somebody.queue(graphs.text())
    async with open_runtime(settings, drive=False) as services:
        seen = await Bench(services, CALLER)("queue")
    assert (len(seen.foreign), seen.foreign_count) == (FOREIGN_SHOWN, FOREIGN_SHOWN + 3)
    await somebody.stop(theirs)


async def test_an_engine_that_is_down_has_no_foreign_prompts_to_show(call_without_engine: Bench) -> None:
    seen = await call_without_engine("queue")
    assert (seen.foreign, seen.foreign_count) == ([], 0)


# ------------------------------------------------------------------------------------------- corner cases


class ForgetsGraphs:
    """A store that forgets a job between two looks at it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def get_graph(self, job_id: JobId) -> None:
        return None


async def test_a_workflow_that_is_forgotten_while_it_is_retried_is_not_found(
    call_without_engine: Bench,
) -> None:
    call = call_without_engine
    submitted = await call("submit_workflow", workflow=graphs.picture())
    await call("cancel_workflow", workflow_id=submitted.workflow_id)
    store: Any = ForgetsGraphs(call.services.store)
    forgetful = Bench(replace(call.services, store=store), CALLER)
    with pytest.raises(BridgeError) as caught:
        await forgetful("retry_workflow", workflow_id=submitted.workflow_id)
    assert caught.value.code is ErrorCode.WORKFLOW_NOT_FOUND


@pytest.mark.parametrize("kind", list(FailureKind))
def test_every_kind_of_failure_says_what_to_do_next(kind: FailureKind) -> None:
    event = queued_event()
    failure = JobFailure(kind=kind, message="No.")
    job = evolve(queued(event), JobFailed(job_id=event.job_id, at=2_000, attempt=0, failure=failure))
    said = workflow_result(job, ()).next_step
    assert said is not None
    retryable = kind not in {FailureKind.VALIDATION, FailureKind.NODE_ERROR, FailureKind.INTERNAL}
    assert (f'retry_workflow(workflow_id="{job.id}")' in said) == retryable


def at_the_engine(engine: str, prompt_id: str) -> Job:
    event = queued_event()
    claim = JobClaimed(
        job_id=event.job_id, at=2, attempt=1, engine=EngineId(engine), prompt_id=PromptId(prompt_id)
    )
    return evolve(queued(event), claim)


def test_foreign_prompts_count_only_in_front_of_a_job_that_an_engine_has() -> None:
    def prompts(*ids: str) -> list[EnginePrompt]:
        return [
            EnginePrompt(prompt_id=PromptId(each), running=place == 0, ours=each.startswith("ours"))
            for place, each in enumerate(ids)
        ]

    engines = {
        EngineId("busy"): prompts("x", "ours 1", "y", "ours 2", "z"),
        EngineId("free"): prompts("ours 3", "w"),
    }
    waiting = queued(queued_event())
    assert foreign_before(waiting, engines) == 1
    assert foreign_before(waiting, {}) == 0
    assert foreign_before(at_the_engine("busy", "ours 1"), engines) == 1
    assert foreign_before(at_the_engine("busy", "ours 2"), engines) == 2
    assert foreign_before(at_the_engine("busy", "not there yet"), engines) == 0
    assert foreign_before(at_the_engine("down", "ours 9"), engines) == 0
