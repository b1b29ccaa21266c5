"""A wait in a process that goes: it answers with the state as it is, and no job ends for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.registry import BY_NAME
from comfy_mcp.operations.shapes import WorkflowResult
from tests.operations.conftest import Bench
from tests.support import graphs


class Goes:
    """A process that goes when it is told to; `answers` False: its waits hear nothing of it."""

    def __init__(self, *, answers: bool) -> None:
        self.begun = False
        self._answers = answers
        self._limit: asyncio.Timeout | None = None

    def begin(self) -> None:
        self.begun = True
        if self._limit is not None and self._answers:
            self._limit.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def ends(self) -> AsyncIterator[None]:
        async with asyncio.timeout(None) as self._limit:
            yield


@pytest.mark.parametrize("answers", [True, False])
async def test_a_wait_that_the_process_ends_leaves_the_job_alone(call: Bench, answers: bool) -> None:
    submitted = await call("submit_workflow", workflow=graphs.slow())
    goes, running = Goes(answers=answers), asyncio.Event()

    async def report(result: WorkflowResult) -> None:
        if result.status == "running":
            running.set()

    context = OperationContext(services=call.services, caller=call.caller, on_progress=report, leaving=goes)
    arguments = {"workflow_id": submitted.workflow_id, "timeout_s": 100, "cancel_on_disconnect": True}
    async with asyncio.TaskGroup() as group:
        wait = group.create_task(BY_NAME["wait_for_workflow"].call(context, arguments))
        await running.wait()
        goes.begin()
        if not answers:
            wait.cancel()  # as a connection that is cut at the end does

    assert wait.cancelled() is not answers
    if answers:
        assert wait.result().status == "running"
    after = await call("workflow_status", workflow_id=submitted.workflow_id)
    assert after.status == "running"
    assert not after.cancel_requested
    await call("cancel_workflow", workflow_id=submitted.workflow_id)
