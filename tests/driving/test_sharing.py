"""What one process may drive, by the leases in the store."""

import asyncio

import pytest

from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.driving.sharing import Sharing
from comfy_mcp.settings import Settings
from comfy_mcp.store import BRIDGES
from tests.driving.conftest import House
from tests.support.raw_sql import run

A, B = EngineId("a"), EngineId("b")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"lease_ttl_s": 0.2})


def sharing(house: House, holder: str = "me", *engines: EngineId) -> Sharing:
    made = Sharing(house.store, house.settings, house.clock, holder=holder)
    made.know(engines or (A, B))
    return made


async def may(one: Sharing, engine: EngineId) -> bool:
    async with one.turn(engine) as allowed:
        return allowed


async def seen(house: House) -> set[str]:
    return {each for each in await house.store.live_leases() if each.startswith(BRIDGES)}


async def test_who_is_alone_takes_all_that_nobody_drives(house: House) -> None:
    one = sharing(house)
    async with one.turn(A) as first, one.turn(B) as second:
        assert (first, second) == (True, True)
    assert await house.store.acquire_lease(A, "other", 60) is not None
    house.ahead_s += 1
    assert (await may(one, A), await may(one, B)) == (False, True)


async def test_an_engine_that_was_removed_is_driven_until_it_has_ended_what_it_has(house: House) -> None:
    one = sharing(house, "me", A)
    async with one.turn(A):
        assert await may(one, B)


async def test_a_bridge_is_seen_after_a_while_and_by_the_engines_that_it_has_then(house: House) -> None:
    one, counts, reaches = sharing(house), list[int](), [True]
    task = house.group.create_task(one.run(counts.append, lambda: reaches[-1]))
    async with asyncio.timeout(20):
        while not (before := await seen(house)):
            await asyncio.sleep(0)
        one.know([A])
        while (now := await seen(house)) == before or len(now) != 1:
            await asyncio.sleep(0)
        await house.store._writer.do(lambda connection: run(connection, "DELETE FROM engine_leases", ()))
        while await seen(house) != now:  # it was stopped for a while, and taken for dead
            await asyncio.sleep(0)
        reaches.append(False)
        while await seen(house):
            await asyncio.sleep(0)
        reaches.append(True)
        while await seen(house) != now:
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert await seen(house) == set()
    assert set(counts) == {0}


async def test_a_store_that_refuses_to_read_ends_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, refused = house.store.live_leases, 0

    async def live_leases() -> dict[EngineId, str]:
        nonlocal refused
        refused += 1
        if refused <= 2:
            raise StoreFault("The store is locked.", next_step="Wait.")
        return await read()

    monkeypatch.setattr(house.store, "live_leases", live_leases)
    counts: asyncio.Queue[int] = asyncio.Queue()
    task = house.group.create_task(sharing(house).run(counts.put_nowait, lambda: True))
    async with asyncio.timeout(20):
        assert await counts.get() == 0
    assert refused > 2
    task.cancel()
    await asyncio.wait([task])
