"""A look at a job that nothing has changed since is answered from memory, and never one that is old."""

import asyncio

import pytest

from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.domain.ids import EngineId, JobId
from comfy_mcp.domain.job import JobStatus
from comfy_mcp.settings import Settings
from comfy_mcp.store import JobView, Store
from comfy_mcp.store.view_cache import KEPT, ViewCache
from tests.support.jobs import GRAPH, completed, new_prompt_id, queued_event, started


async def test_a_second_look_reads_nothing_while_nothing_has_changed(settings: Settings) -> None:
    reads: list[float] = []
    store = await Store.open(settings, on_read=reads.append)
    job, _ = await store.add_job(queued_event(), GRAPH, max_queued=10)
    first = await store.view_job(job.id)
    count = len(reads)
    assert count > 0
    assert [await store.view_job(job.id) for _ in range(5)] == [first] * 5
    assert len(reads) == count
    await store.close()
    with pytest.raises(StoreFault):
        await store.view_job(job.id)


async def test_every_write_is_seen_at_the_next_look(store: Store) -> None:
    job, _ = await store.add_job(queued_event(), GRAPH, max_queued=10)
    assert await _status(store, job.id) is JobStatus.QUEUED
    lease = await store.acquire_lease(EngineId("engine"), "me", 60.0)
    assert lease is not None
    claim = await store.claim_next(lease, prompt_id=new_prompt_id(), now=5)
    assert claim is not None
    await store.record(lease, job.id, [started(claim.job)])
    assert await _status(store, job.id) is JobStatus.RUNNING
    await store.record(lease, job.id, [completed(claim.job)])
    assert await _status(store, job.id) is JobStatus.COMPLETED


async def test_what_another_process_wrote_is_seen_at_the_next_look(store: Store, settings: Settings) -> None:
    other = await Store.open(settings)
    job, _ = await store.add_job(queued_event(), GRAPH, max_queued=10)
    assert await _status(store, job.id) is JobStatus.QUEUED
    await other.request_cancel(job.id, at=9, reason=None)
    await asyncio.sleep(0)  # nobody hears of another process's commit in the step in which it is made
    assert await _status(store, job.id) is JobStatus.CANCELLED
    await other.close()


async def test_all_looks_in_one_step_of_the_loop_ask_for_the_version_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, asked = store._database, list[int]()
    ask = database.data_version

    def data_version(_database: object) -> int:
        asked.append(ask())
        return asked[-1]

    monkeypatch.setattr(type(database), "data_version", data_version)
    job, _ = await store.add_job(queued_event(), GRAPH, max_queued=10)
    for looks in range(1, 3):
        assert [await _status(store, job.id) for _ in range(3)] == [JobStatus.QUEUED] * 3
        assert len(asked) == (looks if database.version_is_exact else 0)
        await asyncio.sleep(0)


async def test_the_place_in_the_run_order_changes_with_the_jobs_before(store: Store) -> None:
    first, _ = await store.add_job(queued_event(), GRAPH, max_queued=10)
    second, _ = await store.add_job(queued_event(), GRAPH, max_queued=10)
    assert await _position(store, second.id) == 2
    await store.request_cancel(first.id, at=9, reason=None)
    assert await _position(store, second.id) == 1


async def test_an_unknown_job_is_looked_up_each_time(store: Store) -> None:
    event = queued_event()
    assert await store.view_job(event.job_id) is None
    await store.add_job(event, GRAPH, max_queued=10)
    assert await store.view_job(event.job_id) is not None


async def view(store: Store) -> JobView:
    job, _ = await store.add_job(queued_event(), GRAPH, max_queued=1_000)
    seen = await store.view_job(job.id)
    assert seen is not None
    return seen


async def test_a_look_counts_for_the_version_it_was_taken_under_only(store: Store) -> None:
    seen, cache = await view(store), ViewCache()
    assert cache.get(seen.job.id, 1) is None
    cache.put(seen, 1)
    assert cache.get(seen.job.id, 1) is seen
    assert cache.get(seen.job.id, 2) is None
    cache.put(seen, 1)  # a look that began under the old version
    assert cache.get(seen.job.id, 2) is None


async def test_where_the_version_is_not_known_nothing_is_kept(store: Store) -> None:
    seen, cache = await view(store), ViewCache()
    cache.put(seen, -1)
    assert cache.get(seen.job.id, -1) is None


async def test_so_many_are_kept_and_no_more(store: Store) -> None:
    cache = ViewCache()
    views = [await view(store) for _ in range(KEPT + 1)]
    for each in views:
        cache.get(each.job.id, 1)
        cache.put(each, 1)
    kept = [each for each in views if cache.get(each.job.id, 1) is not None]
    assert 0 < len(kept) <= KEPT
    assert views[-1] in kept


async def _status(store: Store, job_id: JobId) -> JobStatus | None:
    seen = await store.view_job(job_id)
    return seen.job.status if seen is not None else None


async def _position(store: Store, job_id: JobId) -> int | None:
    seen = await store.view_job(job_id)
    return seen.position if seen is not None else None
