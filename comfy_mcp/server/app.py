"""The MCP server: the operations registry on the SDK's lowlevel server, for every protocol era."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mcp_types as types
from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.models import InitializationOptions
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from comfy_mcp import __version__
from comfy_mcp.domain.errors import BridgeError
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.operations.context import Caller, Leaving
from comfy_mcp.server import app_view, completions, prompts, resources
from comfy_mcp.server.bus import ResourceBus
from comfy_mcp.server.runtime_provider import BridgeProvider
from comfy_mcp.server.sdk import connection_of
from comfy_mcp.server.tool_errors import foreseen, protocol_error
from comfy_mcp.server.tools import arguments_decoded, call_tool, tools
from comfy_mcp.settings import JobGroup

INSTRUCTIONS = (
    "Runs ComfyUI workflows as durable jobs. find_workflow says which exist and what they need; "
    "submit_workflow queues one by name with your inputs and returns a workflowId at once; wait_for_workflow "
    "follows it (call again while it is queued or running); view_output shows what it made. "
    "Jobs go on when a call ends. Errors start with a code and end with the next step."
)

STATIC = CacheHint(ttl_ms=3_600_000, scope="public")
"""For what can't change while the process lives."""

Context = ServerRequestContext[Any, Any]
CallerOf = Callable[[Context], Caller]


def build_server(
    provider: BridgeProvider,
    settings: JobGroup,
    *,
    bus: ResourceBus,
    caller_of: CallerOf | None = None,
    leaving: Leaving | None = None,
) -> "BridgeServer":
    """A server for any number of connections and transports; jobs and tasks live outside it.

    `caller_of` says who is behind a request; by default the client that the settings name, over stdio.
    `leaving`: waits end with the process, without taking it for a client that has gone.
    """
    surface = _Surface(provider, bus, caller_of or _stdio_caller(settings), leaving)
    server = BridgeServer(
        "comfy-mcp-bridge",
        version=__version__,
        title="ComfyUI",
        instructions=INSTRUCTIONS,
        cache_hints=dict.fromkeys(("tools/list", "resources/templates/list", "prompts/list"), STATIC),
        on_list_tools=surface.list_tools,
        on_call_tool=surface.call_tool,
        on_list_resources=surface.list_resources,
        on_list_resource_templates=surface.list_templates,
        on_read_resource=surface.read_resource,
        on_list_prompts=surface.list_prompts,
        on_get_prompt=surface.get_prompt,
        on_completion=surface.complete,
        on_subscribe_resource=surface.subscribe,
        on_unsubscribe_resource=surface.unsubscribe,
        on_subscriptions_listen=surface.listen,
    )
    server.middleware.append(arguments_decoded)
    server.add_request_handler("server/discover", types.RequestParams, server.discover)
    server.add_notification_handler(
        "notifications/initialized", types.NotificationParams, surface.initialized
    )
    return server


class BridgeServer(Server[Any]):
    """Every transport's handshake says that the resource list changes."""

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        options = notification_options or NotificationOptions(resources_changed=True)
        return super().create_initialization_options(options, experimental_capabilities, extensions)

    async def discover(self, ctx: Context, params: types.RequestParams | None) -> types.DiscoverResult:
        """The SDK's answer. MCP Apps are named to the clients that named them."""
        extensions = app_view.CAPABILITY if app_view.client_supports_apps(ctx) else None
        return types.DiscoverResult(
            supported_versions=list(MODERN_PROTOCOL_VERSIONS),
            capabilities=self.get_capabilities(extensions=extensions, protocol_version=ctx.protocol_version),
            instructions=self.instructions,
        )


class _Surface:
    """The handlers. Whatever goes wrong in one leaves it as a BridgeError's code and next step."""

    def __init__(
        self, provider: BridgeProvider, bus: ResourceBus, caller_of: CallerOf, leaving: Leaving | None
    ) -> None:
        self._provider = provider
        self._bus = bus
        self._caller_of = caller_of
        self._leaving = leaving

    async def list_tools(
        self, ctx: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        offered = tools(local=self._caller_of(ctx).may_read_files)
        if not app_view.client_supports_apps(ctx):
            return types.ListToolsResult(tools=list(offered))
        # Kept as long, but not shared: whoever shares a cache may not know of apps.
        return types.ListToolsResult(tools=list(app_view.with_view(offered)), cache_scope="private")

    async def call_tool(self, ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        return await call_tool(
            self._provider,
            self._caller_of(ctx),
            params.name,
            params.arguments or {},
            send_progress=ctx.session.report_progress,
            leaving=self._leaving,
        )

    async def list_resources(
        self, ctx: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        cursor = params.cursor if params is not None else None
        with _answered(ctx):
            listed = await resources.list_resources(self._provider, self._caller_of(ctx), cursor)
        if cursor is None and app_view.client_supports_apps(ctx):
            listed.resources.append(app_view.view())
        return listed

    async def list_templates(
        self, ctx: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        return types.ListResourceTemplatesResult(resource_templates=list(resources.templates()))

    async def read_resource(
        self, ctx: Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        uri = str(params.uri)
        if uri == app_view.VIEW_URI and app_view.client_supports_apps(ctx):
            return app_view.read_view()
        with _answered(ctx, uri):
            return await resources.read_resource(self._provider, self._caller_of(ctx), uri)

    async def list_prompts(
        self, ctx: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListPromptsResult:
        return types.ListPromptsResult(prompts=list(prompts.PROMPTS))

    async def get_prompt(self, ctx: Context, params: types.GetPromptRequestParams) -> types.GetPromptResult:
        return prompts.get_prompt(params.name, params.arguments or {})

    async def complete(self, ctx: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
        with _answered(ctx):
            bridge = await self._provider.get()
            found = await completions.complete(bridge, self._caller_of(ctx), params.ref, params.argument)
        return types.CompleteResult(completion=found)

    async def initialized(self, ctx: Context, params: types.NotificationParams) -> None:
        self._bus.attach(connection_of(ctx.session))

    async def subscribe(self, ctx: Context, params: types.SubscribeRequestParams) -> types.EmptyResult:
        uri = str(params.uri)
        with _answered(ctx, uri):
            await resources.require_followable(self._provider, self._caller_of(ctx), uri)
            self._bus.subscribe_uri(connection_of(ctx.session), uri)
        return types.EmptyResult()

    async def listen(
        self, ctx: Context, params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        """The acknowledgement says what is followed of what was asked for: what could be read (2026-07-28,
        "Subscriptions")."""
        wanted = params.notifications
        with _answered(ctx):
            uris = await resources.followable(
                self._provider, self._caller_of(ctx), wanted.resource_subscriptions or ()
            )
            honoured = wanted.model_copy(update={"resource_subscriptions": uris or None})
            return await self._bus.listen(ctx, params.model_copy(update={"notifications": honoured}))

    async def unsubscribe(self, ctx: Context, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
        self._bus.unsubscribe_uri(connection_of(ctx.session), str(params.uri))
        return types.EmptyResult()


@contextmanager
def _answered(ctx: Context, uri: str | None = None) -> Iterator[None]:
    """What goes wrong becomes a JSON-RPC error with a code and a next step."""
    try:
        with foreseen(ctx.method):
            yield
    except BridgeError as error:
        raise protocol_error(error, protocol_version=ctx.protocol_version, uri=uri) from None


def _stdio_caller(settings: JobGroup) -> CallerOf:
    caller = Caller(client=ClientId(settings.client_name), surface="mcp-stdio")
    return lambda _ctx: caller
