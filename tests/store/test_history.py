"""The attempts of a job and of what it retries; whose prompts those of an engine are; failures by kind."""

from dataclasses import replace

from comfy_mcp.domain.events import FailureKind, JobFailure
from comfy_mcp.domain.ids import EngineId, JobId
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.store import JobQuery, Lease, Store, history
from tests.support.jobs import (
    GRAPH,
    completed,
    failed,
    new_job_id,
    new_prompt_id,
    queued_event,
    requeued,
    started,
)

ENGINE = EngineId("engine")


async def add(store: Store, retry_of: JobId | None = None) -> Job:
    event = replace(queued_event(), retry_of=retry_of)
    job, _ = await store.add_job(event, GRAPH, max_queued=1_000)
    return job


async def lease(store: Store) -> Lease:
    taken = await store.acquire_lease(ENGINE, "me", 60)
    assert taken is not None
    return taken


async def claim(store: Store, held: Lease, at: int = 1_500) -> Job:
    claimed = await store.claim_next(held, prompt_id=new_prompt_id(), now=at)
    assert claimed is not None
    return claimed.job


async def test_every_attempt_is_told_with_its_prompt_times_and_outcome(store: Store) -> None:
    job, held = await add(store), await lease(store)
    first = await claim(store, held, at=1_500)
    await store.record(held, job.id, [started(first), requeued(first, at=2_500)])
    second = await claim(store, held, at=2_600)
    running = await store.attempts_of(job.id)
    await store.record(held, job.id, [started(second), failed(second, at=3_000)])
    done = await store.attempts_of(job.id)

    assert [each.outcome for each in running] == ["requeued", "active"]
    assert (running[1].finished_at, running[1].reason) == (None, None)
    assert [
        (each.attempt, each.prompt_id, each.claimed_at, each.finished_at, each.outcome, each.reason)
        for each in done
    ] == [
        (1, first.prompt_id, 1_500, 2_500, "requeued", "the engine was restarted"),
        (2, second.prompt_id, 2_600, 3_000, "failed", "It broke."),
    ]
    assert {(each.job_id, each.engine) for each in done} == {(job.id, ENGINE)}


async def test_a_job_that_failed_while_it_waited_again_keeps_why_the_attempt_was_lost(store: Store) -> None:
    job, held = await add(store), await lease(store)
    first = await claim(store, held)
    waiting = await store.record(held, job.id, [requeued(first)])
    await store.record(held, job.id, [failed(waiting)])
    (attempt,) = await store.attempts_of(job.id)
    assert (attempt.outcome, attempt.reason) == ("requeued", "the engine was restarted")


async def test_a_retrys_list_begins_with_the_attempts_of_what_it_retries(store: Store) -> None:
    held = await lease(store)
    old = await add(store)
    first = await claim(store, held)
    await store.record(held, old.id, [started(first), failed(first)])
    retry = await add(store, retry_of=old.id)
    again = await add(store, retry_of=retry.id)
    second = await claim(store, held)
    await store.record(held, retry.id, [started(second), completed(second)])
    assert [(each.job_id, each.outcome) for each in await store.attempts_of(again.id)] == [
        (old.id, "failed"),
        (retry.id, "completed"),
    ]
    assert [each.job_id for each in await store.attempts_of(old.id)] == [old.id]


async def test_a_chain_of_retries_is_followed_so_far_and_over_forgotten_jobs_not_at_all(store: Store) -> None:
    held = await lease(store)
    last: JobId | None = new_job_id()  # forgotten long ago
    for _ in range(history.MAX_CHAIN + 3):
        job = await add(store, retry_of=last)
        claimed = await claim(store, held)
        await store.record(held, job.id, [failed(claimed)])
        last = job.id
    assert last is not None
    assert len(await store.attempts_of(last)) == history.MAX_CHAIN
    assert await store.attempts_of(new_job_id()) == []


async def test_prompts_that_no_process_of_the_store_chose_are_foreign(store: Store) -> None:
    await add(store)
    ours = (await claim(store, await lease(store))).prompt_id
    assert ours is not None
    others = [new_prompt_id() for _ in range(history.ASKED_AT_ONCE + 1)]
    assert await store.own_prompts([*others, ours]) == {ours}
    assert await store.own_prompts([]) == set()


async def test_failed_jobs_are_listed_by_kind(store: Store) -> None:
    held = await lease(store)
    for kind in (FailureKind.OOM, FailureKind.NODE_ERROR):
        job = await add(store)
        claimed = await claim(store, held)
        failure = JobFailure(kind=kind, message="It broke.")
        await store.record(held, job.id, [replace(failed(claimed), failure=failure)])
    await add(store)
    page = await store.list_jobs(JobQuery(failure_kind=FailureKind.OOM))
    assert [(job.status, job.failure and job.failure.kind) for job in page.items] == [
        (JobStatus.FAILED, FailureKind.OOM)
    ]
    queued = JobQuery(failure_kind=FailureKind.OOM, statuses=[JobStatus.QUEUED])
    assert (await store.list_jobs(queued)).items == ()
