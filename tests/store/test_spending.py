"""The day's budget for services: reserved with the job, settled with its end, and never exceeded."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from comfy_mcp.domain.days import DAY_MS
from comfy_mcp.domain.errors import ErrorCode, LimitExceeded
from comfy_mcp.domain.events import JobQueued
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.job import Job
from comfy_mcp.domain.spending import HOUR_MS, Spend
from comfy_mcp.settings import Settings
from comfy_mcp.store import Claim, Lease, Store, spending
from tests.support import jobs
from tests.support.jobs import GRAPH, new_prompt_id, queued_event, submission
from tests.support.plans import plan_of

LANE = "salad"
BUDGET, EACH = 10_000, 1_000


def event(at: int = 1_000, *, shape: str | None = None, **spend: Any) -> JobQueued:
    known = {"per_hour": 3_600, "reserved": EACH, "budget": BUDGET} | spend
    return replace(queued_event(at=at, lane=LANE), spend=Spend(**known), shape=shape)


async def add(store: Store, queued: JobQueued) -> Job:
    return (await store.add_job(queued, GRAPH, max_queued=1_000))[0]


async def lease_of(store: Store) -> Lease:
    lease = await store.acquire_lease(EngineId(LANE), "me", 60)
    assert lease is not None
    return lease


async def claim(store: Store, lease: Lease) -> Claim:
    found = await store.claim_next(lease, prompt_id=new_prompt_id(), now=2, lane=LANE)
    assert found is not None
    return found


@pytest.fixture
async def other(store: Store, settings: Settings) -> AsyncIterator[Store]:
    """A second process on the same database."""
    other = await Store.open(settings)
    yield other
    await other.close()


async def test_concurrent_submitters_never_reserve_more_than_the_budget(store: Store, other: Store) -> None:
    """Each sees the budget full at another moment; some end meanwhile, and cost less than was reserved."""
    rng = random.Random(7)
    refused = most = 0
    lease = await lease_of(store)

    async def submit(which: Store) -> None:
        nonlocal refused, most
        try:
            await add(which, event(reserved=rng.randint(1, 2 * EACH)))
        except LimitExceeded as error:
            refused += error.code is ErrorCode.BUDGET_SPENT
        most = max(most, await which.spent(at=1_000))

    async def end_one() -> None:
        nonlocal most
        found = await store.claim_next(lease, prompt_id=new_prompt_id(), now=2, lane=LANE)
        if found is not None:
            assert found.job.spend is not None
            paid_ms = found.job.spend.reserved * HOUR_MS // found.job.spend.per_hour
            end = replace(jobs.completed(found.job), ran_ms=rng.randint(0, paid_ms))
            await store.record(lease, found.job.id, [end])
            most = max(most, await other.spent(at=1_000))

    async with asyncio.TaskGroup() as group:
        for number in range(60):
            group.create_task(submit((store, other)[number % 2]))
            if number % 4 == 0:
                group.create_task(end_one())
    assert refused
    assert 0 < most <= BUDGET


async def test_what_a_store_counts_is_the_sum_over_its_jobs(store: Store, other: Store) -> None:
    lease = await lease_of(store)
    ids = [(await add(each, event())).id for each in (store, other, store)]
    first = (await claim(store, lease)).job
    await store.record(lease, first.id, [jobs.started(first, 2_000), jobs.requeued(first, 2_000 + HOUR_MS)])
    again = (await claim(store, lease)).job
    assert await store.spent(at=1_000) == 3_600 + 2 * EACH  # it has cost more than was reserved for it
    await store.record(lease, again.id, [jobs.completed(again, 3_000)])
    await other.request_cancel(ids[2], at=5, reason=None)
    found = [await store.get_job(each) for each in ids]
    counted = [each.spend.counted for each in found if each is not None and each.spend is not None]
    assert counted == [3_600, EACH, 0]
    assert await other.spent(at=1_000) == sum(counted)


async def test_a_day_has_its_own_budget_and_a_job_counts_on_that_of_its_submit(store: Store) -> None:
    await add(store, event(reserved=BUDGET))
    with pytest.raises(LimitExceeded) as caught:
        await add(store, event(at=DAY_MS - 1))
    assert "0 of 0.01 left" in caught.value.message
    await add(store, event(at=DAY_MS))
    assert [await store.spent(at=at) for at in (0, DAY_MS, 2 * DAY_MS)] == [BUDGET, EACH, 0]


async def test_of_several_that_go_together_all_are_reserved_or_none(store: Store) -> None:
    several = [submission(event(reserved=BUDGET // 2)) for _ in range(3)]
    with pytest.raises(LimitExceeded):
        await store.add_jobs(several)
    assert await store.spent(at=1_000) == 0
    await store.add_jobs(several[:2])
    assert await store.spent(at=1_000) == BUDGET


async def test_without_a_budget_the_cost_is_counted_all_the_same(store: Store) -> None:
    await add(store, event(reserved=0, budget=None))
    assert await store.spent(at=1_000) == 0
    lease = await lease_of(store)
    job = (await claim(store, lease)).job
    await store.record(lease, job.id, [replace(jobs.completed(job), ran_ms=HOUR_MS)])
    assert await store.spent(at=1_000) == 3_600


async def test_whether_such_a_workflow_runs_in_a_lane_is_what_the_last_one_said(store: Store) -> None:
    lease = await lease_of(store)
    for how, runs in ((jobs.completed, True), (jobs.failed, False), (jobs.cancelled, False)):
        await add(store, event(shape="a", budget=None))
        job = (await claim(store, lease)).job
        await store.record(lease, job.id, [how(job)])
        assert await store.has_run(LANE, "a") is runs
    assert not await store.has_run(LANE, "b")
    assert not await store.has_run("comfy-api-v2", "a")


@pytest.mark.parametrize("kind", ["wal"])
async def test_what_ran_there_is_found_by_an_index(store: Store) -> None:
    plan = " | ".join(await store._readers.do(lambda connection: plan_of(connection, spending._LAST)))
    assert "USING INDEX ix_jobs_elsewhere" in plan, plan
    assert "TEMP B-TREE" not in plan, plan
