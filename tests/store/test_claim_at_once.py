"""A job that is claimed in the transaction that writes it, and what is kept beside a job and its attempt."""

import json
from typing import Any

import pytest

from comfy_mcp.domain.access import Idempotency
from comfy_mcp.domain.errors import Fenced
from comfy_mcp.domain.ids import ClientId, EngineId
from comfy_mcp.domain.job import JobStatus
from comfy_mcp.domain.needs import Needs
from comfy_mcp.store import ClaimFor, Lease, Store
from tests.support.jobs import completed, new_prompt_id, queued_event, started

GRAPH = {"1": {"class_type": "A", "inputs": {}}}


async def lease_of(store: Store, engine: str = "e") -> Lease:
    lease = await store.acquire_lease(EngineId(engine), f"holder of {engine}", 60)
    assert lease is not None
    return lease


def claim_for(lease: Lease) -> ClaimFor:
    return ClaimFor(lease=lease, prompt_id=new_prompt_id(), stream_id="stream")


async def scalar(store: Store, sql: str, *values: object) -> Any:
    return await store._readers.do(lambda connection: connection.exec_driver_sql(sql, values).scalar())


async def test_a_job_that_nobody_is_before_is_claimed_with_its_attempt(store: Store) -> None:
    lease = await lease_of(store)
    claim = claim_for(lease)
    job, position = await store.add_job(queued_event(), GRAPH, max_queued=9, claim=claim)
    assert (job.status, job.prompt_id, job.engine, job.attempt, position) == (
        JobStatus.QUEUED, claim.prompt_id, "e", 1, 1,
    )  # fmt: skip
    assert await store.get_job(job.id) == job
    assert [stored.event.type for stored in await store.events_after(0)] == ["queued", "claimed"]
    (adopted,) = await store.adopt(lease)
    assert (adopted.job, adopted.graph, adopted.stream_id) == (job, GRAPH, "stream")
    ended = await store.record(lease, job.id, [started(job), completed(job)])
    assert ended.status is JobStatus.COMPLETED


async def test_a_job_waits_behind_one_that_waits_already(store: Store) -> None:
    lease = await lease_of(store)
    first, _ = await store.add_job(queued_event(), GRAPH, max_queued=9)
    second, position = await store.add_job(queued_event(), GRAPH, max_queued=9, claim=claim_for(lease))
    assert (second.prompt_id, position) == (None, 2)
    claimed = await store.claim_next(lease, prompt_id=new_prompt_id(), now=1)
    assert claimed is not None
    assert claimed.job.id == first.id


async def test_the_places_of_later_jobs_count_it_as_claimed(store: Store) -> None:
    lease = await lease_of(store)
    await store.add_job(queued_event(), GRAPH, max_queued=9, claim=claim_for(lease))
    _, position = await store.add_job(queued_event(), GRAPH, max_queued=9)
    assert position == 2


async def test_a_lease_that_is_lost_claims_nothing_and_the_job_is_written(store: Store) -> None:
    lease = await lease_of(store)
    await store.release_lease(lease)
    job, _ = await store.add_job(queued_event(), GRAPH, max_queued=9, claim=claim_for(lease))
    assert job.prompt_id is None


async def test_a_repeat_claims_nothing(store: Store) -> None:
    lease = await lease_of(store)
    use = Idempotency(client=ClientId("c"), key="k", digest="d", since=0)
    first, _ = await store.add_job(queued_event(), GRAPH, max_queued=9, idempotency=use)
    repeat, _ = await store.add_job(
        queued_event(), GRAPH, max_queued=9, idempotency=use, claim=claim_for(lease)
    )
    assert (repeat.id, repeat.prompt_id) == (first.id, None)


async def test_what_a_job_needs_is_kept_with_it(store: Store) -> None:
    needs = Needs(node_classes=("A", "B"), models=("m.safetensors",), shape="s")
    job, _ = await store.add_job(queued_event(), GRAPH, max_queued=9, needs=needs)
    text = await scalar(store, "SELECT needs FROM graphs WHERE job_id = ?", job.id)
    assert json.loads(text) == {"nodes": ["A", "B"], "models": ["m.safetensors"]}


async def test_what_a_place_calls_an_attempt_is_found_at_a_takeover(store: Store) -> None:
    lease = await lease_of(store)
    claim = claim_for(lease)
    await store.add_job(queued_event(), GRAPH, max_queued=9, claim=claim)
    await store.keep_reference(lease, claim.prompt_id, "cloud-1")
    (adopted,) = await store.adopt(await lease_of(store))
    assert adopted.reference == "cloud-1"
    with pytest.raises(Fenced):
        await store.keep_reference(lease, claim.prompt_id, "cloud-2")
