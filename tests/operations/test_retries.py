"""Retries, and a second try after memory ran out, through the registry and a real engine."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from comfy_mcp.domain.access import Right
from comfy_mcp.domain.errors import BridgeError, Conflict, ErrorCode, InvalidInput
from comfy_mcp.domain.events import FailureKind, JobFailed, JobFailure
from comfy_mcp.domain.ids import ClientId, JobId
from comfy_mcp.domain.transitions import evolve, queued
from comfy_mcp.operations.context import Caller
from comfy_mcp.operations.views import workflow_result
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
    assert "Until one does, workflows wait" in retry.warnings[0]
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
    assert 'submit_workflow(workflow="job:' in caught.value.next_step
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
    assert f"{broken.workflow_id} ({broken.name}) failed (node_error)" in listed.text()
    assert (await call("list_workflows", failureKind="node_error")).workflows == [item]
    assert (await call("list_workflows", failure_kind="oom")).text() == "No workflows."


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
