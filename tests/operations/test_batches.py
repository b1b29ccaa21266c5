"""Several workflows of one submit: one id, one state, one cancel."""

import asyncio
from typing import Any

import pytest

from comfy_mcp.domain.access import DEFAULT_KEY_RIGHTS
from comfy_mcp.domain.errors import Conflict, ErrorCode, InvalidInput, LimitExceeded, NotFound
from comfy_mcp.domain.ids import ClientId, PromptId
from comfy_mcp.operations import batches, cancelling, submitting
from comfy_mcp.operations.context import Caller
from comfy_mcp.operations.shapes import WorkflowResult
from comfy_mcp.places.comfyui.place import ComfyUIPlace
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import Settings
from comfy_mcp.store import JobQuery, Store
from tests.operations.conftest import CALLER, Bench
from tests.support import graphs

STRANGER = Caller(client=ClientId("stranger"), surface="test", rights=DEFAULT_KEY_RIGHTS)


def seeded(*, steps: int = 1, **options: Any) -> dict[str, Any]:
    return graphs.slow(steps=steps, step_ms=1, **options)


async def seeds(call: Bench, ids: list[str]) -> list[int]:
    found = [await call("workflow_graph", workflow_id=each) for each in ids]
    return [each.graph["1"]["inputs"]["seed"] for each in found]


async def test_variations_are_one_batch_with_one_id_and_one_state(call: Bench) -> None:
    graph = seeded()
    first = graph["1"]["inputs"]["seed"]
    submitted = await call("submit_workflow", workflow=graph, variations=3)
    assert len(submitted.workflow_ids) == 3
    assert submitted.workflow_id not in submitted.workflow_ids
    made = await seeds(call, submitted.workflow_ids)
    assert made == [made[0], made[0] + 1, made[0] + 2]
    assert first not in made
    state = await call("wait_for_workflow", workflow_id=submitted.workflow_id)
    assert (state.status, state.progress, state.output_count, len(state.outputs)) == (
        "completed",
        100.0,
        3,
        3,
    )
    assert list(state.workflows) == submitted.workflow_ids
    assert "view_output" in state.next_step
    assert "Of 3 workflows: 3 completed." in state.text()
    assert await call("workflow_status", workflow_id=submitted.workflow_id) == state


async def test_the_id_of_a_batch_may_be_shortened_and_is_in_the_list(call: Bench) -> None:
    submitted = await call("submit_workflow", workflow=seeded(), variations=2)
    batch, ids = submitted.workflow_id, submitted.workflow_ids
    state = await call("wait_for_workflow", workflow_id=batch[:8])
    assert (state.workflow_id, list(state.workflows), state.warnings) == (batch, ids, [])
    guessed = await call("workflow_status", workflow_id=batch[:4])
    assert guessed.workflow_id == batch
    assert "the only one that starts with it" in guessed.warnings[0]
    listed = (await call("list_workflows")).workflows
    assert {each.batch for each in listed} == {batch}
    assert f"batch {batch}" in (await call("list_workflows")).text()
    assert (await call("workflow_status", workflow_id=ids[0])).batch == batch


async def test_the_workflow_of_a_batch_is_that_of_its_first(call: Bench) -> None:
    submitted = await call("submit_workflow", workflow=seeded(), variations=2)
    first = await call("workflow_graph", workflow_id=submitted.workflow_ids[0])
    assert await call("workflow_graph", workflow_id=submitted.workflow_id) == first
    for name in (submitted.workflow_id, submitted.workflow_id[:8]):
        again = await call("submit_workflow", workflow=f"job:{name}")
        assert (await call("workflow_graph", workflow_id=again.workflow_id)).graph == first.graph


async def test_several_ids_are_waited_for_and_shown_together(call: Bench) -> None:
    batch = await call("submit_workflow", workflow=seeded(), variations=2)
    other = await call("submit_workflow", workflow=graphs.failing("boom"))
    both = [batch.workflow_id, other.workflow_id]
    state = await call("wait_for_workflow", workflow_ids=both)
    assert list(state.workflows) == [*batch.workflow_ids, other.workflow_id]
    assert (state.status, state.workflow_id) == ("failed", ",".join(both))
    assert "Of 3 workflows: 2 completed, 1 failed." in state.text()
    assert f'view_output(output_id="{",".join(batch.workflow_ids)}")' in state.next_step
    assert "retry_workflow" in state.next_step
    text = f" {both[0][:8]}, comfy://workflows/{both[1]}"
    assert (await call("workflow_status", workflow_id=text)).workflows == state.workflows
    with pytest.raises(NotFound):
        await call("wait_for_workflow", workflow_id=[*both, "nope"])
    with pytest.raises(InvalidInput):
        await call("wait_for_workflow", workflow_id=[both[0], "x" * 65])


