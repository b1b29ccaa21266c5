"""What goes wrong while an input file is on its way to the engine. Jobs of these trials have one each."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from tests.faults.stage import Stage
from tests.faults.world import REQUEST_TIMEOUT_S, Bridge
from tests.support.chaos_proxy import LIES, Mode


async def upload_stalls(stage: Stage) -> None:
    """Nothing of a file comes through, for less or for longer than a request may take; all else does."""
    await stage.pause(0, 0.4)
    stage.note("uploads stall")
    over = asyncio.Event()

    async def hold() -> bool:
        await over.wait()
        return stage.rng.random() < 0.5

    stage.world.proxy.during_upload = hold
    await stage.pause(0.3, REQUEST_TIMEOUT_S * 1.5)
    stage.world.proxy.during_upload = None
    over.set()


async def upload_refused(stage: Stage) -> None:
    """The engine's disk is full, or a proxy takes no such body."""
    await stage.pause(0, 0.4)
    stage.note("uploads are refused")
    stage.world.proxy.upload_lie = LIES[stage.rng.choice([Mode.ERROR_500, Mode.HTML, Mode.HALF])]
    await stage.pause(0.3, 3.0)
    stage.world.proxy.upload_lie = None


async def upload_cut(stage: Stage) -> None:
    """The connection breaks after some pieces, a few times."""
    left = [stage.rng.randint(0, 4) for _ in range(stage.rng.randint(1, 4))]
    stage.note(f"uploads break after {left} pieces")

    async def cut() -> bool:
        if left and left[0] <= 0:
            left.pop(0)
            return False
        if left:
            left[0] -= 1
        return True

    stage.world.proxy.during_upload = cut
    await stage.pause(1.0, 2.0)


async def engine_dies_in_upload(stage: Stage) -> None:
    world = stage.world
    if await _reached(stage, "kill the engine in an upload", world.engine.kill):
        await stage.pause(0, 1.0)
    if not world.engine.alive:
        await world.start_engine()
    await stage.pause(0, 0.5)


async def bridge_dies_in_upload(stage: Stage) -> None:
    world = stage.world

    async def kill() -> None:
        victim: Bridge | None = await stage.holder()
        if victim is not None:
            stage.note(f"that is bridge {world.bridges.index(victim)}")
            victim.process.kill()
            await victim.process.wait()

    await _reached(stage, "kill the bridge in an upload", kill)
    if stage.some_bridge() is None or stage.rng.random() < 0.3:
        await world.start_bridge(stage.rng.choice(["serve", "mcp"]))


async def _reached(stage: Stage, what: str, strike: Callable[[], Awaitable[None]]) -> bool:
    """Strike at some piece of an upload, once. False: none came that far."""
    left, hit = stage.rng.randint(0, 3), asyncio.Event()

    async def count() -> bool:
        nonlocal left
        left -= 1
        if left < 0 and not hit.is_set():
            hit.set()
            stage.note(what)
            await strike()
        return True

    stage.world.proxy.during_upload = count
    with suppress(TimeoutError):
        async with asyncio.timeout(3.0):
            await hit.wait()
    stage.world.proxy.during_upload = None
    return hit.is_set()


UPLOADS = (upload_stalls, upload_refused, upload_cut, engine_dies_in_upload, bridge_dies_in_upload)


async def any_in_an_upload(stage: Stage) -> None:
    chosen = stage.rng.choice(UPLOADS)
    stage.note(chosen.__name__)
    await chosen(stage)
