"""What a fault may touch in its trial, and what it leaves for the checker."""

import asyncio
import random
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from uuid import uuid4

import aiohttp

from tests.faults.checker import connect
from tests.faults.clients import Clients
from tests.faults.world import Bridge, World


@dataclass(slots=True, kw_only=True)
class Stage:
    world: World
    clients: Clients
    rng: random.Random
    foreign: set[str] = field(default_factory=set)
    foreign_deletes: bool = False
    began: float = field(default_factory=monotonic)

    def note(self, what: str) -> None:
        self.world.notes.append(f"{monotonic() - self.began:.2f} {what}")

    async def pause(self, least: float, most: float) -> None:
        await asyncio.sleep(self.rng.uniform(least, most))

    def some_bridge(self, rng: random.Random | None = None) -> Bridge | None:
        usable = [bridge for bridge in self.world.bridges if bridge.usable]
        return (rng or self.rng).choice(usable) if usable else None

    async def holder(self) -> Bridge | None:
        """The bridge that drives the engine, as the store says."""

        def ask() -> str:
            connection = connect(self.world.store_path)
            try:
                row = connection.execute("SELECT holder FROM engine_leases").fetchone()
                return "" if row is None else str(row[0])
            finally:
                connection.close()

        holder = await asyncio.to_thread(ask)
        pid = holder.partition("-")[0]
        found = [bridge for bridge in self.world.bridges if str(bridge.process.pid) == pid]
        return found[0] if found and found[0].usable else None

    async def at_engine(self, method: str, path: str, **options: Any) -> Any:
        """Somebody else speaks to the engine, past the proxy. None when it does not answer."""
        url = f"http://127.0.0.1:{self.world.proxy.upstream_port}{path}"
        try:
            async with self.world.session.request(method, url, **options) as answer:
                return await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None

    async def submit_foreign(self, *, steps: int = 5) -> str:
        prompt_id = str(uuid4())
        self.foreign.add(prompt_id)
        body = {"prompt": self.world.engine.foreign_graph(steps), "prompt_id": prompt_id}
        await self.at_engine("POST", "/prompt", json=body)
        return prompt_id
