"""Subscribers that come and go: on every kind of stream, for a random while, and leaving in every manner."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from urllib.parse import urlsplit

import aiohttp

from tests.faults.world import KEY
from tests.support.mcp_http import legacy_request, modern_request, next_frame, open_session

WORKFLOW = "/v1/comfyui/workflow"
STAY_S = (0.1, 3.0)
GONE = (aiohttp.ClientError, OSError, TimeoutError, asyncio.IncompleteReadError, AssertionError)
"""A visit that did not come to be: it was cut, or a session timed out between two of its requests."""

HANDSHAKE = (
    "GET /v1/comfyui/stream HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {key}\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
EVENTS = "GET {path} HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {key}\r\n\r\n"


class Crowd:
    """So many at once, as long as `come` runs; whoever leaves is followed by another.

    `some_job` names a workflow to follow, None while there is none.
    """

    def __init__(self, url: str, *, rng: random.Random, some_job: Callable[[], str | None]) -> None:
        self._url = url
        self._rng = rng
        self._some_job = some_job
        self.visits: Counter[str] = Counter()
        """By kind, those that were let in."""
        self.faults: list[str] = []
        self._kinds: tuple[tuple[Callable[[aiohttp.ClientSession], Awaitable[None]], int], ...] = (
            (self._socket, 30),
            (self._socket_torn, 20),
            (self._deaf_socket, 2),
            (self._events, 15),
            (self._events_torn, 15),
            (self._listen, 8),
            (self._mcp_session, 4),
        )

    async def come(self, size: int) -> None:
        """Until cancelled; then they all go at once."""
        async with (
            aiohttp.ClientSession(
                headers={"X-API-Key": KEY},
                timeout=aiohttp.ClientTimeout(total=60),
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
            ) as session,
            asyncio.TaskGroup() as tasks,
        ):
            for _ in range(size):
                tasks.create_task(self._place(session))

    async def _place(self, session: aiohttp.ClientSession) -> None:
        kinds, weights = zip(*self._kinds, strict=True)
        while True:
            (visit,) = self._rng.choices(kinds, weights)
            with suppress(*GONE):
                await visit(session)

    async def _stays(self, reading: Awaitable[object]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._rng.uniform(*STAY_S)):
                await reading

    # ------------------------------------------------------------------ politely

    async def _socket(self, session: aiohttp.ClientSession) -> None:
        """On all workflows, or on one, or on all from some time ago."""
        async with session.ws_connect(f"{self._url}/v1/comfyui/stream") as socket:
            self.visits["WebSocket"] += 1
            wanted = self._rng.choice(["*", "*", self._some_job() or "*"])
            ask = {"type": "subscribe", "workflowId": wanted}
            if wanted == "*" and self._rng.random() < 0.1:
                await socket.send_json({"type": "ping"})
                ask["since"] = max(0, (await socket.receive_json(timeout=20))["seq"] - 20)
            await socket.send_json(ask)
            await self._stays(self._read_socket(socket))

    async def _read_socket(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        last = 0
        async for message in socket:
            said = json.loads(message.data)
            if "workflowId" in said:
                if said["seq"] < last + (said["type"] != "workflow:progress"):
                    self.faults.append(f"a WebSocket went from {last} back to {said['seq']}")
                last = said["seq"]

    async def _events(self, session: aiohttp.ClientSession) -> None:
        async with session.get(f"{self._url}{self._events_path()}") as answer:
            self.visits["SSE"] += answer.status == 200
            await self._stays(_read(answer.content))

    async def _listen(self, session: aiohttp.ClientSession) -> None:
        """MCP 2026-07-28."""
        uris = ["comfy://queue", f"comfy://workflows/{self._some_job()}"]
        asked = {"notifications": {"resourcesListChanged": True, "resourceSubscriptions": uris}}
        async with session.post(
            f"{self._url}/mcp", **modern_request("subscriptions/listen", asked)
        ) as answer:
            self.visits["MCP listen"] += answer.status == 200
            await self._stays(_frames(answer))

    async def _mcp_session(self, session: aiohttp.ClientSession) -> None:
        """MCP 2025-11-25: ended, or left to time out."""
        url = f"{self._url}/mcp"
        opened = await open_session(session, url)
        self.visits["MCP session"] += 1
        follow = legacy_request("resources/subscribe", {"uri": "comfy://queue"}, session=opened)
        async with session.post(url, **follow) as answer:
            await answer.read()
        headers = follow["headers"]
        async with session.get(url, headers=headers | {"Accept": "text/event-stream"}) as answer:
            await self._stays(_frames(answer))
        if self._rng.random() < 0.7:
            async with session.delete(url, headers=headers) as answer:
                await answer.read()

    # ------------------------------------------------------------------ without a word

    async def _socket_torn(self, _session: aiohttp.ClientSession) -> None:
        await self._torn("WebSocket, torn", HANDSHAKE, _FOLLOW_ALL, reads=True)

    async def _deaf_socket(self, _session: aiohttp.ClientSession) -> None:
        await self._torn("WebSocket, never reads", HANDSHAKE, _FOLLOW_ALL, reads=False)

    async def _events_torn(self, _session: aiohttp.ClientSession) -> None:
        await self._torn("SSE, torn", EVENTS.replace("{path}", self._events_path()), b"", reads=True)

    async def _torn(self, name: str, request: str, then: bytes, *, reads: bool) -> None:
        """Bytes on a socket, which is reset in the end."""
        place = urlsplit(self._url)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        try:
            writer.write(request.format(host=place.netloc, key=KEY).encode())
            head = await reader.readuntil(b"\r\n\r\n")
            self.visits[name] += head.startswith((b"HTTP/1.1 101", b"HTTP/1.1 200"))
            writer.write(then)
            await self._stays(_read(reader) if reads else asyncio.Event().wait())
        finally:
            writer.transport.abort()

    def _events_path(self) -> str:
        return f"{WORKFLOW}/{self._some_job() or 'none'}/events"


_SAYS = b'{"type": "subscribe", "workflowId": "*"}'
_FOLLOW_ALL = bytes([0x81, 0x80 | len(_SAYS)]) + bytes(4) + _SAYS
"""A text frame as RFC 6455 has it, masked with zeros."""


async def _read(stream: asyncio.StreamReader | aiohttp.StreamReader) -> None:
    while await stream.read(64 * 1024):
        pass


async def _frames(answer: aiohttp.ClientResponse) -> None:
    while await next_frame(answer) is not None:
        pass
