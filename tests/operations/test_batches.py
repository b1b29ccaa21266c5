"""Several workflows of one submit: one id, one state, one cancel."""

from typing import Any

import pytest

from comfy_mcp.domain.access import DEFAULT_KEY_RIGHTS
from comfy_mcp.domain.errors import Conflict, ErrorCode, InvalidInput, LimitExceeded, NotFound
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.operations import submitting
from comfy_mcp.operations.context import Caller
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import Settings
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
    assert await seeds(call, submitted.workflow_ids) == [first, first + 1, first + 2]
    state = await call("wait_for_workflow", workflow_id=submitted.workflow_id)
    assert (state.status, state.progress, state.output_count, len(state.outputs)) == (
        "completed",
        100.0,
        3,
        3,
    )
    assert list(state.workflows) == submitted.workflow_ids
    assert "view_output" in state.next_step
    assert await call("workflow_status", workflow_id=submitted.workflow_id) == state


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


async def test_a_matrix_runs_every_combination(call: Bench) -> None:
    matrix = {"seed": [1, 2], "1.steps": [1, 2]}
    submitted = await call("submit_workflow", workflow=seeded(), matrix=matrix)
    assert len(submitted.workflow_ids) == 4
    assert await seeds(call, submitted.workflow_ids) == [1, 1, 2, 2]


async def test_a_wait_may_end_with_the_first(call: Bench) -> None:
    submitted = await call("submit_workflow", workflow=seeded(), matrix={"1.steps": [1, 5_000]})
    heard = []

    async def note(state: Any) -> None:
        heard.append(state.workflow_id)

    state = await call("wait_for_workflow", workflow_id=submitted.workflow_id, until="any", on_progress=note)
    first, second = state.workflows.values()
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
    assert cancelled.cancelled == 4
    state = await call("wait_for_workflow", workflow_id=submitted.workflow_id)
    assert (state.status, list(state.workflows.values())) == ("cancelled", ["cancelled"] * 4)
    assert (await call("cancel_workflow", workflow_id=submitted.workflow_id)).cancelled == 0


async def test_a_batch_with_a_failure_has_failed_and_what_failed_is_retried(call: Bench) -> None:
    graph = graphs.failing("boom")
    submitted = await call("submit_workflow", workflow=graph, matrix={"3.message": ["a", "b"]})
    state = await call("wait_for_workflow", workflow_id=submitted.workflow_id)
    assert (state.status, state.failure.kind) == ("failed", "node_error")
    retried = await call("retry_workflow", workflow_id=submitted.workflow_id)
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


async def test_a_batch_of_another_client_does_not_exist(call: Bench) -> None:
    submitted = await call("submit_workflow", workflow=seeded(), variations=2)
    stranger = Bench(call.services, STRANGER)
    for operation in ("workflow_status", "wait_for_workflow", "cancel_workflow", "retry_workflow"):
        with pytest.raises(NotFound):
            await stranger(operation, workflow_id=submitted.workflow_id)
