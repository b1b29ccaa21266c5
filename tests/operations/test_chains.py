"""Workflows that wait for others and take their outputs."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from comfy_mcp.domain.access import DEFAULT_KEY_RIGHTS
from comfy_mcp.domain.chains import Parent
from comfy_mcp.domain.errors import Conflict, ErrorCode, InvalidInput, LimitExceeded, NotFound
from comfy_mcp.domain.ids import ClientId, JobId
from comfy_mcp.operations.chains import parents_again
from comfy_mcp.operations.context import Caller, OperationContext
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import Settings
from tests.operations.conftest import CALLER, Bench
from tests.support import graphs

STRANGER = Caller(client=ClientId("stranger"), surface="test", rights=DEFAULT_KEY_RIGHTS)


def loading(image: object, prefix: str = "chained") -> dict[str, Any]:
    """A graph that saves the picture that it loads."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": image}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}},
    }


async def queued(call: Bench, graph: object, **options: Any) -> str:
    return str((await call("submit_workflow", workflow=graph, **options)).workflow_id)


async def ended(call: Bench, workflow_id: str) -> Any:
    return await call("wait_for_workflow", workflow_id=workflow_id)


def slow() -> dict[str, Any]:
    return graphs.slow(steps=5_000, step_ms=1)


async def test_a_workflow_takes_an_output_of_one_that_has_not_ended(call: Bench) -> None:
    parent = await queued(call, graphs.slow(steps=20, step_ms=1))
    submitted = await call("submit_workflow", workflow=loading({"$output": parent, "index": 0}))
    assert submitted.queue_position is None
    assert "waits for others" in submitted.text()
    state = await ended(call, submitted.workflow_id)
    assert (state.status, state.output_count, state.after) == ("completed", 1, [parent])


@pytest.mark.parametrize("spelling", ["output:{}", "{}", "comfy://outputs/{}"])
async def test_the_id_of_a_workflow_is_its_first_output(call: Bench, spelling: str) -> None:
    parent = await queued(call, slow())
    child = await queued(call, loading(spelling.format(parent)))
    assert (await call("workflow_status", workflow_id=child)).after == [parent]
    await call("cancel_workflow", workflow_id=parent)
    assert (await ended(call, child)).failure.kind == "parent_failed"


async def test_an_output_of_a_workflow_that_is_completed_is_taken_at_once(call: Bench) -> None:
    parent = await queued(call, graphs.picture())
    await ended(call, parent)
    submitted = await call("submit_workflow", workflow=loading({"$output": parent}))
    assert submitted.queue_position is not None
    state = await ended(call, submitted.workflow_id)
    assert (state.status, state.after) == ("completed", [])
    for wrong in ({"$output": parent, "index": 1}, f"output:{parent}#7"):
        with pytest.raises(InvalidInput, match="made 1 output"):
            await call("submit_workflow", workflow=loading(wrong))


async def test_inputs_name_outputs_too(call: Bench) -> None:
    parent = await queued(call, graphs.slow(steps=20, step_ms=1))
    inputs = {"image": {"$output": parent[:8]}, "scale": 2}
    child = await queued(call, "upscale", inputs=inputs)
    state = await ended(call, child)
    assert (state.status, state.after) == ("completed", [parent])
    matrix = {"image": [{"$output": parent}], "scale": [1, 2]}
    batch = await queued(call, "upscale", matrix=matrix)
    assert (await ended(call, batch)).output_count == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"$output": 7},
        {"$output": "no id!"},
        {"$output": "abcd", "index": -1},
        {"$output": "abcd", "index": True},
    ],
)
async def test_what_names_no_output_is_explained(call: Bench, wrong: object) -> None:
    with pytest.raises(InvalidInput, match=r"\$output names"):
        await call("submit_workflow", workflow=loading(wrong))
    with pytest.raises(InvalidInput, match=r"\$output names"):
        await call("submit_workflow", workflow="upscale", inputs={"image": wrong})


async def test_an_output_of_nothing_is_not_found(call: Bench) -> None:
    with pytest.raises(NotFound):
        await call("submit_workflow", workflow=loading({"$output": "abcdef01"}))
    with pytest.raises(NotFound):
        await call("submit_workflow", workflow=loading("bridge-files/job-abcdef01-0"))


