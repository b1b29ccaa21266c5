import asyncio
from typing import Any

import pytest

from comfy_mcp.domain.errors import ErrorCode, Fenced, StoreFault
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.store import Lease, Store, leases
from tests.support.jobs import (
    new_prompt_id,
)
from tests.support.leases import A, B, add, expire, lease_on
from tests.support.raw_sql import run


async def turn_back(store: Store, seconds: int, engine: EngineId = A) -> None:
    """As if the clock had been `seconds` ahead when the lease was written."""

    def later(connection: Any) -> None:
        run(
            connection,
            "UPDATE engine_leases SET expires_at = expires_at + ? WHERE engine = ?",
            (seconds * 1_000, engine),
        )

    await store._writer.do(later)


async def test_one_holder_at_a_time_per_engine(store: Store) -> None:
    mine = await lease_on(store)
    assert mine.fence == 1
    assert await store.acquire_lease(A, "other", 60) is None
    assert (await lease_on(store, B, "other")).engine == B
    state = await store.lease_of(A)
    assert state is not None
    assert (state.holder, state.fence, state.live) == ("me", 1, True)
    assert 0 < state.expires_in_s <= 60


async def test_an_engine_that_nobody_ever_drove_has_no_lease(store: Store) -> None:
    assert await store.lease_of(A) is None


async def test_an_expired_lease_is_taken_over_with_a_higher_fence(store: Store) -> None:
    mine = await lease_on(store)
    await expire(store)
    state = await store.lease_of(A)
    assert state is not None
    assert not state.live
    theirs = await store.acquire_lease(A, "other", 60)
    assert theirs == Lease(engine=A, holder="other", fence=mine.fence + 1)
    with pytest.raises(Fenced) as caught:
        await store.renew_lease(mine, 60)
    assert (caught.value.code, caught.value.retryable) == (ErrorCode.STORE_UNAVAILABLE, False)
    await store.release_lease(mine)
    state = await store.lease_of(A)
    assert state is not None
    assert state.live, "who lost a lease can't release the new holder's"


async def test_an_expired_lease_that_nobody_took_can_be_renewed(store: Store) -> None:
    mine = await lease_on(store)
    await expire(store)
    await store.renew_lease(mine, 60)
    assert await store.acquire_lease(A, "other", 60) is None


async def test_a_lease_from_before_the_clock_went_back_does_not_last_until_then(store: Store) -> None:
    mine = await lease_on(store)
    await turn_back(store, 3_600)
    state = await store.lease_of(A)
    assert state is not None
    assert not state.live, "nobody is given a lease of an hour and a minute"
    theirs = await store.acquire_lease(A, "other", 60)
    assert theirs is not None
    assert theirs.fence > mine.fence


async def test_a_holder_that_lives_keeps_its_lease_over_a_clock_that_went_back(store: Store) -> None:
    mine = await lease_on(store)
    await turn_back(store, 3_600)
    await store.renew_lease(mine, 60)
    assert await store.acquire_lease(A, "other", 60) is None
    state = await store.lease_of(A)
    assert state is not None
    assert 0 < state.expires_in_s <= 60


async def test_a_released_lease_is_free_at_once_and_worth_nothing(store: Store) -> None:
    mine = await lease_on(store)
    await add(store)
    await store.release_lease(mine)
    with pytest.raises(Fenced):
        await store.claim_next(mine, prompt_id=new_prompt_id(), now=1)
    theirs = await store.acquire_lease(A, "other", 60)
    assert theirs is not None
    assert theirs.fence > mine.fence


async def test_asking_again_voids_the_older_lease_of_the_same_holder(store: Store) -> None:
    older = await lease_on(store)
    newer = await lease_on(store)
    assert newer.fence == older.fence + 1
    with pytest.raises(Fenced):
        await store.renew_lease(older, 60)
    await store.renew_lease(newer, 60)


