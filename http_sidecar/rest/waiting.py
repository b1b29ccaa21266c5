"""Waits for a job's end that a shutdown ends too, with the state as it is then."""

import asyncio
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from comfy_mcp.domain.access import Right
from comfy_mcp.domain.ids import JobId
from comfy_mcp.operations.context import require_right
from comfy_mcp.operations.registry import BY_NAME
from comfy_mcp.operations.shapes import WorkflowResult
from http_sidecar.app_state import DRAIN, SERVICES
from http_sidecar.rest.calls import context_of


async def state_at_end(
    request: web.Request, arguments: Mapping[str, Any], *, cancel_on_disconnect: bool
) -> WorkflowResult:
    """wait_for_workflow's answer, or the state when this process began to drain.

    `cancel_on_disconnect`: a client that leaves ends its job. A process that ends does not, and to the
    operation the two look the same: so it is decided here.
    """
    context, drain = context_of(request), request.app[DRAIN]
    asked = {**arguments, "cancel_on_disconnect": False}
    if cancel_on_disconnect:
        require_right(context, Right.CANCEL, "wait_for_workflow with cancelOnDisconnect")
        await BY_NAME["workflow_status"].call(context, asked)  # only one's own job goes with one
    state: WorkflowResult
    try:
        async with drain.ends():
            state = await BY_NAME["wait_for_workflow"].call(context, asked)
    except TimeoutError:
        state = await BY_NAME["workflow_status"].call(context, asked)
    except asyncio.CancelledError:
        if cancel_on_disconnect and not drain.begun:
            services = request.app[SERVICES]
            job_id = JobId(str(arguments["workflow_id"]))
            wish = services.store.request_cancel(
                job_id, at=services.now_ms(), reason="the waiting caller disconnected"
            )
            await asyncio.shield(wish)  # the caller has gone, its wish has not
        raise
    return state
