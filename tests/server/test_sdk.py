"""If this fails after an upgrade of `mcp`, comfy_mcp/server/sdk.py is the one place to mend."""

from typing import Any

from mcp.client import Client
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp_types import ListToolsResult, PaginatedRequestParams

from comfy_mcp.server.sdk import connection_of


async def test_the_connection_behind_two_requests_is_one_object_and_closes_with_the_client() -> None:
    seen: list[Connection] = []
    closed: list[str] = []

    async def on_list_tools(
        ctx: ServerRequestContext[Any, Any], params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        seen.append(connection_of(ctx.session))
        if len(seen) == 1:
            seen[0].exit_stack.callback(closed.append, "closed")
        return ListToolsResult(tools=[])

    async with Client(Server("probe", on_list_tools=on_list_tools), mode="legacy") as client:
        await client.list_tools(cache_mode="bypass")
        await client.list_tools(cache_mode="bypass")
        assert isinstance(seen[0], Connection)
        assert seen[0] is seen[1]
        assert closed == []
    assert closed == ["closed"]
