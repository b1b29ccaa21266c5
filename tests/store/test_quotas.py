"""How much of the queue one client may fill."""

import contextlib
from dataclasses import replace
from typing import Any

import pytest

from comfy_mcp.domain.access import ApiKey, Right, digest_of
from comfy_mcp.domain.days import DAY_MS
from comfy_mcp.domain.errors import ErrorCode, LimitExceeded
from comfy_mcp.domain.gpu_use import GpuUse
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.domain.job import Job
from comfy_mcp.store import ClaimOffer, Lease, Store
from comfy_mcp.store.codec import Texts
from tests.support.jobs import (
    GRAPH,
    completed,
    failed,
    new_prompt_id,
    queued_event,
    requeued,
    started,
    submission,
)
from tests.support.leases import lease_on

SUBMIT = frozenset({Right.READ, Right.SUBMIT})
ANN = ClientId("ann")
BYTES = Texts.of(GRAPH, None).size


async def a_key(store: Store, name: str, rights: frozenset[Right] = SUBMIT, **quota: int) -> None:
    key = ApiKey(name=name, digest=digest_of(name), rights=rights, created_at=1, **quota)
    await store.add_key(key)
    assert key in await store.keys()


async def submit(store: Store, client: str, count: int, *, most: int = 20) -> int:
    """How many of them the queue took."""
    taken = 0
    for _ in range(count):
        with contextlib.suppress(LimitExceeded):
            await store.add_job(queued_event(client=client), GRAPH, max_queued=most)
            taken += 1
    return taken


async def test_a_client_with_a_key_leaves_a_quarter_of_the_queue_to_others(store: Store) -> None:
    await a_key(store, "ann")
    await a_key(store, "bob")
    assert await submit(store, "ann", 30) == 15
    assert await submit(store, "bob", 30) == 5


@pytest.mark.parametrize("client", ["local", "chief"])
async def test_the_person_at_the_machine_and_an_administrator_may_fill_it(store: Store, client: str) -> None:
    await a_key(store, "chief", SUBMIT | {Right.ADMIN})
    assert await submit(store, client, 30) == 20


async def test_a_key_has_a_quota_of_jobs_that_counts_what_waits(store: Store) -> None:
    await a_key(store, "ann", max_queued=2)
    await a_key(store, "chief", SUBMIT | {Right.ADMIN}, max_queued=3)
    assert await submit(store, "bob", 5) == 5
    assert await submit(store, "ann", 5) == 2
    assert await submit(store, "chief", 5) == 3
    with pytest.raises(LimitExceeded, match="You have 2 queued workflows, the limit of your key") as full:
        await store.add_job(queued_event(client="ann"), GRAPH, max_queued=20)
    assert full.value.code is ErrorCode.QUEUE_FULL
    for job in (await store.queue(20)).queued:
        if job.client == "ann":
            await store.request_cancel(job.id, at=5, reason=None)
    assert await submit(store, "ann", 5) == 2


