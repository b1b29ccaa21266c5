"""How much waits and what engines have, as the gauges count it."""

import pytest

from comfy_mcp.domain.events import Priority
from comfy_mcp.domain.ids import LOCAL, SALAD, EngineId
from comfy_mcp.store import Store
from comfy_mcp.store.backlog import _HELD, _IN_FLIGHT, _WAITING, Backlog
from comfy_mcp.store.connection import Connection
from tests.support.jobs import GRAPH, completed, new_prompt_id, queued_event, started
from tests.support.plans import plan_of

MAX_QUEUED = 100


async def add(store: Store, priority: Priority, lane: str = LOCAL) -> None:
    await store.add_job(queued_event(priority=priority, lane=lane), GRAPH, max_queued=MAX_QUEUED)


async def test_an_empty_store_has_no_backlog(store: Store) -> None:
    assert await store.backlog() == Backlog(queued={}, waiting={}, in_flight={}, held=0)


async def test_what_waits_is_told_from_what_an_engine_has(store: Store) -> None:
    for priority in (Priority.HIGH, Priority.HIGH, Priority.LOW, Priority.LOW, Priority.NORMAL):
        await add(store, priority)
    lease = await store.acquire_lease(EngineId("one"), "me", 60.0)
    other = await store.acquire_lease(EngineId("two"), "me", 60.0)
    assert lease is not None
    assert other is not None
    first = await store.claim_next(lease, prompt_id=new_prompt_id(), now=1_500)
    second = await store.claim_next(lease, prompt_id=new_prompt_id(), now=1_500)
    third = await store.claim_next(other, prompt_id=new_prompt_id(), now=1_500)
    assert first is not None
    assert second is not None
    assert third is not None
    await store.record(lease, first.job.id, [started(first.job)])
    for priority in (Priority.HIGH, Priority.LOW):
        await add(store, priority, SALAD)
    backlog = await store.backlog()
    assert backlog.queued == {LOCAL: 4, SALAD: 2}
    assert backlog.waiting == {Priority.HIGH: 1, Priority.NORMAL: 0, Priority.LOW: 3}
    assert backlog.in_flight == {EngineId("one"): 2, EngineId("two"): 1}
    await store.record(lease, first.job.id, [completed(first.job)])
    assert (await store.backlog()).in_flight == {EngineId("one"): 1, EngineId("two"): 1}


@pytest.mark.parametrize("kind", ["wal", "truncate"], indirect=True)
async def test_counting_reads_no_table(store: Store) -> None:
    def plans(connection: Connection) -> list[str]:
        return [line for each in (_WAITING, _IN_FLIGHT, _HELD) for line in plan_of(connection, each)]

    found = await store._readers.do(plans)
    assert any("COVERING INDEX ix_jobs_queue" in line for line in found)
    assert any("ix_attempts_active" in line for line in found)
    assert any("COVERING INDEX ix_jobs_held" in line for line in found)
    assert [line for line in found if line.startswith("SCAN") and "USING" not in line] == []
