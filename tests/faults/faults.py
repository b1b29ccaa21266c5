"""What goes wrong. Each runs beside the clients of its trial, at moments that the seed decides."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from tests.faults import server_faults
from tests.faults.engines import OtherVersion
from tests.faults.stage import Stage
from tests.faults.store_faults import disk_full, store_locked, store_read_only
from tests.faults.world import LEASE_TTL_S, REQUEST_TIMEOUT_S
from tests.support.chaos_proxy import Mode


async def nothing(stage: Stage) -> None:
    await stage.pause(0.2, 0.5)


# ------------------------------------------------------------------------------------- between the two


async def socket_cut(stage: Stage) -> None:
    for _ in range(stage.rng.randint(1, 3)):
        pieces, half = stage.rng.randint(1, 40), stage.rng.random() < 0.5
        stage.note(f"cut the socket after {pieces} pieces, half={half}")
        stage.world.proxy.cut_socket_after(pieces, half=half)
        await stage.pause(0.2, 0.8)


async def socket_silent(stage: Stage) -> None:
    await stage.pause(0, 0.8)
    stage.note("the socket falls silent")
    stage.world.proxy.silence_sockets(True)
    await stage.pause(0.3, 2.5)


async def socket_deaf(stage: Stage) -> None:
    """What ComfyUI does to a client id that another socket had, and to all when one client stops reading."""
    await stage.pause(0, 0.6)
    stage.note("the socket tells nothing")
    stage.world.proxy.deaf = True
    await stage.pause(0.3, 2.5)


async def engine_silent(stage: Stage) -> None:
    await stage.pause(0, 0.8)
    stage.note("nothing comes through")
    stage.world.proxy.mode = Mode.SILENT
    await stage.pause(0.3, 3.0)


async def engine_lies(stage: Stage) -> None:
    for _ in range(stage.rng.randint(1, 3)):
        await stage.pause(0, 0.5)
        mode = stage.rng.choice([Mode.ERROR_500, Mode.HTML, Mode.HALF])
        stage.note(f"answers are {mode}")
        stage.world.proxy.mode = mode
        await stage.pause(0.2, 1.0)
        stage.world.proxy.mode = Mode.PASS


async def engine_unreachable(stage: Stage) -> None:
    await stage.pause(0, 0.8)
    stage.note("connections are refused")
    stage.world.proxy.mode = Mode.REFUSE
    stage.world.proxy.cut()
    await stage.pause(0.3, 2.0)


async def engine_slow(stage: Stage) -> None:
    stage.world.proxy.delay_s = stage.rng.uniform(0.02, 0.4)
    stage.note(f"every piece takes {stage.world.proxy.delay_s:.2f} s")
    await stage.pause(1.0, 2.0)


async def post_lost(stage: Stage) -> None:
    """The connection breaks before the engine has the prompt, or before it can answer; or the prompt is held
    up on its way until the bridge has given up on it."""
    proxy = stage.world.proxy
    how = stage.rng.choice(["lost", "answer lost", "answer lost", "late"])
    left = stage.rng.randint(1, 2)

    async def interfere() -> bool:
        nonlocal left
        left -= 1
        if left < 0:
            return True
        stage.note(f"a POST: {how}")
        if how == "late":
            stage.late_posts = True
            await stage.pause(REQUEST_TIMEOUT_S - 0.3, REQUEST_TIMEOUT_S + 0.6)
        return how == "late"

    if how == "answer lost":
        proxy.before_post_answer = interfere
    else:
        proxy.before_post = interfere
    await stage.pause(1.0, 1.5)


# ------------------------------------------------------------------------------------------ the engine


async def engine_killed(stage: Stage) -> None:
    for _ in range(stage.rng.choice([1, 1, 2])):
        await stage.pause(0.05, 1.0)
        stage.note("kill the engine")
        await stage.world.engine.kill()
        await stage.pause(0, 1.5)
        stage.note("start the engine")
        await stage.world.start_engine()


async def engine_killed_at_post(stage: Stage) -> None:
    """Between the POST and its answer: with the prompt accepted, or just before."""
    world = stage.world
    hit = asyncio.Event()

    async def kill() -> bool:
        if not hit.is_set():
            hit.set()
            stage.note("kill the engine at a POST")
            await world.engine.kill()
        return True

    if stage.rng.random() < 0.5:
        world.proxy.before_post_answer = kill
    else:
        world.proxy.before_post = kill
    with suppress(TimeoutError):
        async with asyncio.timeout(3.0):
            await hit.wait()
    world.proxy.before_post = world.proxy.before_post_answer = None
    await stage.pause(0, 1.0)
    if not world.engine.alive:
        await world.start_engine()
    await stage.pause(0, 0.5)


async def engine_stopped(stage: Stage) -> None:
    await stage.pause(0, 0.8)
    stage.note("stop the engine")
    stage.world.engine.pause()
    await stage.pause(0.3, 4.0)
    stage.note("continue the engine")
    stage.world.engine.go_on()


async def engine_freezes(stage: Stage) -> None:
    """As ComfyUI's loop does after runs, when it collects garbage (point 14)."""
    for _ in range(stage.rng.randint(3, 6)):
        await stage.pause(0.05, 0.5)
        stage.world.engine.pause()
        await stage.pause(0.3, 0.8)
        stage.world.engine.go_on()


