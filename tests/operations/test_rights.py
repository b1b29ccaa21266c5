"""Who may do what, and who sees whose jobs: the same on every surface, because it is decided here."""

import asyncio
from typing import Any

import pytest

from comfy_mcp.domain.access import ALL_RIGHTS, DEFAULT_KEY_RIGHTS, Right
from comfy_mcp.domain.errors import Conflict, Denied, ErrorCode, NotFound
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.operations.context import Caller
from comfy_mcp.operations.registry import OPERATIONS
from tests.operations.conftest import Bench
from tests.support import graphs


def by(call: Bench, client: str, rights: frozenset[Right] = DEFAULT_KEY_RIGHTS) -> Bench:
    caller = Caller(client=ClientId(client), surface="http", may_read_files=False, rights=rights)
    return Bench(call.services, caller)


async def finished(call: Bench, **more: Any) -> tuple[str, str]:
    submitted = await call("submit_workflow", workflow=graphs.picture(), **more)
    done = await call("wait_for_workflow", workflow_id=submitted.workflow_id)
    return submitted.workflow_id, done.outputs[0].output_id


async def test_a_client_sees_only_its_own_jobs_and_outputs(call: Bench) -> None:
    anna, ben = by(call, "anna"), by(call, "ben")
    workflow, output = await finished(anna)
    assert [item.workflow_id for item in (await anna("list_workflows")).workflows] == [workflow]
    assert [item.output_id for item in (await anna("list_outputs")).outputs] == [output]
    assert (await ben("list_workflows", client="anna")).workflows == []
    assert (await ben("list_outputs")).outputs == []
    for name in ("workflow_status", "wait_for_workflow", "cancel_workflow"):
        with pytest.raises(NotFound):
            await ben(name, workflow_id=workflow)
    for name in ("view_output", "read_output"):
        with pytest.raises(NotFound) as caught:
            await ben(name, output_id=output)
        assert caught.value.code is ErrorCode.NOT_FOUND
        await anna(name, output_id=output)


async def test_the_right_to_all_sees_and_cancels_everybodys(call: Bench) -> None:
    anna, chief = by(call, "anna"), by(call, "chief", ALL_RIGHTS)
    submitted = await anna("submit_workflow", workflow=graphs.slow())
    assert (await chief("list_workflows", client="anna")).workflows[0].workflow_id == submitted.workflow_id
    assert (await chief("cancel_workflow", workflow_id=submitted.workflow_id)).status == "cancelled"


async def test_only_the_right_to_all_abandons_a_job_and_the_engine_is_not_asked(call: Bench) -> None:
    anna, chief = by(call, "anna"), by(call, "chief", ALL_RIGHTS)
    submitted = await anna("submit_workflow", workflow=graphs.slow())
    with pytest.raises(Denied):
        await anna("abandon_workflow", workflow_id=submitted.workflow_id)
    state = await chief("abandon_workflow", workflow_id=submitted.workflow_id)
    assert (state.status, state.workflow_id) == ("cancelled", submitted.workflow_id)
    with pytest.raises(Conflict) as caught:
        await chief("abandon_workflow", workflow_id=submitted.workflow_id)
    assert caught.value.code is ErrorCode.NOT_CANCELLABLE
    with pytest.raises(NotFound):
        await chief("abandon_workflow", workflow_id="nope")


async def test_the_queue_shows_ones_own_jobs_in_their_places_among_all(call: Bench) -> None:
    anna, ben = by(call, "anna"), by(call, "ben")
    first = await anna("submit_workflow", workflow=graphs.slow())
    for _ in range(3):
        await anna("submit_workflow", workflow=graphs.slow())
    mine = await ben("submit_workflow", workflow=graphs.picture())
    view = await ben("queue")
    assert view.running == []
    assert [item.workflow_id for item in view.queued] == [mine.workflow_id]
    assert view.queued[0].queue_position >= 2
    assert sum(view.counts.values()) == 5
    for item in (await anna("list_workflows")).workflows:
        await anna("cancel_workflow", workflow_id=item.workflow_id)
    assert first.workflow_id


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
async def test_an_operation_needs_its_right_before_anything_else(call: Bench, operation: Any) -> None:
    without = by(call, "nobody", ALL_RIGHTS - {operation.right})
    with pytest.raises(Denied, match=operation.right.value):
        await without(operation.name, nonsense=1)


async def test_a_wait_that_would_cancel_needs_the_right_to_cancel(call: Bench) -> None:
    reader = by(call, "reader", frozenset({Right.READ}))
    with pytest.raises(Denied):
        await reader("wait_for_workflow", workflow_id="x", cancel_on_disconnect=True)


async def test_a_dropped_wait_does_not_cancel_what_the_caller_may_not_see(call: Bench) -> None:
    anna, ben = by(call, "anna"), by(call, "ben")
    submitted = await anna("submit_workflow", workflow=graphs.slow())
    async with asyncio.TaskGroup() as group:
        wait = group.create_task(_expect_not_found(ben, submitted.workflow_id))
    assert wait.result()
    status = await anna("workflow_status", workflow_id=submitted.workflow_id)
    assert not status.cancel_requested
    await anna("cancel_workflow", workflow_id=submitted.workflow_id)


async def _expect_not_found(call: Bench, workflow_id: str) -> bool:
    with pytest.raises(NotFound):
        await call("wait_for_workflow", workflow_id=workflow_id, cancel_on_disconnect=True)
    return True


async def test_the_priority_that_passes_all_others_needs_a_right(call: Bench) -> None:
    anna, chief = by(call, "anna"), by(call, "anna", DEFAULT_KEY_RIGHTS | {Right.HIGH})
    with pytest.raises(Denied, match="'high'"):
        await anna("submit_workflow", workflow=graphs.picture(), priority="high")
    submitted = await chief("submit_workflow", workflow=graphs.slow(), priority="high")
    await anna("cancel_workflow", workflow_id=submitted.workflow_id)
    await anna("wait_for_workflow", workflow_id=submitted.workflow_id)
    with pytest.raises(Denied, match="'high'"):
        await anna("retry_workflow", workflow_id=submitted.workflow_id)
    again = await chief("retry_workflow", workflow_id=submitted.workflow_id)
    await chief("cancel_workflow", workflow_id=again.workflow_id)


async def test_a_key_for_metrics_may_do_nothing_else(call: Bench) -> None:
    scraper = by(call, "prometheus", frozenset({Right.METRICS}))
    for operation in OPERATIONS:
        with pytest.raises(Denied):
            await scraper(operation.name)
