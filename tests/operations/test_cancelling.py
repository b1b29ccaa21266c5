"""A cancel: what it does at once, and what it says while the engine has not followed."""

import asyncio

import pytest

from comfy_mcp.domain.errors import Conflict
from comfy_mcp.operations import cancelling
from comfy_mcp.operations.shapes import WorkflowResult
from tests.operations.conftest import Bench
from tests.support import graphs


async def test_a_cancel_is_idempotent_and_a_finished_job_can_not_be_cancelled(call: Bench) -> None:
    slow = await call("submit_workflow", workflow=graphs.slow())
    for _ in range(2):
        cancelled = await call("cancel_workflow", workflow_id=slow.workflow_id, reason="enough")
        assert cancelled.status == "cancelled"
    quick = await call("submit_workflow", workflow=graphs.picture())
    await call("wait_for_workflow", workflow_id=quick.workflow_id)
    with pytest.raises(Conflict) as caught:
        await call("cancel_workflow", workflow_id=quick.workflow_id)
    assert caught.value.details == {"currentStatus": "completed"}


async def test_a_cancel_that_the_engine_has_not_yet_followed_says_so(
    call: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancelling, "CANCEL_WAIT_S", 0.0)
    submitted = await call("submit_workflow", workflow=graphs.slow())
    running = asyncio.Event()

    async def report(result: WorkflowResult) -> None:
        if result.status == "running":
            running.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(call("wait_for_workflow", report, workflow_id=submitted.workflow_id, timeout_s=20))
        await running.wait()
        answer = await call("cancel_workflow", workflow_id=submitted.workflow_id)
        if answer.status == "running":  # the engine may be quicker even so
            assert answer.cancel_requested
            assert "workflow_status" in answer.text()
    assert (await call("workflow_status", workflow_id=submitted.workflow_id)).status == "cancelled"


async def test_who_cancelled_and_why_is_shown(call: Bench) -> None:
    job = (await call("submit_workflow", workflow=graphs.slow())).workflow_id
    await call("cancel_workflow", workflow_id=job, reason="another prompt")
    await call("cancel_workflow", workflow_id=job, reason="a later one")
    state = await call("wait_for_workflow", workflow_id=job)
    assert (state.cancelled_by, state.cancel_reason) == ("tester (test)", "another prompt")
    assert "cancelled by tester (test): another prompt." in state.text()
    other = (await call("submit_workflow", workflow=graphs.slow())).workflow_id
    await call("cancel_workflow", workflow_id=other)
    ended = await call("wait_for_workflow", workflow_id=other)
    assert "cancelled by tester (test)." in ended.text()
    assert ended.cancel_reason is None