async def test_several_ids_are_read_together(call: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not each by itself, with all of its outputs."""
    submitted = await call("submit_workflow", workflow=seeded(), variations=3)
    await call("wait_for_workflow", workflow_id=submitted.workflow_id)
    looks: list[JobQuery] = []
    read = Store.list_views

    async def counted(store: Store, query: JobQuery) -> Any:
        looks.append(query)
        return await read(store, query)

    monkeypatch.setattr(Store, "list_views", counted)
    given = [*submitted.workflow_ids, submitted.workflow_ids[0]]
    state = await call("workflow_status", workflow_id=given)
    assert list(state.workflows) == submitted.workflow_ids
    assert len(looks) == 1


async def test_ids_of_very_many_workflows_are_refused(call: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = await call("submit_workflow", workflow=seeded(), variations=3)
    monkeypatch.setattr(batches, "MOST", 2)
    with pytest.raises(LimitExceeded):
        await call("workflow_status", workflow_id=batch.workflow_ids)
    other = await call("submit_workflow", workflow=seeded())
    with pytest.raises(LimitExceeded):
        await call("workflow_status", workflow_id=[batch.workflow_id, other.workflow_id])


async def test_a_batch_is_shown_on_one_sheet_and_its_outputs_are_listed(call: Bench) -> None:
    submitted = await call("submit_workflow", workflow=seeded(), variations=3)
    await call("wait_for_workflow", workflow_id=submitted.workflow_id)
    view = await call("view_output", output_id=submitted.workflow_id)
    assert view.preview is not None
    assert len(view.outputs) == 3
    listed = await call("list_outputs", workflow_id=submitted.workflow_id)
    assert {each.output_id for each in listed.outputs} == {each.output_id for each in view.outputs}
    assert {each.workflow_id for each in listed.outputs} == set(submitted.workflow_ids)


async def test_a_dry_run_checks_every_variant(call: Bench) -> None:
    with pytest.raises(InvalidInput):
        await call("submit_workflow", workflow=seeded(), matrix={"1.sed": [1, 2]}, dry_run=True)


async def test_each_submit_with_variations_makes_new_pictures(call: Bench) -> None:
    """Of a graph, of a job, and of one variation alone: none is the answer of an earlier run."""
    graph = seeded()
    once = await call("submit_workflow", workflow=graph)
    given: list[Any] = [graph, graph, f"job:{once.workflow_id}"]
    made = await seeds(call, [once.workflow_id])
    for workflow, count in zip(given, (3, 1, 2), strict=True):
        submitted = await call("submit_workflow", workflow=workflow, variations=count)
        made += await seeds(call, submitted.workflow_ids)
    assert len(set(made)) == 7


async def test_a_seed_that_the_caller_sets_is_that_of_the_first_variation(call: Bench) -> None:
    own = seeded()["1"]["inputs"]["seed"]
    for inputs in ({"seed": own}, {"1.seed": 7}):
        submitted = await call("submit_workflow", workflow=seeded(), inputs=inputs, variations=3)
        (first,) = inputs.values()
        assert await seeds(call, submitted.workflow_ids) == [first, first + 1, first + 2]


async def test_the_values_of_a_matrix_are_run_with_the_same_new_seeds(call: Bench) -> None:
    submitted = await call("submit_workflow", workflow=seeded(), matrix={"1.steps": [1, 2]}, variations=2)
    first, second, *others = await seeds(call, submitted.workflow_ids)
    assert [first, second] == others
    assert first != second


async def test_variations_of_seeds_that_the_matrix_gives_are_refused(call: Bench) -> None:
    with pytest.raises(InvalidInput, match="matrix gives the seeds"):
        await call("submit_workflow", workflow=seeded(), matrix={"seed": [1, 2]}, variations=2)
    one = await call("submit_workflow", workflow=seeded(), matrix={"seed": [1, 2]}, variations=1)
    assert await seeds(call, one.workflow_ids) == [1, 2]


async def test_without_a_seed_there_is_nothing_to_vary(call: Bench) -> None:
    with pytest.raises(InvalidInput, match="no seed to vary"):
        await call("submit_workflow", workflow=graphs.picture(), variations=2)
    one = await call("submit_workflow", workflow=graphs.picture(), variations=1)
    assert len(one.workflow_ids) == 1


async def test_a_matrix_runs_every_combination(call: Bench) -> None:
    matrix = {"seed": [1, 2], "1.steps": [1, 2]}
    submitted = await call("submit_workflow", workflow=seeded(), matrix=matrix)
    assert len(submitted.workflow_ids) == 4
    assert await seeds(call, submitted.workflow_ids) == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("name", "expected"), [(None, ["a cat in oil", "a dog"]), ("pets", ["pets", "pets"])]
)
async def test_each_workflow_of_a_matrix_is_called_by_its_own_prompt(
    call: Bench, name: str | None, expected: list[str]
) -> None:
    matrix = {"1.value": ["a cat in oil", "a dog"]}
    submitted = await call("submit_workflow", workflow=graphs.text("a"), matrix=matrix, name=name)
    states = [await call("workflow_status", workflow_id=each) for each in submitted.workflow_ids]
    assert [each.name for each in states] == expected


async def test_a_wait_may_end_with_the_first(call: Bench) -> None:
    submitted = await call("submit_workflow", workflow=seeded(), matrix={"1.steps": [1, 5_000]})
    heard = []

    async def note(state: Any) -> None:
        heard.append(state.workflow_id)

    state = await call("wait_for_workflow", workflow_id=submitted.workflow_id, until="any", on_progress=note)
    first, second = state.workflows.values()
    slow = submitted.workflow_ids[1]
    assert f'1 of 2 ended. Call view_output(output_id="{submitted.workflow_ids[0]}")' in state.next_step
    assert f'wait_for_workflow(workflow_id="{slow}") for the rest' in state.next_step
    assert first == "completed"
    assert second in {"queued", "running"}
    assert (state.status, state.completion_time) == ("running", None)
    assert set(heard) == {submitted.workflow_id}
    short = await call("wait_for_workflow", workflow_id=submitted.workflow_id, timeout_s=0)
    assert short.status == "running"
    await call("cancel_workflow", workflow_id=submitted.workflow_id)


async def test_a_cancel_of_the_batch_ends_what_has_not_ended_and_says_how_many(call: Bench) -> None:
    submitted = await call("submit_workflow", workflow=seeded(steps=5_000), variations=4)
    cancelled = await call("cancel_workflow", workflow_id=submitted.workflow_id, reason="enough")
    assert (cancelled.cancelled, cancelled.stopping) == (4, 0)
    assert cancelled.text() == "4 workflow(s) cancelled."
    state = await call("wait_for_workflow", workflow_id=submitted.workflow_id)
    assert (state.status, list(state.workflows.values())) == ("cancelled", ["cancelled"] * 4)
    assert (await call("cancel_workflow", workflow_id=submitted.workflow_id)).cancelled == 0


async def test_a_batch_that_is_completed_can_not_be_cancelled(call: Bench) -> None:
    submitted = await call("submit_workflow", workflow=seeded(), variations=2)
    await call("wait_for_workflow", workflow_id=submitted.workflow_id)
    with pytest.raises(Conflict, match="cannot be cancelled") as refused:
        await call("cancel_workflow", workflow_id=submitted.workflow_id)
    assert "All have ended (2 completed)" in refused.value.next_step
    assert refused.value.details == {"currentStatus": "completed"}


async def test_all_of_ones_own_are_cancelled_and_nobody_elses(
    call: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancelling, "MINE_AT_ONCE", 2)
    stranger = Bench(call.services, STRANGER)
    await call("submit_workflow", workflow=seeded(steps=5_000), variations=3)
    other = await stranger("submit_workflow", workflow=seeded(steps=5_000))
    await call("submit_workflow", workflow=seeded(steps=5_000))
    cancelled = await call("cancel_workflow", all="mine", reason="tidy up")
    assert (cancelled.cancelled, cancelled.stopping, cancelled.status) == (4, 0, "cancelled")
    assert {each.status for each in (await call("list_workflows", mine=True)).workflows} == {"cancelled"}
    assert (await stranger("workflow_status", workflow_id=other.workflow_id)).status in {"queued", "running"}
    assert (await call("cancel_workflow", workflow_id="mine")).text() == "0 workflow(s) cancelled."
    await stranger("cancel_workflow", workflow_id=other.workflow_id)


async def test_what_an_engine_still_runs_is_counted_apart(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(self: ComfyUIPlace, prompt_id: PromptId) -> None:
        """The engine goes on."""

    monkeypatch.setattr(cancelling, "CANCEL_WAIT_S", 0.0)
    monkeypatch.setattr(ComfyUIPlace, "cancel", nothing)
    async with open_runtime(settings) as services:
        call = Bench(services, CALLER)
        submitted = await call("submit_workflow", workflow=graphs.slow(steps=1, step_ms=2_000), variations=3)
        await running(call, submitted.workflow_ids[0])
        cancelled = await call("cancel_workflow", workflow_id=submitted.workflow_id)
        assert cancelled.stopping > 0
        assert cancelled.cancelled + cancelled.stopping == 3
        assert "still stop" in cancelled.text()
        assert "wait_for_workflow" in cancelled.next_step


async def running(call: Bench, workflow_id: str) -> None:
    async with asyncio.timeout(20):
        while (await call("workflow_status", workflow_id=workflow_id)).status != "running":
            await asyncio.sleep(0)


async def test_a_wait_that_is_given_up_cancels_the_batch_if_asked(call: Bench) -> None:
    submitted = await call("submit_workflow", workflow=seeded(steps=5_000), variations=2)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(
            call("wait_for_workflow", workflow_id=submitted.workflow_id, cancel_on_disconnect=True)
        )
        await running(call, submitted.workflow_ids[0])
        waiting.cancel()
    state = await call("wait_for_workflow", workflow_id=submitted.workflow_id)
    assert list(state.workflows.values()) == ["cancelled", "cancelled"]
    assert state.cancel_reason == "the waiting caller disconnected"


async def test_a_batch_with_a_failure_has_failed_and_what_failed_is_retried(call: Bench) -> None:
    graph = graphs.failing("boom")
    submitted = await call("submit_workflow", workflow=graph, matrix={"3.message": ["a", "b"]})
    state = await call("wait_for_workflow", workflow_id=submitted.workflow_id)
    assert (state.status, state.failure.kind) == ("failed", "node_error")
    assert f'retry_workflow(workflow_id="{submitted.workflow_id}")' in state.next_step
    retried = await call("retry_workflow", workflow_id=submitted.workflow_id, idempotency_key="r")
    repeated = await call("retry_workflow", workflow_id=submitted.workflow_id, idempotency_key="r")
    assert (repeated.workflow_id, repeated.workflow_ids) == (retried.workflow_id, retried.workflow_ids)
    assert len(retried.workflow_ids) == 2
    assert retried.retry_of == submitted.workflow_id
    again = await call("wait_for_workflow", workflow_id=retried.workflow_id)
    assert again.status == "failed"
    olds = [(await call("workflow_status", workflow_id=each)).retry_of for each in retried.workflow_ids]
    assert olds == submitted.workflow_ids
    with pytest.raises(Conflict) as refused:
        await call("retry_workflow", workflow_id=submitted.workflow_id)
    assert refused.value.code is ErrorCode.NOT_RETRYABLE, "both have been"


async def test_a_name_of_the_matrix_that_no_node_has_is_refused_with_the_nearest(call: Bench) -> None:
    with pytest.raises(InvalidInput) as refused:
        await call("submit_workflow", workflow=seeded(), matrix={"sed": [1, 2]})
    assert "seed" in f"{refused.value.message} {refused.value.next_step}"


async def test_two_names_of_one_input_are_refused(call: Bench) -> None:
    with pytest.raises(InvalidInput, match="'seed' and 'Seed' are the same input"):
        await call("submit_workflow", workflow=seeded(), matrix={"seed": [1, 2], "Seed": [3, 4]})
    with pytest.raises(InvalidInput, match="the same input"):
        await call("submit_workflow", workflow=seeded(), inputs={"1.seed": 1}, matrix={"seed": [3]})


async def test_an_input_that_is_needed_may_come_from_the_matrix(call: Bench) -> None:
    made = await call("submit_workflow", workflow=graphs.picture())
    made = await call("wait_for_workflow", workflow_id=made.workflow_id)
    output = f"output:{made.outputs[0].output_id}"
    with pytest.raises(InvalidInput, match="needs image"):
        await call("submit_workflow", workflow="upscale", variations=1)
    matrix = {"image": [output], "scale": [1, 2]}
    submitted = await call("submit_workflow", workflow="upscale", matrix=matrix)
    state = await call("wait_for_workflow", workflow_id=submitted.workflow_id)
    assert (state.status, state.output_count) == ("completed", 2)


@pytest.mark.parametrize("variations", [0, -1, 65])
async def test_a_number_of_variations_that_makes_no_sense_is_explained(call: Bench, variations: int) -> None:
    with pytest.raises(InvalidInput, match=f"variations is {variations}; 1 to 64"):
        await call("submit_workflow", workflow=seeded(), variations=variations)


async def test_a_batch_of_large_graphs_is_refused_before_each_is_checked(
    call: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitting, "BATCH_BYTES", 1_000)
    with pytest.raises(LimitExceeded) as caught:
        await call("submit_workflow", workflow=seeded(), variations=60)
    assert caught.value.code is ErrorCode.TOO_LARGE


async def test_all_or_none_come_into_the_queue(settings: Settings) -> None:
    async with open_runtime(settings.model_copy(update={"max_queued": 3})) as services:
        call = Bench(services, CALLER)
        with pytest.raises(LimitExceeded):
            await call("submit_workflow", workflow=seeded(steps=5_000), variations=4)
        assert (await call("list_workflows")).workflows == []
        await call("submit_workflow", workflow=seeded(), variations=3)


async def test_one_wrong_value_refuses_all(call: Bench) -> None:
    with pytest.raises(InvalidInput):
        await call("submit_workflow", workflow=seeded(), matrix={"1.steps": [1, "many"]})
    assert (await call("list_workflows")).workflows == []


async def test_a_repeat_under_one_key_is_the_same_batch(call: Bench) -> None:
    graph = seeded()
    once = await call("submit_workflow", workflow=graph, variations=2, idempotency_key="k")
    again = await call("submit_workflow", workflow=graph, variations=2, idempotency_key="k")
    assert (again.workflow_id, again.workflow_ids) == (once.workflow_id, once.workflow_ids)
    with pytest.raises(Conflict):
        await call("submit_workflow", workflow=graph, variations=3, idempotency_key="k")


async def test_the_id_of_an_output_leads_to_its_workflow(call: Bench) -> None:
    submitted = await call("submit_workflow", workflow=graphs.picture())
    state = await call("wait_for_workflow", workflow_id=submitted.workflow_id)
    output = state.outputs[0].output_id
    for operation in ("workflow_status", "wait_for_workflow", "cancel_workflow"):
        with pytest.raises(NotFound) as caught:
            await call(operation, workflow_id=output)
        assert f'the id of its workflow is "{submitted.workflow_id}"' in caught.value.next_step
        with pytest.raises(NotFound, match=f"Workflow {output} not found") as caught:
            await Bench(call.services, STRANGER)(operation, workflow_id=output)
        assert submitted.workflow_id not in caught.value.next_step


@pytest.mark.parametrize("operation", ["cancel_workflow", "workflow_status"])
async def test_all_says_how_to_cancel_ones_own(call: Bench, operation: str) -> None:
    with pytest.raises(NotFound) as caught:
        await call(operation, workflow_id="all")
    assert 'cancel_workflow(workflow_id="mine")' in caught.value.next_step


async def test_a_batch_of_another_client_does_not_exist(call: Bench) -> None:
    submitted = await call("submit_workflow", workflow=seeded(), variations=2)
    stranger = Bench(call.services, STRANGER)
    for operation in ("workflow_status", "wait_for_workflow", "cancel_workflow", "retry_workflow"):
        with pytest.raises(NotFound):
            await stranger(operation, workflow_id=submitted.workflow_id)


@pytest.mark.parametrize(("left", "said"), [(2, '"1,2") for the rest'), (11, '"batch") for all')])
def test_what_is_left_is_named_while_it_is_few(left: int, said: str) -> None:
    statuses = {"0": "completed"} | {str(at): "running" for at in range(1, left + 1)}
    fields: Any = {"workflow_id": "batch", "workflows": statuses, "outputs": []}
    assert said in batches.rest_of(WorkflowResult.model_construct(**fields))
