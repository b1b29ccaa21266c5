import base64
from typing import Any

import pytest

from comfy_mcp.domain.errors import ErrorCode, InvalidInput
from comfy_mcp.domain.ids import ClientId, EngineId
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.store import JobQuery, JobView, Store
from tests.support.jobs import (
    GRAPH,
    completed,
    new_job_id,
    new_prompt_id,
    output_of_job,
    queued_event,
    started,
)

ENGINE = EngineId("engine")


async def add(store: Store, **fields: Any) -> Job:
    job, _ = await store.add_job(queued_event(**fields), GRAPH, max_queued=1_000)
    return job


async def test_what_does_not_exist_is_none(store: Store) -> None:
    assert await store.get_job(new_job_id()) is None
    assert await store.get_graph(new_job_id()) is None
    assert await store.queue_position(new_job_id()) is None
    assert await store.view_job(new_job_id()) is None


async def test_a_view_shows_a_jobs_place_while_it_waits_and_its_outputs_at_the_end(store: Store) -> None:
    first, second = await add(store), await add(store)
    assert await store.view_job(second.id) == JobView(job=second, outputs=(), position=2)
    lease = await store.acquire_lease(ENGINE, "me", 60)
    assert lease is not None
    claim = await store.claim_next(lease, prompt_id=new_prompt_id(), now=1_500)
    assert claim is not None
    made = output_of_job(claim.job)
    done = await store.record(
        lease, first.id, [started(claim.job), completed(claim.job, output_count=1)], outputs=[made]
    )
    assert await store.view_job(first.id) == JobView(job=done, outputs=(made,), position=None)
    assert await store.view_job(second.id) == JobView(job=second, outputs=(), position=1)


async def test_counts_name_every_status(store: Store) -> None:
    assert await store.counts() == dict.fromkeys(JobStatus, 0)
    await add(store)
    assert await store.counts() == {**dict.fromkeys(JobStatus, 0), JobStatus.QUEUED: 1}


async def test_one_view_shows_a_job_with_its_outputs_and_its_place(store: Store) -> None:
    first, second = await add(store), await add(store)
    assert await store.view_job(second.id) == JobView(job=second, outputs=(), position=2)
    lease = await store.acquire_lease(ENGINE, "me", 60)
    assert lease is not None
    claim = await store.claim_next(lease, prompt_id=new_prompt_id(), now=1)
    assert claim is not None
    made = output_of_job(claim.job)
    done = await store.record(lease, first.id, [completed(claim.job, output_count=1)], outputs=[made])
    assert await store.view_job(first.id) == JobView(job=done, outputs=(made,), position=None)
    assert await store.view_job(new_job_id()) is None


async def test_a_page_of_views_shows_each_job_as_it_is_shown_alone(store: Store) -> None:
    lanes = ("local", "cloud")
    jobs = [await add(store, lane=lanes[number % 2], client=f"c{number % 3}") for number in range(9)]
    lease = await store.acquire_lease(ENGINE, "me", 60)
    assert lease is not None
    for end in (True, True, False):  # two have ended with outputs, one is claimed and not started
        claim = await store.claim_next(lease, prompt_id=new_prompt_id(), now=1)
        assert claim is not None
        if end:
            made = [output_of_job(claim.job), output_of_job(claim.job)]
            await store.record(lease, claim.job.id, [completed(claim.job, output_count=2)], outputs=made)
    page = await store.list_views(JobQuery(limit=8))
    assert [view.job.id for view in page.items] == [job.id for job in reversed(jobs)][:8]
    assert list(page.items) == [await store.view_job(view.job.id) for view in page.items]
    assert sorted(view.position or 0 for view in page.items if view.position) == [1, 1, 2, 2, 3, 3, 4]
    last = await store.list_views(JobQuery(limit=8, cursor=page.next_cursor))
    assert [view.job.id for view in last.items] == [jobs[0].id]
    assert (await store.list_views(JobQuery(client=ClientId("nobody")))).items == ()


# ---------------------------------------------------------------------------- lists


async def test_pages_go_through_all_jobs_newest_first_though_more_are_added(store: Store) -> None:
    jobs = [await add(store) for _ in range(7)]
    seen: list[str] = []
    cursor = None
    for size in (3, 3, 1):
        page = await store.list_jobs(JobQuery(limit=3, cursor=cursor))
        assert len(page.items) == size
        seen += [job.id for job in page.items]
        cursor = page.next_cursor
        await add(store)
    assert cursor is None
    assert seen == [job.id for job in reversed(jobs)]


async def test_lists_filter_by_every_field(store: Store) -> None:
    lease = await store.acquire_lease(ENGINE, "me", 60)
    assert lease is not None
    first = await add(store, at=10, client="a")
    second = await add(store, at=20, client="b")
    third = await add(store, at=30, client="b")
    claim = await store.claim_next(lease, prompt_id=new_prompt_id(), now=1)
    assert claim is not None
    await store.record(lease, first.id, [completed(claim.job)])

    async def ids(**fields: Any) -> list[str]:
        return [job.id for job in (await store.list_jobs(JobQuery(**fields))).items]

    assert await ids() == [third.id, second.id, first.id]
    assert await ids(statuses=[JobStatus.COMPLETED]) == [first.id]
    assert await ids(statuses={JobStatus.COMPLETED, JobStatus.QUEUED}, client=ClientId("b")) == [
        third.id,
        second.id,
    ]
    assert await ids(engine=ENGINE) == [first.id]
    assert await ids(created_after=20) == [third.id, second.id]
    assert await ids(created_after=11, created_before=20) == [second.id]
    assert await ids(statuses=[JobStatus.FAILED]) == []


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "nonsense",
        "é",
        base64.urlsafe_b64encode(b"[]").decode(),
        base64.urlsafe_b64encode(b'{"before": true}').decode(),
        base64.urlsafe_b64encode(b'{"before": -1}').decode(),
        base64.urlsafe_b64encode(b'{"before": 1e400}').decode(),
        base64.urlsafe_b64encode(b'{"before": 99999999999999999999}').decode(),
    ],
)
async def test_a_cursor_of_somebody_else_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await store.list_jobs(JobQuery(cursor=cursor))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


async def test_a_silly_limit_is_put_right(store: Store) -> None:
    for _ in range(3):
        await add(store)
    assert len((await store.list_jobs(JobQuery(limit=0))).items) == 1
    assert len((await store.list_jobs(JobQuery(limit=10**9))).items) == 3