SLOW = "BridgeSlowImage"
OTHER_VERSIONS = (
    OtherVersion(version="9.0.0", without=(SLOW,)),
    OtherVersion(version="9.0.1", most={SLOW: {"steps": 2}}),
)
"""In one a class of nodes is gone, in the other it takes less than it did: `slow` graphs are refused."""


async def engine_replaced(stage: Stage) -> None:
    """It goes, and what comes back is another version; perhaps the old one again after that."""
    world = stage.world
    versions = [stage.rng.choice(OTHER_VERSIONS), *stage.rng.choice([[], [], [None]])]
    for version in versions:
        await stage.pause(0.05, 1.0)
        stage.note(f"the engine comes back as {version}")
        await world.engine.kill()
        world.engine.become(version)
        await stage.pause(0, 1.0)
        await world.start_engine()
    await stage.pause(0.2, 0.6)


async def foreign_jobs(stage: Stage) -> None:
    """Somebody works in ComfyUI itself: queues prompts, and now and then clears what is pending."""
    for _ in range(stage.rng.randint(3, 8)):
        await stage.submit_foreign(steps=stage.rng.randint(1, 20))
        await stage.pause(0, 0.3)
    if stage.rng.random() < 0.4:
        stage.foreign_deletes = True
        stage.note("somebody clears the queue")
        await stage.at_engine("POST", "/queue", json={"clear": True})


async def history_evicted(stage: Stage) -> None:
    for _ in range(stage.rng.randint(5, 12)):
        await stage.submit_foreign(steps=1)
        await stage.pause(0, 0.2)
        if stage.rng.random() < 0.2:
            stage.world.proxy.cut(sockets_only=True)


# ----------------------------------------------------------------------------------------- the bridges


async def bridge_killed(stage: Stage) -> None:
    for _ in range(stage.rng.choice([1, 1, 2])):
        await stage.pause(0.02, 0.8)
        victim = await stage.holder() if stage.rng.random() < 0.7 else stage.some_bridge()
        if victim is not None:
            stage.note(f"kill bridge {stage.world.bridges.index(victim)}")
            victim.process.kill()
            await victim.process.wait()
        if stage.some_bridge() is None or stage.rng.random() < 0.3:
            await stage.world.start_bridge(stage.rng.choice(["serve", "mcp"]))


async def killed_somewhere(stage: Stage) -> None:
    """The first bridge has a kill point: wait a while for it, and start another when it has struck."""
    first = stage.world.bridges[0].process
    with suppress(TimeoutError):
        await first.wait(stage.rng.uniform(1.0, 3.0))
        await stage.pause(0, 0.5)
        await stage.world.start_bridge("serve")


async def holder_paused(stage: Stage) -> None:
    await stage.pause(0.1, 0.8)
    holder = await stage.holder()
    if holder is None:
        return
    stage.note(f"pause bridge {stage.world.bridges.index(holder)}, the holder")
    holder.process.pause()
    await stage.pause(LEASE_TTL_S * 1.5, LEASE_TTL_S * 4)
    stage.note("it goes on")
    holder.process.go_on()
    await stage.pause(0.1, 0.5)


async def paused_somewhere(stage: Stage) -> None:
    """The first bridge stops itself at some call, and wakes up when its lease is another's. The call may be
    the POST of a prompt."""
    stage.late_posts = True
    first = stage.world.bridges[0].process
    await stage.pause(LEASE_TTL_S * 2.5, LEASE_TTL_S * 4)
    if first.stopped:
        stage.note("the point struck; the bridge goes on")
    first.go_on()
    await stage.pause(0.2, 0.6)


# --------------------------------------------------------------------------------------------- combined


async def two_at_once(stage: Stage) -> None:
    """Any two of the faults that need nothing prepared."""
    chosen = stage.rng.sample(_combinable(stage), 2)
    stage.note(f"two at once: {', '.join(fault.__name__ for fault in chosen)}")
    async with asyncio.TaskGroup() as both:
        for fault in chosen:
            both.create_task(fault(stage))


async def any_one(stage: Stage) -> None:
    chosen = stage.rng.choice((nothing, *_combinable(stage)))
    stage.note(chosen.__name__)
    await chosen(stage)


def _combinable(stage: Stage) -> Sequence[Callable[[Stage], Coroutine[Any, Any, None]]]:
    return (*COMBINABLE, *(OF_A_FILE if stage.world.server is None else OF_A_SERVER))


COMBINABLE = (
    socket_cut,
    socket_silent,
    socket_deaf,
    engine_silent,
    engine_lies,
    engine_unreachable,
    engine_slow,
    post_lost,
    engine_stopped,
    engine_killed,
    foreign_jobs,
    bridge_killed,
    holder_paused,
)
OF_A_FILE = (store_locked, store_read_only, disk_full)
OF_A_SERVER = (
    server_faults.store_locked,
    server_faults.connections_dropped,
    server_faults.server_restarts,
    server_faults.server_stands_still,
)
