"""Which jobs a claim may take: what an engine can't run, has refused, or shall not have any more."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from comfy_mcp.domain.events import FailureKind, JobRequeued
from comfy_mcp.domain.gpu_use import GpuUse
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.job import Job
from comfy_mcp.domain.needs import NO_WISH, Needs, Wish
from comfy_mcp.domain.placing import WINDOW, Waiting
from comfy_mcp.domain.vram import Admission, Rooms
from comfy_mcp.store import Claim, ClaimOffer, Lease, Store
from comfy_mcp.store.choosing import MAX_WINDOWS
from tests.support.jobs import (
    GRAPH,
    completed,
    new_prompt_id,
    queued_event,
    requeued,
    started,
    submission,
)
from tests.support.leases import A, B, lease_on


def needs(node: str, *, wish: Wish = NO_WISH) -> Needs:
    return Needs(node_classes=(node,), models=("m.ckpt",), shape=node, files=("m.ckpt",), wish=wish)


class Engine:
    """Runs jobs of some nodes, and of those that wait takes the one at `at`. `sure`: the first, always."""

    def __init__(self, *nodes: str, at: int | None = 0, sure: bool = False) -> None:
        self.sure = sure
        self.unfit: list[str] = []
        self.seen: list[list[Waiting]] = []
        self._nodes = nodes
        self._at = at

    def fits(self, key: str | None, needs: Needs | None) -> bool:
        fits = needs is None or set(needs.node_classes) <= set(self._nodes)
        if not fits and key is not None:
            self.unfit.append(key)
        return fits

    def takes_first(self, job_id: str, job: Waiting) -> bool:
        return self.sure

    def choose(self, waiting: Sequence[tuple[str, Waiting]], *, more: bool) -> int | None:
        self.seen.append([job for _, job in waiting])
        return self._at


async def add(store: Store, of: Needs | None = None) -> Job:
    event = replace(queued_event(), shape=None if of is None else of.shape)
    job, _ = await store.add_job(event, GRAPH, max_queued=10_000, needs=of)
    return job


async def claim(
    store: Store, lease: Lease, engine: Engine | None = None, *, admitted: bool = False
) -> Claim | None:
    admission = Admission(engine=lease.engine, rooms=Rooms()) if admitted else None
    return await store.claim_next(
        lease, prompt_id=new_prompt_id(), now=2_000, chooser=engine, admission=admission
    )


@pytest.mark.parametrize("admitted", [False, True])
@pytest.mark.parametrize("sure", [False, True])
async def test_an_engine_passes_over_what_it_can_not_run(store: Store, sure: bool, admitted: bool) -> None:
    await add(store, needs("rare"))
    second = await add(store, needs("common"))
    lease = await lease_on(store)
    found = await claim(store, lease, Engine("common", sure=sure), admitted=admitted)
    assert found is not None
    assert found.job.id == second.id
    assert found.needs is not None
    assert (found.needs.node_classes, found.needs.files) == (("common",), ("m.ckpt",))
    assert json.loads(found.text) == GRAPH
    assert await claim(store, lease, Engine("common", sure=sure), admitted=admitted) is None


async def test_an_engine_that_is_sure_of_the_first_one_takes_it_without_a_look_at_the_others(
    store: Store,
) -> None:
    first = await add(store, needs("common"))
    await add(store, needs("common"))
    engine = Engine("common", sure=True)
    found = await claim(store, await lease_on(store), engine)
    assert found is not None
    assert (found.job.id, engine.seen) == (first.id, [])


async def test_the_chosen_one_of_those_that_wait_is_claimed(store: Store) -> None:
    jobs = [await add(store, needs("common")) for _ in range(3)]
    engine = Engine("common", at=2)
    found = await claim(store, await lease_on(store), engine)
    assert found is not None
    assert found.job.id == jobs[2].id
    assert [(each.needs, each.priority) for each in engine.seen[0]] == [(found.needs, 1)] * 3
    assert await claim(store, await lease_on(store), Engine("common", at=None)) is None


async def test_what_is_measured_of_such_jobs_is_known_to_who_chooses(store: Store) -> None:
    """By the newest measure, not by that of the submit."""
    lease, engine = await lease_on(store), Engine("common")
    await add(store, needs("common"))
    first = await claim(store, lease, engine)
    assert first is not None
    waits = await add(store, needs("common"))
    ended = replace(completed(first.job), gpu_use=GpuUse(held_bytes=20 * 2**30))
    await store.record(lease, first.job.id, [started(first.job), ended])
    found = await claim(store, lease, engine)
    assert found is not None
    assert found.job.id == waits.id
    assert [[each.needs.memory for each in seen if each.needs] for seen in engine.seen] == [
        [None],
        [20 * 2**30],
    ]


async def test_what_it_can_run_is_found_behind_many_that_it_can_not(store: Store) -> None:
    for number in range(2 * WINDOW):
        await add(store, needs(f"rare {number}"))
    last = await add(store, needs("common"))
    found = await claim(store, await lease_on(store), Engine("common"))
    assert found is not None
    assert found.job.id == last.id


async def test_one_claim_looks_at_so_many_and_the_next_one_goes_on(store: Store) -> None:
    for number in range(MAX_WINDOWS * WINDOW + 1):
        await add(store, needs(f"rare {number}"))
    last = await add(store, needs("common"))
    engine, lease = Engine("common"), await lease_on(store)
    assert await claim(store, lease, engine) is None
    found = await claim(store, lease, engine)
    assert found is not None
    assert found.job.id == last.id


async def test_a_job_without_needs_is_for_any_engine(store: Store) -> None:
    job = await add(store)
    found = await claim(store, await lease_on(store), Engine())
    assert found is not None
    assert (found.job.id, found.needs) == (job.id, None)


async def test_an_engine_that_refused_a_job_does_not_get_it_again(store: Store) -> None:
    await add(store, needs("common"))
    first, second = await lease_on(store, A), await lease_on(store, B)
    found = await claim(store, first)
    assert found is not None
    refusal = JobRequeued(job_id=found.job.id, at=3_000, attempt=1, reason="no", cause=FailureKind.VALIDATION)
    await store.record(first, found.job.id, [refusal])
    assert await claim(store, first) is None
    assert await claim(store, first, Engine("common")) is None
    found = await claim(store, second)
    assert found is not None
    assert found.job.refused_by == (A,)
    await store.record(second, found.job.id, [requeued(found.job)])
    again = await claim(store, second)
    assert again is not None
    assert again.job.refused_by == (A,)


async def test_a_name_that_is_part_of_another_name_is_not_meant(store: Store) -> None:
    await add(store)
    first, second = await lease_on(store, EngineId("gpu-10")), await lease_on(store, EngineId("gpu-1"))
    found = await claim(store, first)
    assert found is not None
    refusal = JobRequeued(job_id=found.job.id, at=3_000, attempt=1, reason="no", cause=FailureKind.VALIDATION)
    await store.record(first, found.job.id, [refusal])
    assert await claim(store, second) is not None


async def test_a_drained_engine_takes_nothing_new_whoever_drives_it(store: Store) -> None:
    await add(store)
    lease = await lease_on(store)
    await store.drain(A, at=5)
    await store.drain(B, at=5)
    assert await store.drained() == {A, B}
    assert await claim(store, lease) is None
    offer = ClaimOffer(lease=await lease_on(store, B), prompt_id=new_prompt_id())
    _, _, claimed = await store.add_and_claim(submission(), offer)
    assert claimed is None
    await store.drain(A, at=None)
    assert await store.drained() == {B}
    assert await claim(store, lease) is not None


async def test_what_a_submit_wished_comes_back_with_the_claim(store: Store) -> None:
    wish = Wish(engine=A, labels=("fast",), not_on=(B,))
    await add(store, needs("common", wish=wish))
    found = await claim(store, await lease_on(store))
    assert found is not None
    assert found.needs is not None
    assert found.needs.wish == wish