async def test_a_workflow_waits_for_those_that_it_names_and_has_its_own_place(call: Bench) -> None:
    first = await queued(call, slow())
    second = await queued(call, slow())
    child = await queued(call, graphs.picture(), after=[first[:8], second])
    state = await call("workflow_status", workflow_id=child)
    assert (state.status, state.queue_position, state.after) == ("queued", None, [first, second])
    assert (state.waiting_for.reason, first[:8] in state.waiting_for.message) == ("parent", True)
    assert "Waits for the end of" in state.text()
    view = await call("queue")
    assert [each.workflow_id for each in view.blocked] == [child]
    assert child not in [each.workflow_id for each in view.queued]
    assert view.counts["blocked"] == 1
    assert "1 wait for others" in view.text()
    assert child in [each.workflow_id for each in (await call("list_workflows", status="queued")).workflows]
    assert (await call("system_status")).jobs["blocked"] == 1
    cancelled = await call("cancel_workflow", workflow_id=child)
    assert cancelled.status == "cancelled"
    await call("cancel_workflow", all="mine")


async def test_a_failed_parent_fails_its_children_with_the_cause(call: Bench) -> None:
    gate = await queued(call, slow())
    parent = await queued(call, graphs.failing("boom"), name="the bad one", after_any=[gate])
    child = await queued(call, graphs.picture(), after=[parent])
    grandchild = await queued(call, graphs.picture(), after=[child])
    await call("cancel_workflow", workflow_id=gate)
    states = [await ended(call, each) for each in (parent, child, grandchild)]
    assert [each.failure.kind for each in states] == ["node_error", "parent_failed", "parent_failed"]
    assert states[1].error == f"Workflow {parent} (the bad one), which this one waits for, failed."
    with pytest.raises(NotFound):
        await call("submit_workflow", workflow=graphs.picture(), after=["nope"])


async def test_a_chain_ends_with_its_first(call: Bench) -> None:
    chain = [await queued(call, slow(), name="first")]
    for _ in range(5):
        chain.append(await queued(call, graphs.picture(), after=[chain[-1]]))
    await call("cancel_workflow", workflow_id=chain[0], reason="enough")
    states = [await ended(call, each) for each in chain]
    assert [each.status for each in states] == ["cancelled", *["failed"] * 5]
    assert f"Workflow {chain[0]} (first), which this one waits for, was cancelled." in states[1].error
    assert "retry_workflow" in states[1].next_step


async def test_cancelling_all_of_a_chain_fails_none(call: Bench) -> None:
    first = await queued(call, slow())
    second = await queued(call, graphs.picture(), after=[first])
    third = await queued(call, graphs.picture(), after=[second])
    cancelled = await call("cancel_workflow", workflow_ids=[first, second, third])
    assert cancelled.cancelled == 3
    state = await ended(call, f"{first},{second},{third}")
    assert set(state.workflows.values()) == {"cancelled"}


async def test_one_that_runs_in_any_case_does(call: Bench) -> None:
    parent = await queued(call, slow())
    child = await queued(call, graphs.picture(), after_any=[parent])
    await call("cancel_workflow", workflow_id=parent)
    assert (await ended(call, child)).status == "completed"
    late = await queued(call, graphs.picture(), after_any=parent)
    assert (await ended(call, late)).status == "completed"


async def test_a_failed_parent_of_before_is_refused_with_what_to_do(call: Bench) -> None:
    parent = await queued(call, graphs.failing("boom"))
    await ended(call, parent)
    with pytest.raises(InvalidInput, match=f"workflow {parent} failed") as refused:
        await call("submit_workflow", workflow=graphs.picture(), after=[parent])
    assert "retry_workflow" in refused.value.next_step
    assert "after_any" in refused.value.next_step


async def test_a_batch_waits_and_is_waited_for(call: Bench) -> None:
    first = await call("submit_workflow", workflow=graphs.slow(steps=20, step_ms=1), variations=3)
    graph = graphs.slow(steps=1, step_ms=1)
    again: dict[str, Any] = {"workflow": graph, "variations": 2, "idempotency_key": "b"}
    second = await call("submit_workflow", **again, after=first.workflow_id)
    assert second.queue_position is None
    state = await ended(call, second.workflow_id)
    assert (state.status, state.after) == ("completed", first.workflow_ids)
    repeated = await call("submit_workflow", **again, after=first.workflow_id)
    assert (repeated.workflow_ids, repeated.queue_position) == (second.workflow_ids, None)
    with pytest.raises(Conflict):
        await call("submit_workflow", **again, after=second.workflow_id)


