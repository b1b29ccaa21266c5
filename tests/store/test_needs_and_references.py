"""What is kept beside a job and its attempt: what it needs, what was submitted, and what a place calls it."""

import json
from typing import Any

import pytest

from comfy_mcp.domain.errors import Fenced
from comfy_mcp.domain.extra_data import Submitted
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.needs import Needs
from comfy_mcp.domain.vram import Admission, Rooms
from comfy_mcp.store import ClaimOffer, JobGraph, Lease, Store
from tests.support.jobs import GRAPH as JOB_GRAPH
from tests.support.jobs import new_job_id, new_prompt_id, queued_event, submission
from tests.support.raw_sql import run

GRAPH = {"1": {"class_type": "A", "inputs": {}}}


async def lease_of(store: Store, engine: str = "e") -> Lease:
    lease = await store.acquire_lease(EngineId(engine), f"holder of {engine}", 60)
    assert lease is not None
    return lease


async def scalar(store: Store, sql: str, *values: object) -> Any:
    return await store._readers.do(lambda connection: run(connection, sql, values).scalar())


async def test_what_a_job_needs_is_kept_with_it(store: Store) -> None:
    needs = Needs(node_classes=("A", "B"), models=("m.safetensors",), shape="s")
    job, _ = await store.add_job(queued_event(), GRAPH, max_queued=9, needs=needs)
    text = await scalar(store, "SELECT needs FROM graphs WHERE job_id = ?", job.id)
    assert json.loads(text) == {"nodes": ["A", "B"], "models": ["m.safetensors"]}


async def test_what_a_place_calls_an_attempt_is_found_at_a_takeover(store: Store) -> None:
    lease = await lease_of(store)
    prompt_id = new_prompt_id()
    await store.add_and_claim(submission(), ClaimOffer(lease=lease, prompt_id=prompt_id))
    await store.keep_reference(lease, prompt_id, "cloud-1")
    (adopted,) = await store.adopt(await lease_of(store))
    assert adopted.reference == "cloud-1"
    with pytest.raises(Fenced):
        await store.keep_reference(lease, prompt_id, "cloud-2")


UI = {"nodes": [{"id": 1, "type": "A"}], "links": []}


@pytest.mark.parametrize("submitted", [None, Submitted(file=UI), Submitted(may_spend=True)])
async def test_what_was_submitted_comes_with_every_claim(store: Store, submitted: Submitted | None) -> None:
    lease = await lease_of(store)
    offer = ClaimOffer(lease=lease, prompt_id=new_prompt_id())
    job, _, claim = await store.add_and_claim(submission(submitted=submitted), offer)
    assert claim is not None
    assert claim.submitted == submitted
    (adopted,) = await store.adopt(lease)
    assert adopted.submitted == submitted
    assert await store.get_graph(job.id) == JobGraph(graph=JOB_GRAPH, submitted=submitted)
    assert await store.submitted(job.id) == submitted
    assert await store.submitted(new_job_id()) is None
    second, _ = await store.add_job(queued_event(), GRAPH, max_queued=9, submitted=submitted)
    for admission in (None, Admission(engine=lease.engine, rooms=Rooms(engines=()))):
        claim = await store.claim_next(
            lease, prompt_id=new_prompt_id(), now=second.created_at, admission=admission
        )
        assert claim is not None
        assert claim.submitted == submitted
        second, _ = await store.add_job(queued_event(), GRAPH, max_queued=9, submitted=submitted)


async def test_a_graph_by_itself_costs_nothing_beside_it(store: Store) -> None:
    job, _ = await store.add_job(queued_event(), GRAPH, max_queued=9)
    assert await scalar(store, "SELECT submitted FROM graphs WHERE job_id = ?", job.id) is None