async def test_a_key_has_a_quota_of_bytes(store: Store) -> None:
    await a_key(store, "ann", max_queued_bytes=3 * BYTES + BYTES // 2)
    assert await submit(store, "bob", 1) == 1
    assert await submit(store, "ann", 9) == 3
    with pytest.raises(LimitExceeded, match=f"{3 * BYTES} bytes and this one {BYTES}"):
        await store.add_job(queued_event(client="ann"), GRAPH, max_queued=20)


async def test_a_refused_job_leaves_nothing(store: Store) -> None:
    await a_key(store, "ann", max_queued=1)
    await submit(store, "ann", 1)
    before: Any = (await store.last_seq(), await store.counts())
    assert await submit(store, "ann", 3) == 0
    assert (await store.last_seq(), await store.counts()) == before


async def test_the_quota_of_bytes_holds_for_the_first_workflow_too(store: Store) -> None:
    await a_key(store, "ann", max_queued_bytes=BYTES - 1)
    await a_key(store, "bob", max_queued_bytes=BYTES)
    assert await submit(store, "ann", 1) == 0
    assert await submit(store, "bob", 2) == 1


# ---------------------------------------------------------------------------- what runs


async def claims(store: Store, lease: Lease, *, now: int = 2_000) -> list[Job]:
    """All that can be claimed now."""
    found = []
    while (claim := await store.claim_next(lease, prompt_id=new_prompt_id(), now=now)) is not None:
        found.append(claim.job)
    return found


async def test_a_client_at_its_limit_of_running_workflows_waits_and_others_do_not(store: Store) -> None:
    await a_key(store, "ann", max_running=2)
    await submit(store, "ann", 4)
    await submit(store, "bob", 2)
    lease = await lease_on(store)
    taken = await claims(store, lease)
    assert [job.client for job in taken] == ["ann", "bob", "ann", "bob"]
    assert not await store.any_waits(now=2_000)
    await store.record(lease, taken[0].id, [completed(taken[0])])
    await store.record(lease, taken[2].id, [requeued(taken[2])])
    again = await claims(store, lease)
    assert [job.client for job in again] == ["ann", "ann"]
    assert taken[2].id in [job.id for job in again]  # it kept its place


async def test_a_submit_of_a_limited_client_is_claimed_by_the_queue_only(store: Store) -> None:
    await a_key(store, "ann", max_running=1)
    lease = await lease_on(store)
    offer = ClaimOffer(lease=lease, prompt_id=new_prompt_id())
    _, _, claim = await store.add_and_claim(submission(queued_event(client="ann")), offer)
    assert claim is None
    assert len(await claims(store, lease)) == 1


async def test_gpu_seconds_are_counted_and_hold_the_client_until_the_day_ends(store: Store) -> None:
    await a_key(store, "ann", max_gpu_seconds=10)
    await a_key(store, "bob", max_running=1)
    await submit(store, "ann", 5)
    await submit(store, "bob", 1)
    lease = await lease_on(store)
    for seconds, at in ((4.0, 3_000), (5.5, 4_000)):
        job = (await store.claim_next(lease, prompt_id=new_prompt_id(), now=at)).job  # type: ignore[union-attr]
        if job.client == "bob":
            job = (await store.claim_next(lease, prompt_id=new_prompt_id(), now=at)).job  # type: ignore[union-attr]
        end = replace(completed(job, at), gpu_use=GpuUse(seconds=seconds))
        await store.record(lease, job.id, [started(job, at), end])
    use = await store.use_of(["ann", "nobody"], now=5_000)
    assert set(use) == {"ann"}
    assert (use[ANN].gpu_seconds, use[ANN].queued, use[ANN].running) == (9.5, 3, 0)
    job = (await store.claim_next(lease, prompt_id=new_prompt_id(), now=5_000)).job  # type: ignore[union-attr]
    await store.record(lease, job.id, [started(job, 5_000)])
    await store.record(lease, job.id, [failed(job, 6_000)])  # not measured: the time that it ran
    assert (await store.use_of(["ann"], now=7_000))[ANN].gpu_seconds == 10.5
    assert await claims(store, lease, now=7_000) == []
    assert [each.reached for each in await store.limited_use(now=7_000) if each.client == "ann"] == [
        {"gpu_seconds"}
    ]
    job, *_ = await claims(store, lease, now=DAY_MS)
    assert (await store.use_of(["ann"], now=DAY_MS))[ANN].gpu_seconds == 0
    await store.record(lease, job.id, [started(job, DAY_MS)])
    await store.record(lease, job.id, [completed(job, DAY_MS + 2_000)])
    assert (await store.use_of(["ann"], now=DAY_MS))[ANN].gpu_seconds == 2


async def test_nothing_is_kept_of_what_a_client_without_such_a_limit_uses(store: Store) -> None:
    await a_key(store, "ann", max_running=2)
    await submit(store, "ann", 1)
    lease = await lease_on(store)
    (job,) = await claims(store, lease)
    await store.record(lease, job.id, [started(job, 3_000)])
    await store.record(lease, job.id, [completed(job, 9_000)])
    assert (await store.use_of(["ann"], now=9_000))[ANN].gpu_seconds == 0


async def test_without_a_limit_nobody_is_asked_about(store: Store) -> None:
    await a_key(store, "ann")
    assert list(await store.limited_use(now=1)) == []
    assert await store.use_of([], now=1) == {}
