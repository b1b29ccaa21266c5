"""What a fault may touch in its trial, and what it leaves for the checker."""

import asyncio
import random
from contextlib import closing, suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from uuid import uuid4

import aiohttp
import psycopg

from tests.faults.checker import connect
from tests.faults.clients import FINAL, Clients, Submitted
from tests.faults.world import AIMED_AT, Bridge, World


@dataclass(slots=True, kw_only=True)
class Stage:
    world: World
    clients: Clients
    rng: random.Random
    foreign: set[str] = field(default_factory=set)
    foreign_deletes: bool = False
    late_posts: bool = False
    store_lost: bool = False
    """A damaged store was set aside: what it had is out of reach."""
    violations: list[str] = field(default_factory=list)
    """What a fault saw that must not be."""
    began: float = field(default_factory=monotonic)

    def note(self, what: str) -> None:
        self.world.notes.append(f"{monotonic() - self.began:.2f} {what}")

    def complain(self, what: list[str]) -> None:
        self.violations += what

    async def until_final(self, bridge: Bridge, entry: Submitted, limit_s: float) -> str | None:
        """The final state, or the one that it still has when the time is over."""
        state = None
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while (state := await self.clients.status(bridge, entry)) not in FINAL:
                    await asyncio.sleep(0.05)
        return state

    async def pause(self, least: float, most: float) -> None:
        await asyncio.sleep(self.rng.uniform(least, most))

    def some_bridge(self, rng: random.Random | None = None) -> Bridge | None:
        usable = [bridge for bridge in self.world.bridges if bridge.usable]
        return (rng or self.rng).choice(usable) if usable else None

    async def holder(self) -> Bridge | None:
        """The bridge that drives the engine, as the store says: of several, the one that faults are aimed
        at. None while another fault keeps the store from saying it."""

        def ask() -> str:
            try:
                with closing(connect(self.world.store)) as connection:
                    holders = dict(connection.execute("SELECT engine, holder FROM engine_leases").fetchall())
            except psycopg.OperationalError:
                return ""
            return str(holders.get(AIMED_AT) or next(iter(holders.values()), ""))

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
