import base64
from random import Random
from typing import Any

import pytest

from comfy_mcp.domain.errors import ErrorCode, InvalidInput
from comfy_mcp.domain.events import Priority
from comfy_mcp.domain.ids import ClientId, EngineId, JobId
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.store import JobQuery, JobView, Store, reads
from comfy_mcp.store import outputs as outputs_module
from comfy_mcp.store.connection import Connection
from comfy_mcp.store.output_codec import output_of
from comfy_mcp.store.outputs import OF_A_LISTED_JOB
from tests.support.jobs import (
    GRAPH,
    completed,
    new_job_id,
    new_prompt_id,
    output_of_job,
    queued_event,
    started,
)
from tests.support.plans import plan_of

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


@pytest.mark.parametrize("kind", ["wal", "truncate"], indirect=True)
async def test_jobs_are_found_by_their_ids(store: Store) -> None:
    def plan(connection: Connection) -> list[str]:
        statement = reads.PAGES.statement("ids", "b_client")
        return plan_of(connection, statement, ids=["a", "b"], b_client="c", b_limit=201)

    assert "sqlite_autoindex_jobs" in (await store._readers.do(plan))[0]


# ---------------------------------------------------------------------------- what is large


async def test_a_list_reads_the_first_outputs_of_each_job(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many each has: the state of one has them all."""
    lease = await store.acquire_lease(ENGINE, "me", 60)
    assert lease is not None
    counts = [1, OF_A_LISTED_JOB, OF_A_LISTED_JOB + 1, 0, 3 * OF_A_LISTED_JOB]
    made = []
    for count in counts:
        await add(store)
        claim = await store.claim_next(lease, prompt_id=new_prompt_id(), now=1)
        assert claim is not None
        outputs = [output_of_job(claim.job, filename=f"{at}.png") for at in range(count)]
        done = [completed(claim.job, output_count=count)]
        await store.record(lease, claim.job.id, done, outputs=outputs)
        made.append(outputs)
    read = 0

    def counting(row: Any) -> Any:
        nonlocal read
        read += 1
        return output_of(row)

    monkeypatch.setattr(outputs_module, "output_of", counting)
    listed = list(reversed((await store.list_views(JobQuery())).items))
    assert [list(view.outputs) for view in listed] == [each[:OF_A_LISTED_JOB] for each in made]
    assert read == sum(min(count, OF_A_LISTED_JOB) for count in counts)
    assert [view.job.output_count for view in listed] == counts
    ids = [view.job.id for view in listed[2:]]
    assert list(reversed((await store.list_views(JobQuery(ids=ids))).items)) == listed[2:]
    whole = await store.view_job(listed[-1].job.id)
    assert whole is not None
    assert list(whole.outputs) == made[-1]


@pytest.mark.parametrize("most", [0, 1, 2, 100])
async def test_what_is_too_much_for_a_glance_is_read_all_the_same(
    store: Store, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(reads, "AT_A_GLANCE", most)
    jobs = [await add(store) for _ in range(4)]
    assert [await store.queue_position(job.id) for job in jobs] == [1, 2, 3, 4]
    lease = await store.acquire_lease(ENGINE, "me", 60)
    assert lease is not None
    claim = await store.claim_next(lease, prompt_id=new_prompt_id(), now=1)
    assert claim is not None
    made = [output_of_job(claim.job), output_of_job(claim.job)]
    done = await store.record(lease, claim.job.id, [completed(claim.job, output_count=2)], outputs=made)
    assert await store.view_job(done.id) == JobView(job=done, outputs=tuple(made), position=None)
    last = await store.view_job(jobs[-1].id)
    assert last is not None
    assert last.position == 3


async def test_places_are_those_of_the_run_order(store: Store) -> None:
    """Of two lanes, three priorities and five clients, some with an engine: listed, and each alone."""
    random = Random(7)
    ids: dict[str, list[JobId]] = {"local": [], "salad": []}
    for _ in range(40):
        lane = random.choice(["local", "salad"])
        job = await add(
            store, lane=lane, client=f"c{random.randrange(5)}", priority=random.choice(list(Priority))
        )
        ids[lane].append(job.id)
    lease = await store.acquire_lease(ENGINE, "me", 60)
    assert lease is not None
    for _ in range(4):
        assert await store.claim_next(lease, prompt_id=new_prompt_id(), now=1)
    run_order = [job.id for job in (await store.queue(100)).queued]
    right = {each: at for mine in ids.values() for at, each in enumerate(_only(run_order, mine), start=1)}
    assert len(right) == 40
    assert {
        view.job.id: view.position for view in (await store.list_views(JobQuery(limit=50))).items
    } == right
    assert {each: await store.queue_position(each) for each in right} == right


def _only(order: list[JobId], some: list[JobId]) -> list[JobId]:
    return [each for each in order if each in some]
