"""A running listener, what it told, and frames for its engine."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from comfy_mcp.domain.events import (
    EngineEvent,
    QueueRemaining,
)
from comfy_mcp.places.comfyui.client import ComfyUIClient
from comfy_mcp.places.comfyui.listener import Listener
from comfy_mcp.settings import Settings
from tests.support.fake_engine import Connection, FakeEngine

SettingsFor = Callable[..., Settings]
E = TypeVar("E", bound=EngineEvent)
DEADLINE_S = 30.0
"""Only ends a test that hangs."""


class Watch:
    """A running listener and what it told."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.told: list[EngineEvent] = []
        self.events: asyncio.Queue[EngineEvent] = asyncio.Queue()

    def hear(self, event: EngineEvent) -> None:
        self.told.append(event)
        self.events.put_nowait(event)

    async def next(self, kind: type[E]) -> E:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                event = await self.events.get()
                if isinstance(event, kind):
                    return event

    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.told if not isinstance(event, QueueRemaining)]


@asynccontextmanager
async def watching(settings: Settings, **options: Any) -> AsyncIterator[Watch]:
    ids = iter(f"id-{number}" for number in range(1000))
    async with ComfyUIClient(settings.engines[0], settings) as client:
        watch = Watch(Listener(client.transport, settings, new_id=lambda: next(ids), **options))
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(watch.listener.run(watch.hear))
            yield watch
            running.cancel()


async def connection_of(engine: FakeEngine) -> Connection:
    async with asyncio.timeout(DEADLINE_S):
        return await engine.connections.get()


async def send_all(engine: FakeEngine, client_id: str, frames: Iterable[str | bytes]) -> None:
    for frame in frames:
        assert await engine.send(client_id, frame)


def progress(value: int) -> dict[str, Any]:
    return {"type": "progress", "data": {"value": value, "max": 9999, "node": "5", "prompt_id": "p"}}


def ended(prompt_id: str = "p") -> dict[str, Any]:
    return {"type": "executing", "data": {"node": None, "prompt_id": prompt_id}}
