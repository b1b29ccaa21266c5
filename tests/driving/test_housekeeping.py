"""One process of those that share a store sweeps it, and another takes over."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.driving.housekeeping import SWEEP, Sweeper
from comfy_mcp.settings import Settings
from comfy_mcp.store import Lease, LeaseState
from tests.driving.conftest import House
from tests.support.raw_sql import run


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"lease_ttl_s": 0.2})


class Looked:
    """The house's store, which counts the looks of one process. The first is refused."""

    def __init__(self, house: House) -> None:
        self._store = house.store
        self.looks = 0
        self.thrice = asyncio.Event()

    async def lease_of(self, engine: Any) -> LeaseState | None:
        self.looks += 1
        if self.looks == 1:
            raise StoreFault("The store is locked.", next_step="Wait.")
        if self.looks == 4:
            self.thrice.set()
        return await self._store.lease_of(engine)

    async def acquire_lease(self, *given: Any) -> Lease | None:
        return await self._store.acquire_lease(*given)

    async def renew_lease(self, *given: Any) -> None:
        await self._store.renew_lease(*given)

    async def release_lease(self, lease: Lease) -> None:
        await self._store.release_lease(lease)


@asynccontextmanager
async def standing(house: House, holder: str, store: Any = None) -> AsyncIterator[Sweeper]:
    """A process that would sweep, until the context ends."""
    sweeper = Sweeper(store or house.store, house.settings, house.clock, holder=holder)
    task = house.group.create_task(sweeper.run())
    yield sweeper
    task.cancel()
    await asyncio.wait([task])


async def changed(house: House, values: str) -> None:
    """The lease, as somebody else left it."""
    text = f"UPDATE engine_leases SET {values} WHERE engine = ?"
    await house.store._writer.do(lambda connection: run(connection, text, (SWEEP,)))


async def test_one_is_elected_and_another_follows_once_it_has_left(house: House) -> None:
    looked = Looked(house)
    async with asyncio.timeout(20), standing(house, "a") as first:
        await first.elected.wait()
        async with standing(house, "b", looked) as second:
            await looked.thrice.wait()
            assert first.elected.is_set()
            assert not second.elected.is_set()
        async with standing(house, "c") as third:
            assert not third.elected.is_set()
    assert not first.elected.is_set()


async def test_the_next_one_is_elected_at_once_when_the_first_gives_it_back(house: House) -> None:
    async with asyncio.timeout(20):
        async with standing(house, "a") as first:
            await first.elected.wait()
        async with standing(house, "b") as second:
            await second.elected.wait()


async def test_one_that_has_lost_its_lease_sweeps_no_more_until_it_is_elected_again(house: House) -> None:
    async with asyncio.timeout(20), standing(house, "a") as sweeper:
        await sweeper.elected.wait()
        await changed(
            house, "holder = 'b', fence = fence + 1, expires_at = 9000000000000, ttl_ms = 9000000000000"
        )
        while sweeper.elected.is_set():
            await asyncio.sleep(0)
        await changed(house, "expires_at = 1")  # b has died
        await sweeper.elected.wait()
