"""What goes wrong between a bridge and the services that run workflows for money."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any

from tests.faults import faults
from tests.faults.checker import connect
from tests.faults.stage import Stage
from tests.support.chaos_proxy import Mode
from tests.support.cloud_service import Meddle

BUDGET = 0.05
SETTINGS = {
    "CLOUD_PRICE": "3.6",
    "CLOUD_BUDGET": str(BUDGET),
    "CLOUD_BUDGET_JOB": "0.02",
    "SPILL_WAIT_S": "0",
}
"""Two jobs at services at once; a second of running costs a fiftieth of the budget."""

LOOK_S = 0.05


def within_budget(fault: Callable[[Stage], Awaitable[None]]) -> Callable[[Stage], Coroutine[Any, Any, None]]:
    """The fault, while it is watched that what is reserved and spent never exceeds the budget. Mostly without
    an engine, so that a service is where `auto` goes."""

    @wraps(fault)
    async def watched(stage: Stage) -> None:
        if stage.rng.random() < 0.7:
            stage.note("connections to the engine are refused")
            stage.world.proxy.mode = Mode.REFUSE
            stage.world.proxy.cut()
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(_watch(stage))
            await fault(stage)
            await stage.pause(0.5, 2.0)
            watcher.cancel()
        stage.complain(await asyncio.to_thread(overspent, stage))

    return watched


async def _watch(stage: Stage) -> None:
    while not stage.violations:
        stage.complain(await asyncio.to_thread(overspent, stage))
        await asyncio.sleep(LOOK_S)


def overspent(stage: Stage) -> list[str]:
    connection = connect(stage.world.store)
    try:
        amounts = [amount for (amount,) in connection.execute("SELECT amount FROM spending")]
    finally:
        connection.close()
    return [f"{amount} of {BUDGET * 1e6:.0f} are spent" for amount in amounts if amount > BUDGET * 1e6]


@within_budget
async def answers_lost(stage: Stage) -> None:
    """A request does not arrive, or what it did is not answered."""
    await _meddling(stage, [Meddle.UNSEEN, Meddle.UNANSWERED, Meddle.UNANSWERED], part=0.4)


@within_budget
async def busy(stage: Stage) -> None:
    await _meddling(stage, [Meddle.BUSY, Meddle.BUSY, Meddle.BROKEN], part=0.6)


@within_budget
async def bridge_killed(stage: Stage) -> None:
    await faults.bridge_killed(stage)


@within_budget
async def killed_somewhere(stage: Stage) -> None:
    await faults.killed_somewhere(stage)


async def _meddling(stage: Stage, ways: list[Meddle], *, part: float) -> None:
    assert stage.world.cloud is not None
    stage.note(f"of the requests to services {part:.0%} are {', '.join(way.value for way in ways)}")
    stage.world.cloud.meddle = lambda _method: (
        stage.rng.choice(ways) if stage.rng.random() < part else Meddle.NOTHING
    )
    await stage.pause(1.5, 3.0)
    stage.world.cloud.meddle = lambda _method: Meddle.NOTHING
