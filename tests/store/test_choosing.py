"""Looks for a job: what fits in memory is found by a thread that only reads; of others no graph is read."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from comfy_mcp.domain.events import Priority
from comfy_mcp.store import ClaimOffer, Lease, Store, choosing, claims, turns
from comfy_mcp.store.connection import Connection
from tests.store.test_claims_placing import Engine, needs
from tests.store.test_claims_placing import add as add_of
from tests.store.test_heads import SIZES, STEPS, held, sqlite_only
from tests.store.test_vram import BIG, SMALL, add, admission, claimed, job, look, taught
from tests.support.jobs import new_prompt_id, queued_event, submission
from tests.support.leases import lease_on

__all__ = ["taught"]


async def fill(store: Store, count: int) -> None:
    events = [replace(queued_event(), shape=BIG) for _ in range(count)]
    await store.add_jobs([submission(event, max_queued=10_000) for event in events])


@sqlite_only
@pytest.mark.parametrize("passed", [False, True], ids=["in turn", "passed over"])
async def test_what_fits_behind_many_holds_the_writer_as_long_as_behind_few(
    store: Store, taught: Lease, monkeypatch: pytest.MonkeyPatch, passed: bool
) -> None:
    if passed:  # the big ones are of a priority whose turn it is; what fits is of a higher one
        monkeypatch.setattr(turns, "passed", lambda connection, lane: {Priority.NORMAL.rank: 10_000})
    longest = list[int]()
    for more in (SIZES[0], 800):
        await fill(store, more)
        before = -1
        while before < (before := (await store.backlog()).held):  # until each says what it waits for
            assert await look(store, taught, admission(1)) is None
        small = await add(store, SMALL, priority=Priority.HIGH if passed else Priority.NORMAL)
        with held(store) as steps:
            assert await claimed(store, taught, admission(10)) == small
        longest.append(max(steps))
    assert longest[1] <= 1.1 * longest[0] + STEPS, longest


async def test_a_job_that_somebody_else_was_faster_with_is_looked_for_again(
    store: Store, taught: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    big, first, second = await add(store, BIG), await add(store, SMALL), await add(store, SMALL)
    read, looks = store._readers.do, list[Any]()

    async def slow(work: Callable[[Connection], Any]) -> Any:
        looks.append(await read(work))
        if looks == [choosing.Found(first, [big])]:
            await store.request_cancel(first, at=1_500, reason=None)
        return looks[-1]

    monkeypatch.setattr(store._readers, "do", slow)
    claim = await look(store, taught, admission(10))
    assert claim is not None
    assert claim.job.id == second
    assert looks == [choosing.Found(first, [big]), choosing.Found(second, [])]
    monkeypatch.undo()
    assert (await job(store, big)).waiting_for is not None


@sqlite_only
@pytest.mark.parametrize("at", [None, 1], ids=["takes none", "takes another"])
async def test_no_graph_is_read_of_a_job_that_is_not_claimed(store: Store, at: int | None) -> None:
    for _ in range(2):
        await add_of(store, needs("A"))
    lease = await lease_on(store)
    offer = ClaimOffer(lease=lease, prompt_id=new_prompt_id(), chooser=Engine("A", at=at))
    asked = list[str]()

    def claim(connection: Connection) -> None:
        connection.driver_connection.set_trace_callback(asked.append)
        found = claims.claim_next(connection, offer, 2_000)
        connection.driver_connection.set_trace_callback(None)
        assert (found is None) is (at is None)

    await store._writer.do(claim)
    assert sum("graphs.graph" in each for each in asked) == (0 if at is None else 1)
