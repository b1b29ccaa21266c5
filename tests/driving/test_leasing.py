"""A holder that was stopped for longer than its lease sends nothing more to the engine."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from comfy_mcp.domain.errors import Fenced
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.driving.clock import Clock
from comfy_mcp.driving.leasing import LeaseKeeper
from comfy_mcp.settings import load_settings
from comfy_mcp.store import Store

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
