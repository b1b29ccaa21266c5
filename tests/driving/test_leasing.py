"""A holder that was stopped for longer than its lease sends nothing more to the engine."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from comfy_mcp.domain.errors import Fenced, StoreFault
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.driving.clock import Clock, system_clock
from comfy_mcp.driving.leasing import LeaseKeeper
from comfy_mcp.settings import load_settings
from comfy_mcp.store import Lease, Store

ENGINE = EngineId("engine-1")
TTL_S = 30.0


@dataclass(slots=True)
class _Time:
    now: float = 0.0

    def clock(self) -> Clock:
        return Clock(now_ms=lambda: 0, monotonic=lambda: self.now)


async def _house(tmp_path: Path, holder: str) -> tuple[Store, LeaseKeeper, _Time]:
    settings = load_settings(state_dir=tmp_path / "state", lease_ttl_s=TTL_S)
    store, time = await Store.open(settings), _Time()
    lease = await store.acquire_lease(ENGINE, holder, TTL_S)
    assert lease is not None
    return store, LeaseKeeper(lease, store, settings, time.clock()), time


async def _expire(store: Store) -> None:
    def age(connection: Any) -> None:
        connection.exec_driver_sql("UPDATE engine_leases SET expires_at = 1")

    await store._writer.do(age)


async def test_a_holder_that_slept_while_another_took_over_is_told_so(tmp_path: Path) -> None:
    store, keeper, time = await _house(tmp_path, "sleeper")
    try:
        await _expire(store)
        assert await store.acquire_lease(ENGINE, "other", TTL_S) is not None
        await keeper.confirm()  # it can't know yet, and asks nobody as long as its own clock says all is well
        time.now += TTL_S
        with pytest.raises(Fenced):
            await keeper.confirm()
    finally:
        await store.close()


async def test_a_holder_that_slept_and_was_not_missed_goes_on_with_a_new_term(tmp_path: Path) -> None:
    store, keeper, time = await _house(tmp_path, "sleeper")
    try:
        await _expire(store)
        time.now += TTL_S
        await keeper.confirm()
        state = await store.lease_of(ENGINE)
        assert state is not None
        assert (state.holder, state.live) == ("sleeper", True)
    finally:
        await store.close()


class _Silent:
    """A store that answers nothing: its disk, or its server, stands still."""

    def __init__(self) -> None:
        self.asked = 0

    async def renew_lease(self, _lease: Lease, _ttl_s: float) -> None:
        self.asked += 1
        await asyncio.Event().wait()


@pytest.mark.parametrize("ask", [LeaseKeeper.run, LeaseKeeper.confirm])
async def test_a_store_that_does_not_answer_costs_the_lease(ask: Any) -> None:
    """Nothing waits for it for ever: another process has the lease by then."""
    store: Any = _Silent()
    settings: Any = SimpleNamespace(lease_ttl_s=0.03)
    keeper = LeaseKeeper(Lease(engine=ENGINE, holder="me", fence=1), store, settings, system_clock())
    if ask is LeaseKeeper.confirm:
        keeper._renewed_at -= settings.lease_ttl_s
    with pytest.raises(StoreFault, match="did not answer in time"):
        await ask(keeper)
    assert store.asked
