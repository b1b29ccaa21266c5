"""The priority of workflows that wait can be changed."""

import pytest

from comfy_mcp.domain.access import DEFAULT_KEY_RIGHTS
from comfy_mcp.domain.errors import Denied, NotFound
from comfy_mcp.operations.context import Caller
from tests.operations.conftest import CALLER, Bench
from tests.support.graphs import slow


async def test_a_workflow_moves_up_and_a_batch_down(call_without_engine: Bench) -> None:
    call = call_without_engine
    first = (await call("submit_workflow", workflow=slow())).workflow_id
    batch = (await call("submit_workflow", workflow=slow(), variations=2)).workflow_id
    late = (await call("submit_workflow", workflow=slow())).workflow_id
    up = await call("prioritize_workflow", workflow_id=late, priority="HIGH")
    assert (up.changed, up.priority, up.queue_position) == (1, "high", 1)
    assert "position 1. Priority high, 1 changed. Call wait_for_workflow(" in up.text()
    again = await call("prioritize_workflow", workflow_id=late, priority="high")
    assert (again.changed, again.priority) == (0, "high")
    down = await call("prioritize_workflow", workflow_id=batch, priority="low")
    assert (down.changed, down.priority, down.queue_position) == (2, "low", 3)
    ran = [each.workflow_id for each in (await call("queue")).queued]
    assert ran[:2] == [late, first]
    held = (await call("submit_workflow", workflow=slow(), after=[first])).workflow_id
    assert (await call("prioritize_workflow", workflow_id=held, priority="high")).changed == 1
    await call("cancel_workflow", workflow_id=first)
    over = await call("prioritize_workflow", workflow_id=first, priority="high")
    assert (over.changed, over.queue_position) == (0, None)
    assert "0 changed: only those that wait can be changed" in over.text()
    with pytest.raises(NotFound):
        await call("prioritize_workflow", workflow_id="nope", priority="low")


async def test_high_needs_its_right(call_without_engine: Bench) -> None:
    rights = DEFAULT_KEY_RIGHTS
    anna = Bench(call_without_engine.services, Caller(client=CALLER.client, surface="http", rights=rights))
    job = (await anna("submit_workflow", workflow=slow())).workflow_id
    with pytest.raises(Denied, match="high"):
        await anna("prioritize_workflow", workflow_id=job, priority="high")
    assert (await anna("prioritize_workflow", workflow_id=job, priority="low")).changed == 1
