"""Tools: every operation of the registry that is one."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import cache, partial
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, CallToolResult, Tool, ToolAnnotations

from comfy_mcp.domain import large_json
from comfy_mcp.domain.errors import BridgeError
from comfy_mcp.operations.beside import beside
from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.operations.context import Caller, Leaving
from comfy_mcp.operations.json_texts import json_in
from comfy_mcp.operations.operation import Operation
from comfy_mcp.operations.registry import BY_NAME, OPERATIONS
from comfy_mcp.operations.shapes import PreviewResult, Result, ViewResult, WaitParams, WorkflowResult
from comfy_mcp.operations.views import has_picture
from comfy_mcp.server.bus import SEND_TIMEOUT_S
from comfy_mcp.server.progress import ProgressReporter, Send
from comfy_mcp.server.results import tool_result
from comfy_mcp.server.runtime_provider import BridgeProvider
from comfy_mcp.server.schemas import input_schema, output_schema
from comfy_mcp.server.tool_errors import error_result, foreseen

SHOWN_PX = 512
SHEET_PX = 768
"""Longest side of the picture in the result of a wait, and of a sheet of several."""

SHEET = 16
"""Pictures on the sheet: those that view_output shows."""
PICTURE_S = 10.0
"""Longest time that a wait, which has ended, goes on for its picture: an engine may send a video slowly."""


async def arguments_decoded(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Middleware: the arguments of a tool may be JSON text, as some clients send them, or those of a large
    request, which its transport has parsed."""
    if ctx.method != "tools/call":
        return await call_next(ctx)
    params = ctx.params or {}
    arguments = getattr(getattr(ctx.request, "state", None), "arguments", params.get("arguments"))
    if isinstance(arguments, str):
        large = len(arguments) > large_json.LARGE_BYTES
        arguments = await beside(large, json_in, arguments) if arguments.strip() else {}
    if arguments is not params.get("arguments"):
        ctx = replace(ctx, params={**params, "arguments": arguments})
    return await call_next(ctx)


@cache
def tools(*, local: bool = True) -> tuple[Tool, ...]:
    """The tool list. It never changes while the process lives. `local`: with the arguments that name files of
    this machine."""
    return tuple(_tool(operation, local=local) for operation in OPERATIONS if operation.tool)


async def call_tool(
    provider: BridgeProvider,
    caller: Caller,
    name: str,
    arguments: Mapping[str, Any],
    *,
    send_progress: Send,
    leaving: Leaving | None = None,
) -> CallToolResult:
    """Run one tool. What goes wrong becomes text for the model; only an unknown name is a protocol error.

    `leaving`: a wait ends with the process, and says so by the state that it returns.
    """
    operation = BY_NAME.get(name)
    if operation is None or not operation.tool:
        known = ", ".join(tool.name for tool in tools())
        raise MCPError(code=INVALID_PARAMS, message=f"Unknown tool: {name[:100]}. Tools: {known}.")
    try:
        with foreseen(f"tool {name}"):
            bridge = await provider.get()
            call = partial(bridge.call, name, arguments, caller=caller, leaving=leaving)
            with nullcontext() if bridge.metrics is None else bridge.metrics.tool_call(name):
                if operation.params is WaitParams:
                    state = await _reported(call, send_progress)
                    return tool_result(state, await _shown(bridge, caller, state))
                return tool_result(await call())
    except BridgeError as error:
        return error_result(error)


async def _shown(bridge: Bridge, caller: Caller, state: Result) -> ViewResult | PreviewResult | None:
    """The picture of a workflow that is completed, small, or all that can be shown on one sheet: most callers
    ask for it next. Of one that runs, the last preview."""
    if not isinstance(state, WorkflowResult):
        return None
    if state.status == "running":
        job = {"workflow_id": state.workflow_id}
        with suppress(BridgeError):  # most engines send none
            return await bridge.call("workflow_preview", job, caller=caller)  # type: ignore[no-any-return]
    if state.status != "completed":
        return None
    seen = [item.output_id for item in state.outputs if has_picture(item.type, item.filename)]
    if not seen:
        return None
    look = {"output_id": ",".join(seen[:SHEET]), "max_px": SHOWN_PX if len(seen) == 1 else SHEET_PX}
    with suppress(BridgeError, TimeoutError):  # it is linked to all the same
        async with asyncio.timeout(PICTURE_S):
            return await bridge.call("view_output", look, caller=caller)  # type: ignore[no-any-return]
    return None


async def _reported(call: Callable[..., Awaitable[Result]], send: Send) -> Result:
    """Report every state while the operation waits, and the last one before it returns."""
    reporter = ProgressReporter(send, send_timeout_s=SEND_TIMEOUT_S)
    outcome: Result | BridgeError
    async with asyncio.TaskGroup() as tasks:
        reporting = tasks.create_task(reporter.run())
        try:
            outcome = await call(on_progress=reporter.heard)
        except BridgeError as error:  # kept out of the group, which would wrap it
            outcome = error
        finally:
            reporting.cancel()
    if isinstance(outcome, BridgeError):
        raise outcome
    await reporter.finish()
    return outcome


def _tool(operation: Operation[Any, Any], *, local: bool) -> Tool:
    return Tool(
        name=operation.name,
        title=operation.title,
        description=operation.description,
        input_schema=input_schema(operation.params, local=local),
        output_schema=output_schema(operation.result),
        annotations=ToolAnnotations(
            read_only_hint=operation.read_only,
            destructive_hint=operation.destructive,
            idempotent_hint=operation.idempotent,
            open_world_hint=operation.open_world,
        ),
    )