async def test_more_parents_than_one_can_wait_for_are_refused(call: Bench) -> None:
    many = [
        (await call("submit_workflow", workflow=graphs.slow(steps=1, step_ms=1), variations=33)).workflow_id
        for _ in range(2)
    ]
    with pytest.raises(LimitExceeded, match="66 others"):
        await call("submit_workflow", workflow=graphs.picture(), after=many)
    await call("cancel_workflow", all="mine")


async def test_a_retry_waits_for_the_retries_of_its_parents(call: Bench) -> None:
    parent = await queued(call, slow())
    child = await queued(call, loading({"$output": parent}))
    await call("cancel_workflow", workflow_id=parent)
    await ended(call, child)
    with pytest.raises(Conflict) as refused:
        await call("retry_workflow", workflow_id=child)
    assert f'retry_workflow(workflow_id="{parent}") first' in refused.value.next_step
    assert refused.value.code is ErrorCode.NOT_RETRYABLE
    again = (await call("retry_workflow", workflow_id=parent)).workflow_id
    child_again = (await call("retry_workflow", workflow_id=child)).workflow_id
    state = await call("workflow_status", workflow_id=child_again)
    assert state.after == [again]
    graph = (await call("workflow_graph", workflow_id=child_again)).graph
    assert graph["1"]["inputs"]["image"] == f"bridge-files/job-{again}-0"
    await call("cancel_workflow", all="mine")


async def test_a_retry_does_not_wait_for_a_parent_that_was_deleted(call: Bench) -> None:
    job = await call.services.store.get_job(JobId(await queued(call, graphs.picture())))
    assert job is not None
    orphan = replace(job, after=(Parent(id=JobId("gone")),))
    context = OperationContext(services=call.services, caller=CALLER)
    assert await parents_again(context, orphan) == ()


async def test_one_that_makes_too_few_outputs_fails_its_children(call: Bench) -> None:
    parent = await queued(call, graphs.slow(steps=20, step_ms=1))
    child = await queued(call, loading({"$output": parent, "index": 3}))
    state = await ended(call, child)
    assert (state.status, state.failure.kind) == ("failed", "parent_failed")
    assert "made 1 output(s), and this one takes number 4" in state.error


async def test_workflows_of_another_client_are_not_waited_for(call: Bench) -> None:
    parent = await queued(call, slow())
    stranger = Bench(call.services, STRANGER)
    for given in (
        {"workflow": graphs.picture(), "after": [parent]},
        {"workflow": loading({"$output": parent})},
    ):
        with pytest.raises(NotFound):
            await stranger("submit_workflow", **given)
    with pytest.raises(NotFound):
        await stranger("submit_workflow", workflow=loading(f"bridge-files/job-{parent}-0"))
    await call("cancel_workflow", workflow_id=parent)


async def test_those_that_wait_for_others_count_in_the_queue(settings: Settings) -> None:
    async with open_runtime(settings.model_copy(update={"max_queued": 2})) as services, asyncio.timeout(20):
        call = Bench(services, CALLER)
        parent = await queued(call, slow())
        while (await call("workflow_status", workflow_id=parent)).status != "running":
            await asyncio.sleep(0)
        for _ in range(2):
            await queued(call, graphs.picture(), after=[parent])
        with pytest.raises(LimitExceeded):
            await queued(call, graphs.picture(), after=[parent])
        await call("cancel_workflow", all="mine")


async def test_no_turn_of_others_is_lost_to_those_that_wait(call: Bench) -> None:
    """They stand behind nobody and nobody behind them until their parents have ended."""
    running = await queued(call, slow())
    async with asyncio.timeout(20):
        while (await call("workflow_status", workflow_id=running)).status != "running":
            await asyncio.sleep(0)
    children = [await queued(call, graphs.picture(), after=[running]) for _ in range(3)]
    other = await call("submit_workflow", workflow=graphs.slow(steps=1, step_ms=1))
    assert other.queue_position == 1
    await call("cancel_workflow", workflow_id=running)
    async with asyncio.timeout(20):
        assert (await ended(call, other.workflow_id)).status == "completed"
    assert {(await ended(call, each)).status for each in children} == {"failed"}
