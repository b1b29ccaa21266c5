"""The fixture resources and prompts."""

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext

from comfy_mcp.server import ResourceBus
from comfy_mcp.server.app import BridgeServer
from comfy_mcp.server.sdk import connection_of
from tests.conformance.content import embedded, picture, png
from tests.conformance.rounds import needs_context

Context = ServerRequestContext[Any, Any]

TEMPLATE = re.compile(r"test://template/([^/]+)/data")
WATCHED = "test://watched-resource"


def own_handler(server: BridgeServer, method: str) -> Callable[[Context, Any], Awaitable[Any]]:
    """What the product answers with."""
    entry = server.get_request_handler(method)
    assert entry is not None
    return entry.handler


def add_resources(server: BridgeServer, bus: ResourceBus) -> None:
    """`test://…` beside the product's own."""
    own_list = own_handler(server, "resources/list")
    own_templates = own_handler(server, "resources/templates/list")
    own_read = own_handler(server, "resources/read")
    own_subscribe = own_handler(server, "resources/subscribe")

    async def list_resources(ctx: Context, params: types.PaginatedRequestParams) -> types.ListResourcesResult:
        own: types.ListResourcesResult = await own_list(ctx, params)
        added = [
            types.Resource(uri=uri, name=uri, description="A fixture.", mime_type=kind)
            for uri, kind in (("test://static-text", "text/plain"), ("test://static-binary", "image/png"))
        ]
        return own.model_copy(update={"resources": [*own.resources, *added]})

    async def list_templates(
        ctx: Context, params: types.PaginatedRequestParams
    ) -> types.ListResourceTemplatesResult:
        own: types.ListResourceTemplatesResult = await own_templates(ctx, params)
        added = types.ResourceTemplate(uri_template="test://template/{id}/data", name="template")
        return own.model_copy(update={"resource_templates": [*own.resource_templates, added]})

    async def read(ctx: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        contents = _contents(str(params.uri))
        if contents is None:
            result: types.ReadResourceResult = await own_read(ctx, params)
            return result
        return types.ReadResourceResult(contents=[contents])

    async def subscribe(ctx: Context, params: types.SubscribeRequestParams) -> types.EmptyResult:
        if str(params.uri) != WATCHED:
            done: types.EmptyResult = await own_subscribe(ctx, params)
            return done
        bus.subscribe_uri(connection_of(ctx.session), WATCHED)
        return types.EmptyResult()

    server.add_request_handler("resources/list", types.PaginatedRequestParams, list_resources)
    server.add_request_handler("resources/templates/list", types.PaginatedRequestParams, list_templates)
    server.add_request_handler("resources/read", types.ReadResourceRequestParams, read)
    server.add_request_handler("resources/subscribe", types.SubscribeRequestParams, subscribe)


def _contents(uri: str) -> types.TextResourceContents | types.BlobResourceContents | None:
    if uri == "test://static-text":
        text = "This is the content of the static text resource."
        return types.TextResourceContents(uri=uri, mime_type="text/plain", text=text)
    if uri == "test://static-binary":
        return types.BlobResourceContents(uri=uri, mime_type="image/png", blob=png())
    if (match := TEMPLATE.fullmatch(uri)) is not None:
        number = match.group(1)
        data = {"id": number, "templateTest": True, "data": f"Data for ID: {number}"}
        return types.TextResourceContents(uri=uri, mime_type="application/json", text=json.dumps(data))
    return None


def add_prompts(server: BridgeServer) -> None:
    async def list_prompts(ctx: Context, params: types.PaginatedRequestParams) -> types.ListPromptsResult:
        return types.ListPromptsResult(
            prompts=[
                types.Prompt(
                    name=name,
                    description=f"Fixture {name}.",
                    arguments=[types.PromptArgument(name=argument, required=True) for argument in arguments],
                )
                for name, arguments in PROMPTS.items()
            ]
        )

    async def get_prompt(
        ctx: Context, params: types.GetPromptRequestParams
    ) -> types.GetPromptResult | types.InputRequiredResult:
        if params.name == "test_input_required_result_prompt":
            return needs_context(params)
        return types.GetPromptResult(messages=_messages(params.name, params.arguments or {}))

    server.add_request_handler("prompts/list", types.PaginatedRequestParams, list_prompts)
    server.add_request_handler("prompts/get", types.GetPromptRequestParams, get_prompt)


PROMPTS: dict[str, tuple[str, ...]] = {
    "test_simple_prompt": (),
    "test_prompt_with_arguments": ("arg1", "arg2"),
    "test_prompt_with_embedded_resource": ("resourceUri",),
    "test_prompt_with_image": (),
    "test_input_required_result_prompt": (),
}


def _messages(name: str, arguments: dict[str, str]) -> list[types.PromptMessage]:
    match name:
        case "test_simple_prompt":
            return [_said("This is a simple prompt for testing.")]
        case "test_prompt_with_arguments":
            given = f"arg1='{arguments['arg1']}', arg2='{arguments['arg2']}'"
            return [_said(f"Prompt with arguments: {given}")]
        case "test_prompt_with_embedded_resource":
            resource = embedded(arguments["resourceUri"], "Embedded resource content for testing.")
            return [
                types.PromptMessage(role="user", content=resource),
                _said("Please process the embedded resource above."),
            ]
        case _:
            return [
                types.PromptMessage(role="user", content=picture()),
                _said("Please analyze the image above."),
            ]


def _said(text: str) -> types.PromptMessage:
    return types.PromptMessage(role="user", content=types.TextContent(text=text))
