"""Content hashes of outputs: computed when one is first served, and written down beside the answers."""

import asyncio
from collections.abc import AsyncIterator

import structlog
from aiohttp import web

from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.domain.ids import OutputId
from http_sidecar.app_state import BRIDGE

log = structlog.get_logger(__name__)

QUEUE = 1_000
"""Hashes that wait to be written. One that finds no room is dropped: the next answer computes it again."""


class HashLog:
    """Takes hashes without making an answer wait for the store."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[tuple[OutputId, int, str]] = asyncio.Queue(QUEUE)

    def note(self, output_id: OutputId, size: int, sha256: str) -> None:
        if not self._waiting.full():
            self._waiting.put_nowait((output_id, size, sha256))

    async def run(self, app: web.Application) -> None:
        """Write them down until cancelled."""
        while True:
            output_id, size, sha256 = await self._waiting.get()
            try:
                await app[BRIDGE].outputs.keep_hash(output_id, size=size, sha256=sha256)
            except StoreFault as fault:
                log.warning("hash_not_kept", output_id=output_id, code=fault.code.value)


HASHES = web.AppKey("hashes", HashLog)


def setup(app: web.Application) -> None:
    app[HASHES] = HashLog()
    app.cleanup_ctx.append(_running)


async def _running(app: web.Application) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(app[HASHES].run(app), name="output-hashes")
        yield
        writing.cancel()
