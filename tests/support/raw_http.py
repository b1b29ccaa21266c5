"""HTTP as no library would send it: bytes on a socket, and what comes back."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.operations.services import Services
from comfy_mcp.settings import Settings
from http_sidecar.api_keys import KeyRing
from http_sidecar.app import build_app
from http_sidecar.bounds import Bounds
from http_sidecar.drain import Drain
from http_sidecar.process.runner import Runner

LIMIT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RawAnswer:
    status: int
    headers: CIMultiDict[str]
    data: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.data)


class RawClient:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *pieces: bytes) -> None:
        """As far as the server takes it: one that has hung up takes nothing more."""
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                self._writer.write(piece)
                await self._writer.drain()

    async def answer(self) -> RawAnswer:
        async with asyncio.timeout(LIMIT_S):
            status = int((await self._reader.readline()).split()[1])
            headers: CIMultiDict[str] = CIMultiDict()
            while line := (await self._reader.readline()).rstrip():
                name, _, value = line.decode("latin-1").partition(":")
                headers.add(name, value.strip())
            data = await self._reader.readexactly(int(headers["Content-Length"]))
        return RawAnswer(status=status, headers=headers, data=data)

    async def closed(self) -> bytes:
        """What comes until the server hangs up."""
        async with asyncio.timeout(LIMIT_S):
            with contextlib.suppress(ConnectionError):
                return await self._reader.read()
        return b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """The application as `serve` runs it."""

    port: int
    drain: Drain

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[RawClient]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**20)
        try:
            yield RawClient(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def ask(self, *pieces: bytes) -> RawAnswer:
        """On a connection of its own."""
        async with self.connect() as client:
            await client.send(*pieces)
            return await client.answer()


@asynccontextmanager
async def listening(
    services: Services,
    settings: Settings,
    bounds: Bounds = Bounds(),  # noqa: B008 - frozen
) -> AsyncIterator[Listening]:
    drain = Drain()
    app = build_app(
        Bridge(services), settings, keys=KeyRing(settings, services.store), drain=drain, bounds=bounds
    )
    runner = Runner(app, send_timeout_s=bounds.send_timeout_s)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield Listening(port=runner.addresses[0][1], drain=drain)
    finally:
        await runner.cleanup()
