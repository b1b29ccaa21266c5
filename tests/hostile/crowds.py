"""A client that opens all it can: of what has a share for each client, others get theirs."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import aiohttp

from comfy_mcp.domain.webhooks import EVENTS
from tests.support.graphs import slow
from tests.support.sidecar import WORKFLOW

MEAN, KIND = {"X-API-Key": "mean"}, {"X-API-Key": "kind"}
"""Who means harm, and everybody else."""


@asynccontextmanager
async def mcp_sessions(url: str) -> AsyncIterator[None]:
    """As many as open."""
    async with aiohttp.ClientSession(headers=MEAN) as http:
        opened = 0
        while await mcp_session(http, url) == 200:
            opened += 1
        assert opened > 100
        yield


async def mcp_session(http: aiohttp.ClientSession, url: str) -> int:
    """The status of the answer to a request that opens one."""
    who = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    asked = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": who}
    accepted = {"Accept": "application/json, text/event-stream"}
    async with http.post(f"{url}/mcp", json=asked, headers=accepted) as answer:
        await answer.read()
        return answer.status


@asynccontextmanager
async def all_streams(url: str) -> AsyncIterator[None]:
    """As many as open."""
    async with AsyncExitStack() as stack:
        connector = aiohttp.TCPConnector(limit=0)
        http = await stack.enter_async_context(aiohttp.ClientSession(headers=MEAN, connector=connector))
        status = 200
        while status == 200:
            answer = await stack.enter_async_context(http.get(f"{url}/v1/comfyui/events"))
            status = answer.status
        assert status == 503
        yield


@asynccontextmanager
async def silent_webhooks(url: str) -> AsyncIterator[None]:
    """Events to a hundred ports of one host, of which none answers."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession(url, headers=MEAN))
        async with http.post("/v1/webhooks/secret") as answer:
            assert answer.status == 200
        for _ in range(100):
            port = socket.create_server(("127.0.0.1", 0))
            stack.callback(port.close)
            webhook = {"url": f"http://127.0.0.1:{port.getsockname()[1]}/", "events": list(EVENTS)}
            submitted = {"workflow": slow(steps=1), "webhook": webhook}
            async with http.post(WORKFLOW, json=submitted, headers={"Prefer": "wait=50"}) as answer:
                assert answer.status == 200
        yield


CROWDS: dict[str, Callable[[str], AbstractAsyncContextManager[None]]] = {
    "MCP sessions": mcp_sessions,
    "all streams": all_streams,
}
