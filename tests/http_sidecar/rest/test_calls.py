"""A poll while nothing changes costs no second result and no second body."""

import asyncio
from pathlib import Path

from comfy_mcp.operations.context import Caller, OperationContext
from comfy_mcp.operations.registry import BY_NAME
from comfy_mcp.operations.shapes import Result, WorkflowResult
from tests.support.graphs import failing
from tests.support.sidecar import LIMIT_S, WORKFLOW, Sidecar, open_sidecar


async def status_of(v1: Sidecar, job: str) -> WorkflowResult:
    caller = Caller(client=v1.settings.client_name, surface="test")  # type: ignore[arg-type]
    context = OperationContext(services=v1.services, caller=caller)
    result: WorkflowResult = await BY_NAME["workflow_status"].call(context, {"workflow_id": job})
    return result


def made_anew(_result: Result) -> bytes:
    return b"anew"


async def test_a_poll_is_answered_from_memory_until_something_changes(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path) as v1:
        job = await v1.submit(failing())
        await v1.ended(job)
        async with asyncio.timeout(LIMIT_S):
            while (first := await status_of(v1, job)) is not await status_of(v1, job):
                pass  # what the run taught is still being written
        body = (await v1("GET", f"{WORKFLOW}/{job}")).data
        assert (await v1("GET", f"{WORKFLOW}/{job}")).data == body
        assert first.rendered("http", made_anew) == body
        assert first.rendered("another", made_anew) == b"anew"
        assert first.model_copy(update={"attempt": 2}).rendered("http", made_anew) == b"anew"

        retry = (await v1("POST", f"{WORKFLOW}/{job}/retry")).body["workflowId"]
        await v1.ended(retry)
        assert (await status_of(v1, job)).retried_by == retry
        assert (await v1("GET", f"{WORKFLOW}/{job}")).body["retriedBy"] == retry
