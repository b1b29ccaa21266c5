"""The `test_*` tools, resources and prompts that the official suite calls, on a server of our own factory.

What each must do is said by the suite itself ("Server Implementation Requirements" in its index.js). Whatever
has another name goes to the product's own handlers, so the suite sees both.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import PromptsListChanged, ToolsListChanged
from mcp.shared.exceptions import MCPError

from comfy_mcp.server import ResourceBus
from comfy_mcp.server.app import BridgeServer
from tests.conformance import documents, rounds
from tests.conformance.content import DEFAULTS, ENUMS, SCHEMA_2020_12, audio, embedded, picture, text_result
from tests.conformance.documents import own_handler

Context = ServerRequestContext[Any, Any]
ToolResult = types.CallToolResult | types.InputRequiredResult
Tool = Callable[[Context, types.CallToolRequestParams], Awaitable[ToolResult]]

PAUSE_S = 0.05
"""Between two notifications of one call: the suite asks for "about 50 ms"."""


def extend(server: BridgeServer, bus: ResourceBus) -> None:
    """Add the fixtures to `server`; its own handlers stay behind them."""
    _add_tools(server, bus)
    documents.add_resources(server, bus)
    documents.add_prompts(server)

    async def complete(ctx: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
        return types.CompleteResult(completion=types.Completion(values=[], total=0, has_more=False))

    async def set_level(ctx: Context, params: types.SetLevelRequestParams) -> types.EmptyResult:
        return types.EmptyResult()

    server.add_request_handler("completion/complete", types.CompleteRequestParams, complete)
    server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, set_level)


def _add_tools(server: BridgeServer, bus: ResourceBus) -> None:
    own_list, own_call = own_handler(server, "tools/list"), own_handler(server, "tools/call")

    async def tool_change(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
        await bus.publish(ToolsListChanged())
        return text_result("The tool list has changed.")

    async def prompt_change(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
        await bus.publish(PromptsListChanged())
        return text_result("The prompt list has changed.")

    known: dict[str, Tool] = {
        **TOOLS,
        **rounds.TOOLS,
        "test_trigger_tool_change": tool_change,
        "test_trigger_prompt_change": prompt_change,
    }

    async def list_tools(ctx: Context, params: types.PaginatedRequestParams) -> types.ListToolsResult:
        own: types.ListToolsResult = await own_list(ctx, params)
        added = [
            types.Tool(name=name, description=f"Fixture {name}.", input_schema=_schema(name))
            for name in known
        ]
        return own.model_copy(update={"tools": [*own.tools, *added]})

    async def call_tool(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
        tool = known.get(params.name)
        if tool is None:
            result: ToolResult = await own_call(ctx, params)
            return result
        return await tool(ctx, params)

    server.add_request_handler("tools/list", types.PaginatedRequestParams, list_tools)
    server.add_request_handler("tools/call", types.CallToolRequestParams, call_tool)


def _schema(name: str) -> dict[str, Any]:
    if name == "json_schema_2020_12_tool":
        return SCHEMA_2020_12
    arguments = {"test_sampling": "prompt", "test_elicitation": "message"}
    if name not in arguments:
        return {"type": "object"}
    return {
        "type": "object",
        "properties": {arguments[name]: {"type": "string"}},
        "required": [arguments[name]],
    }


async def _simple_text(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    return text_result("This is a simple text response for testing.")


async def _image(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    return types.CallToolResult(content=[picture()])


async def _audio(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    return types.CallToolResult(content=[audio()])


async def _embedded(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    resource = embedded("test://embedded-resource", "This is an embedded resource content.")
    return types.CallToolResult(content=[resource])


async def _mixed(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    resource = embedded(
        "test://mixed-content-resource", json.dumps({"test": "data", "value": 123}), "application/json"
    )
    first = types.TextContent(text="Multiple content types test:")
    return types.CallToolResult(content=[first, picture(), resource])


async def _logging(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    for text in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.session.send_log_message("info", text, related_request_id=ctx.request_id)
        await asyncio.sleep(PAUSE_S)
    return text_result("Logged.")


async def _error(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    text = types.TextContent(text="This tool intentionally returns an error for testing")
    return types.CallToolResult(content=[text], is_error=True)


async def _progress(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    for value in (0, 50, 100):
        await ctx.session.report_progress(value, 100)
        await asyncio.sleep(PAUSE_S)
    return text_result("Done.")


async def _sampling(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    prompt = str((params.arguments or {})["prompt"])
    message = types.SamplingMessage(role="user", content=types.TextContent(text=prompt))
    answer = await ctx.session.create_message([message], max_tokens=100, related_request_id=ctx.request_id)
    assert isinstance(answer.content, types.TextContent)
    return text_result(f"LLM response: {answer.content.text}")


async def _elicitation(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    message = str((params.arguments or {})["message"])
    fields = {name: {"type": "string"} for name in ("username", "email")}
    return await _ask(ctx, message, {"type": "object", "properties": fields, "required": list(fields)})


async def _defaults(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    return await _ask(ctx, "Defaults", {"type": "object", "properties": DEFAULTS})


async def _enums(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    return await _ask(ctx, "Enums", {"type": "object", "properties": ENUMS})


async def _ask(ctx: Context, message: str, schema: dict[str, Any]) -> ToolResult:
    answer = await ctx.session.elicit_form(message, schema, related_request_id=ctx.request_id)
    return text_result(f"Elicitation completed: action={answer.action}, content={json.dumps(answer.content)}")


async def _missing_capability(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    declared = ctx.session.client_capabilities
    if declared is None or declared.sampling is None:
        raise MCPError(
            code=types.MISSING_REQUIRED_CLIENT_CAPABILITY,
            message="This tool needs the sampling capability.",
            data={"requiredCapabilities": {"sampling": {}}},
        )
    return text_result("The client can sample.")


async def _no_arguments(ctx: Context, params: types.CallToolRequestParams) -> ToolResult:
    return text_result("Its schema is what matters.")


TOOLS: Mapping[str, Tool] = {
    "test_simple_text": _simple_text,
    "test_image_content": _image,
    "test_audio_content": _audio,
    "test_embedded_resource": _embedded,
    "test_multiple_content_types": _mixed,
    "test_tool_with_logging": _logging,
    "test_logging_tool": _logging,
    "test_error_handling": _error,
    "test_tool_with_progress": _progress,
    "test_sampling": _sampling,
    "test_elicitation": _elicitation,
    "test_elicitation_sep1034_defaults": _defaults,
    "test_elicitation_sep1330_enums": _enums,
    "test_missing_capability": _missing_capability,
    "json_schema_2020_12_tool": _no_arguments,
}