async def test_one_renewal_is_for_all_engines_of_a_process_and_nobody_elses(store: Store) -> None:
    mine, other = await lease_on(store, A), await lease_on(store, B)
    theirs = await lease_on(store, EngineId("c"), "they")
    for engine in (A, B, theirs.engine):
        await expire(store, engine)
    await store.renew_lease(mine, 60)
    states = {engine: await store.lease_of(engine) for engine in (A, B, theirs.engine)}
    assert {engine: state.live for engine, state in states.items() if state is not None} == {
        A: True,
        B: True,
        theirs.engine: False,
    }
    await store.renew_lease(other, 60)


async def test_a_hundred_engines_that_are_renewed_at_one_moment_are_one_transaction(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = [await lease_on(store, EngineId(f"engine-{number}")) for number in range(100)]
    renewed: list[str] = []
    renew = leases.renew

    def counted(connection: Any, holder: str, *more: Any) -> Any:
        renewed.append(holder)
        return renew(connection, holder, *more)

    monkeypatch.setattr(leases, "renew", counted)
    async with asyncio.TaskGroup() as group:
        for lease in held:
            group.create_task(store.renew_lease(lease, 60))
    assert renewed == ["me"]


async def test_a_lease_whose_release_failed_is_not_kept_by_renewing_the_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up, kept = await lease_on(store, A), await lease_on(store, B)

    def fail(*_: Any) -> None:
        raise StoreFault("the disk is full", next_step="try again")

    with monkeypatch.context() as patch:
        patch.setattr(leases, "release", fail)
        with pytest.raises(StoreFault):
            await store.release_lease(given_up)
    await store.renew_lease(kept, 60)
    assert await store.acquire_lease(A, "other", 60) is not None


@pytest.mark.parametrize(
    "instead", [StoreFault("no answer", next_step="try again"), asyncio.CancelledError()]
)
async def test_a_lease_that_nobody_got_is_not_kept_by_renewing_the_others(
    store: Store, instead: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was written, and whoever asked was cancelled, or the connection broke before the answer."""
    kept, write = await lease_on(store, B), store._write

    async def unheard(work: Any) -> None:
        await write(work)
        raise instead

    with monkeypatch.context() as patch:
        patch.setattr(store, "_write", unheard)
        with pytest.raises(type(instead)):
            await store.acquire_lease(A, "me", 60)
    await store.renew_lease(kept, 60)
    assert await store.acquire_lease(A, "other", 60) is not None
    await store.renew_lease(kept, 60)


async def test_the_leases_that_live_are_read_at_once(store: Store) -> None:
    await lease_on(store, A)
    released = await lease_on(store, B)
    await store.release_lease(released)
    await lease_on(store, EngineId("c"), "they")
    await lease_on(store, EngineId("d"), "they")
    await expire(store, EngineId("c"))
    await turn_back(store, 3_600, EngineId("d"))
    assert await store.live_leases() == {A: "me"}


async def test_bridges_that_are_no_more_are_forgotten_and_nothing_else(store: Store) -> None:
    names = [EngineId(f"{leases.BRIDGES}group/{holder}") for holder in ("dead", "alive")]
    dead, alive = [await lease_on(store, name, name.rpartition("/")[2]) for name in names]
    engine = await lease_on(store, A, "dead")
    for each in (dead.engine, A):
        await expire(store, each)
    await store.forget_bridges()
    assert [await store.lease_of(each) is None for each in (*names, A)] == [True, False, False]
    await store.renew_lease(alive, 60)
    await store.renew_lease(engine, 60)  # it was only stopped for a while, and has its engines still
    with pytest.raises(Fenced):
        await store.renew_lease(dead, 60)


async def test_the_memory_of_an_engine_that_nobody_drove_is_kept_and_changes_no_lease(store: Store) -> None:
    mine = await lease_on(store, A)
    await store.keep_gpu_memory({A: 8, B: 24})
    await store.keep_gpu_memory({A: 16})
    assert await store.gpu_memory() == {A: 16, B: 24}
    await store.renew_lease(mine, 60)
    await store.drain(B, at=1)
    assert (await lease_on(store, B)).fence == 1
    assert (await store.gpu_memory(), await store.drained()) == ({A: 16, B: 24}, {B})
