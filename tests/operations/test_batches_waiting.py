"""What a batch waits for: it says so as each of its workflows does."""

from comfy_mcp.operations.batches import combined
from comfy_mcp.operations.shapes import WaitingForItem, WorkflowResult
from tests.operations.conftest import Bench
from tests.support import graphs

TURN = WaitingForItem(reason="turn", message="Ahead of it: 1 yours.")


async def states_of(call: Bench, count: int) -> list[WorkflowResult]:
    batch = await call("submit_workflow", workflow=graphs.slow(), variations=count)
    return [await call("workflow_status", workflow_id=each) for each in batch.workflow_ids]


async def test_a_batch_says_what_the_first_that_waits_waits_for(call_without_engine: Bench) -> None:
    states = await states_of(call_without_engine, 3)
    why = states[1].waiting_for
    assert why is not None
    waiting = combined("all", states)
    assert (waiting.status, waiting.waiting_for) == ("queued", why)
    assert f"held: {why.message.rstrip('.')}" in waiting.text()
    assert "Of 3 workflows: 3 queued." in waiting.text()
    running = states[0].model_copy(update={"status": "running", "waiting_for": None})
    some = combined("all", [running, *states[1:]])
    assert (some.status, some.waiting_for) == ("running", why)
    assert f"Of 3 workflows: 1 running, 2 queued ({why.message.rstrip('.')})." in some.text()


async def test_a_batch_that_runs_says_nothing_of_turns(call_without_engine: Bench) -> None:
    states = await states_of(call_without_engine, 2)
    turn = states[1].model_copy(update={"waiting_for": TURN})
    assert combined("all", [turn, turn]).waiting_for == TURN
    running = states[0].model_copy(update={"status": "running", "waiting_for": None})
    assert combined("all", [running, turn]).waiting_for is None
