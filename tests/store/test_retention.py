import asyncio
from typing import Any

import pytest

from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.job import Job
from comfy_mcp.settings import Settings
from comfy_mcp.store import JobQuery, Store, retention
from comfy_mcp.store import schema as tables
from comfy_mcp.store.sqlite import database
from tests.support.jobs import (
    GRAPH,
    completed,
    new_prompt_id,
    output_of_job,
    queued_event,
)

DAY = 86_400_000


async def finished(store: Store, at: int) -> Job:
    job, _ = await store.add_job(queued_event(), GRAPH, max_queued=10)
    lease = await store.acquire_lease(EngineId("a"), "me", 60)
    assert lease is not None
    claim = await store.claim_next(lease, prompt_id=new_prompt_id(), now=1)
    assert claim is not None
    assert claim.job.id == job.id
    made = [output_of_job(claim.job)]
    return await store.record(lease, job.id, [completed(claim.job, at, output_count=1)], outputs=made)


async def remaining(store: Store) -> list[str]:
    return [job.id for job in (await store.list_jobs(JobQuery())).items]


async def rows_of(store: Store, job_id: str) -> dict[str, int]:
    def count(connection: Any) -> dict[str, int]:
        return {
            table.name: len(connection.execute(table.select().where(table.c.job_id == job_id)).all())
            for table in (tables.graphs, tables.attempts, tables.events, tables.outputs)
        }

    return await store._readers.do(count)


async def test_old_final_jobs_go_with_all_their_rows(store: Store) -> None:
    old = await finished(store, at=0)
    young = await finished(store, at=5 * DAY)
    assert await rows_of(store, old.id) == {"graphs": 1, "attempts": 1, "events": 3, "outputs": 1}
    assert await store.prune(now=6 * DAY, retention_days=2, retention_jobs=0) == 1
    assert await remaining(store) == [young.id]
    assert await rows_of(store, old.id) == {"graphs": 0, "attempts": 0, "events": 0, "outputs": 0}
    assert (await rows_of(store, young.id))["outputs"] == 1


async def test_only_the_newest_jobs_are_kept(store: Store) -> None:
    jobs = [await finished(store, at=at) for at in range(5)]
    assert await store.prune(now=10, retention_days=0, retention_jobs=2) == 3
    assert await remaining(store) == [jobs[4].id, jobs[3].id]
    assert await store.prune(now=10, retention_days=0, retention_jobs=2) == 0


async def test_zero_means_no_limit(store: Store) -> None:
    job = await finished(store, at=0)
    assert await store.prune(now=1000 * DAY, retention_days=0, retention_jobs=0) == 0
    assert await remaining(store) == [job.id]


async def test_jobs_that_are_not_final_stay(store: Store) -> None:
    waiting, _ = await store.add_job(queued_event(at=0), GRAPH, max_queued=10)
    assert await store.prune(now=1000 * DAY, retention_days=1, retention_jobs=1) == 0
    assert await remaining(store) == [waiting.id]


async def test_many_go_in_several_transactions(store: Store, monkeypatch: Any) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    for at in range(5):
        await finished(store, at=at)
    assert await store.prune(now=1000 * DAY, retention_days=1, retention_jobs=0) == 5
    assert await remaining(store) == []


async def test_processes_that_look_at_once_forget_each_job_once(store: Store, settings: Settings) -> None:
    for at in range(10):
        await finished(store, at=at)
    other = await Store.open(settings)
    try:
        async with asyncio.TaskGroup() as both:
            pruning = [
                both.create_task(each.prune(now=1000 * DAY, retention_days=0, retention_jobs=3))
                for each in (store, other)
            ]
    finally:
        await other.close()
    assert sum(task.result() for task in pruning) == 7
    assert len(await remaining(store)) == 3


@pytest.mark.parametrize("kind", ["wal", "truncate"], indirect=True)
async def test_the_room_of_forgotten_jobs_is_used_again(store: Store) -> None:
    """The file is as large as the jobs that were in it at once, however many there have been."""

    async def pages() -> int:
        return await store._readers.do(
            lambda connection: connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        )

    async def add_and_forget() -> None:
        for at in range(30):
            await finished(store, at=at)
        assert await store.prune(now=1000 * DAY, retention_days=1, retention_jobs=0) == 30

    await add_and_forget()
    after_one_round = await pages()
    for _ in range(3):
        await add_and_forget()
    assert await pages() <= 1.2 * after_one_round


async def test_a_wal_that_grew_in_a_burst_is_cut_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "WAL_SAFE_FROM", (0,))
    monkeypatch.setattr(database, "_WAL_LIMIT_BYTES", 2**20)
    store = await Store.open(settings)
    try:
        for at in range(24):  # fewer commits than bring a checkpoint, more than 1 MiB
            await finished(store, at=at)
        grown = (await store.file_sizes())["wal"]
        store._database.checkpoint()
        await finished(store, at=24)
        assert (await store.file_sizes())["wal"] <= 2**20 < grown
    finally:
        await store.close()
