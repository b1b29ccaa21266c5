"""The tags of jobs: kept with them, found by them, forgotten with them."""

from dataclasses import replace

import pytest

from comfy_mcp.domain.ids import EngineId
from comfy_mcp.store import JobQuery, Store, reads
from tests.support.jobs import GRAPH, completed, new_prompt_id, queued_event
from tests.support.plans import plan_of

TAGS = (("client", "acme"), ("run", "a=b \U0001f98a \ud800"))


async def ids(store: Store, name: str, value: str) -> list[str]:
    return [job.id for job in (await store.list_jobs(JobQuery(tag=(name, value)))).items]


async def test_a_job_is_found_by_each_of_its_tags_and_by_no_other(store: Store) -> None:
    job, _ = await store.add_job(replace(queued_event(), tags=TAGS), GRAPH, max_queued=9)
    await store.add_job(replace(queued_event(), tags=(("client", "other"),)), GRAPH, max_queued=9)
    await store.add_job(queued_event(), GRAPH, max_queued=9)
    assert [await ids(store, *each) for each in TAGS] == [[job.id], [job.id]]
    for nobody in (("client", "Acme"), ("acme", "client"), ("run", "")):
        assert await ids(store, *nobody) == []
    read = await store.get_job(job.id)
    assert read is not None
    assert read.tags == TAGS


async def test_tags_go_with_their_job(store: Store) -> None:
    job, _ = await store.add_job(replace(queued_event(), tags=TAGS), GRAPH, max_queued=9)
    lease = await store.acquire_lease(EngineId("engine"), "me", 60)
    assert lease is not None
    claim = await store.claim_next(lease, prompt_id=new_prompt_id(), now=2)
    assert claim is not None
    await store.record(lease, job.id, [completed(claim.job)])
    assert await store.prune(now=10**15, retention_days=1, retention_jobs=0) == 1
    assert await ids(store, *TAGS[0]) == []


@pytest.mark.parametrize("kind", ["wal"])
async def test_a_tag_is_found_by_an_index(store: Store) -> None:
    plan = " | ".join(await store._readers.do(lambda c: plan_of(c, reads.PAGES.statement("b_tag"))))
    assert "ix_job_tags_tag" in plan, plan
