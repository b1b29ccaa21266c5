"""Jobs that waited too long, ended by whichever process looks."""

import asyncio
from dataclasses import replace

from comfy_mcp.domain.events import FailureKind
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.store import Lease, Store, expiry
from tests.support.jobs import GRAPH, new_prompt_id, progressed, queued_event, requeued

ENGINE = EngineId("engine")


async def add(store: Store, *, at: int = 1_000, timeout_ms: int | None) -> Job:
    event = replace(queued_event(at=at), queue_timeout_ms=timeout_ms)
    job, _ = await store.add_job(event, GRAPH, max_queued=1_000)
    return job


async def lease(store: Store) -> Lease:
    taken = await store.acquire_lease(ENGINE, "me", 60)
    assert taken is not None
    return taken


async def test_a_job_ends_at_its_deadline_and_not_before(store: Store) -> None:
    job = await add(store, timeout_ms=500)
    assert await store.expire_overdue(now=1_499) == []
    (ended,) = await store.expire_overdue(now=1_500)
    assert (ended.id, ended.status, ended.finished_at) == (job.id, JobStatus.FAILED, 1_500)
    assert ended.failure is not None
    assert ended.failure.kind is FailureKind.TIMEOUT
    assert await store.get_job(job.id) == ended
    assert [stored.event.type for stored in await store.events_after(0)] == ["queued", "failed"]


async def test_what_has_no_deadline_waits_for_ever(store: Store) -> None:
    await add(store, timeout_ms=None)
    assert await store.expire_overdue(now=2**60) == []


async def test_what_an_engine_may_have_is_left_to_its_driver(store: Store) -> None:
    job = await add(store, timeout_ms=500)
    claim = await store.claim_next(await lease(store), prompt_id=new_prompt_id(), now=1_100)
    assert claim is not None
    assert claim.job.id == job.id
    assert await store.expire_overdue(now=9_999) == []


async def test_what_waits_again_has_its_whole_time_again(store: Store) -> None:
    job = await add(store, timeout_ms=500)
    held = await lease(store)
    claim = await store.claim_next(held, prompt_id=new_prompt_id(), now=1_100)
    assert claim is not None
    await store.record(held, job.id, [progressed(claim.job, 0.5), requeued(claim.job, at=5_000)])
    assert await store.expire_overdue(now=5_499) == []
    (ended,) = await store.expire_overdue(now=5_500)
    assert (ended.attempt, ended.progress) == (1, 0.0)
    assert [stored.event.type for stored in await store.events_after(0)] == [
        "queued",
        "claimed",
        "requeued",
        "failed",
    ]


async def test_a_job_beyond_its_deadline_is_not_claimed_nor_said_to_wait(store: Store) -> None:
    await add(store, timeout_ms=500)
    patient = await add(store, timeout_ms=None)
    held = await lease(store)
    claim = await store.claim_next(held, prompt_id=new_prompt_id(), now=1_500)
    assert claim is not None
    assert (claim.job.id, claim.more) == (patient.id, False)
    assert await store.claim_next(held, prompt_id=new_prompt_id(), now=1_500) is None


async def test_many_end_in_batches_and_two_that_look_at_once_end_each_job_once(store: Store) -> None:
    total = expiry.BATCH + 5
    async with asyncio.TaskGroup() as group:
        for _ in range(total):
            group.create_task(add(store, timeout_ms=1))
    async with asyncio.TaskGroup() as group:
        looking = [group.create_task(store.expire_overdue(now=9_999)) for _ in range(2)]
    both = [look.result() for look in looking]
    assert sorted(len(ended) for ended in both) == [5, expiry.BATCH]
    assert len({job.id for ended in both for job in ended}) == total
    assert await store.expire_overdue(now=9_999) == []
