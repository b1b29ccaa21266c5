"""The sidecar's streams as a client reads them: a WebSocket, and Server-Sent Events."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.support.sidecar import LIMIT_S, WORKFLOW, Sidecar

STREAM = "/v1/comfyui/stream"
FINAL = frozenset({"workflow:completed", "workflow:error", "workflow:cancelled"})


@dataclass(slots=True)
class Socket:
    """A WebSocket that keeps what it heard."""

    ws: aiohttp.ClientWebSocketResponse
    heard: list[dict[str, Any]] = field(default_factory=list)

    async def send(self, kind: str, workflow_id: str | None = None, **more: Any) -> None:
        named = {} if workflow_id is None else {"workflowId": workflow_id}
        await self.ws.send_json({"type": kind, **named, **more})

    async def next(self) -> dict[str, Any]:
        message = await self.ws.receive(LIMIT_S)
        assert message.type is aiohttp.WSMsgType.TEXT, message
        said: dict[str, Any] = json.loads(message.data)
        self.heard.append(said)
        return said

    async def until(self, *kinds: str) -> dict[str, Any]:
        """The next message of one of these types; those before it are in `heard`."""
        while (said := await self.next())["type"] not in kinds:
            pass
        return said

    async def in_order(self) -> None:
        """Until everything that was asked before has been answered."""
        await self.send("ping")
        await self.until("pong")


@asynccontextmanager
async def stream(sidecar: Sidecar, path: str = STREAM, **options: Any) -> AsyncIterator[Socket]:
    """`options` are those of aiohttp's ws_connect."""
    async with sidecar.session.ws_connect(f"{sidecar.url}{path}", **options) as ws:
        yield Socket(ws)


async def server_sent(
    sidecar: Sidecar, job: str, *, last_event_id: str | None = None, **options: Any
) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """(id, message) of one workflow's events, to the end of the answer."""
    headers = dict(options.pop("headers", {}))
    if last_event_id is not None:
        headers["Last-Event-ID"] = last_event_id
    url = f"{sidecar.url}{WORKFLOW}/{job}/events"
    async with (
        asyncio.timeout(LIMIT_S),
        sidecar.session.get(url, headers=headers, **options) as response,
    ):
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        fields: dict[str, str] = {}
        async for line in response.content:
            name, _, value = line.decode().rstrip("\r\n").partition(": ")
            if name:
                fields[name] = value
            elif "data" in fields:
                yield fields.get("id", ""), json.loads(fields["data"])
                fields = {}
