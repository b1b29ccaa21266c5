"""Jobs that wait for others, through the store: in one transaction with the end of what they wait for."""

import random
from typing import Any

import pytest

from comfy_mcp.domain.chains import Parent
from comfy_mcp.domain.events import FailureKind, JobFailed, JobFailure, JobWaiting
from comfy_mcp.domain.ids import EngineId, JobId
from comfy_mcp.domain.job import CancelAnswer, Job, JobStatus
from comfy_mcp.store import Lease, Store, chains, retention
from tests.support.jobs import GRAPH, completed, new_prompt_id, queued_event
from tests.support.plans import plan_of

ENGINE = EngineId("engine")


class Line:
    """A store, one engine's lease, and short ways to both."""

    def __init__(self, store: Store, lease: Lease) -> None:
        self.store = store
        self.lease = lease

    async def submit(self, *after: Job | Parent, **options: Any) -> Job:
        fair = options.pop("fair", True)
        parents = tuple(each if isinstance(each, Parent) else Parent(id=each.id) for each in after)
        event = queued_event(**options)
        event = type(event)(**{name: getattr(event, name) for name in event.__slots__} | {"after": parents})
        job, _ = await self.store.add_job(event, GRAPH, max_queued=10_000, fair=fair)
        return job

    async def run(self, *, fails: bool = False, output_count: int = 0) -> JobId | None:
        """The next job, to its end."""
        claim = await self.store.claim_next(self.lease, prompt_id=new_prompt_id(), now=2_000)
        if claim is None:
            return None
        job = claim.job
        failure = JobFailure(kind=FailureKind.NODE_ERROR, message="boom")
        end = JobFailed(job_id=job.id, at=3_000, attempt=job.attempt, failure=failure)
        await self.store.record(
            self.lease, job.id, [end if fails else completed(job, output_count=output_count)]
        )
        return job.id

    async def state(self, job: Job) -> Job:
        found = await self.store.get_job(job.id)
        assert found is not None
        return found


@pytest.fixture
async def line(store: Store) -> Line:
    lease = await store.acquire_lease(ENGINE, "me", 600)
    assert lease is not None
    return Line(store, lease)


async def test_a_blocked_job_is_no_part_of_the_queue(line: Line) -> None:
    first = await line.submit()
    child = await line.submit(first, client="other")
    view = await line.store.queue(10)
    assert (child.status, [job.id for job in view.blocked]) == (JobStatus.BLOCKED, [child.id])
    assert [job.id for job in view.queued] == [first.id]
    assert (view.counts[JobStatus.QUEUED], view.counts[JobStatus.BLOCKED]) == (1, 1)
    assert await line.store.queue_position(child.id) is None
    assert await line.run() == first.id
    assert (await line.state(child)).status is JobStatus.QUEUED
    assert await line.run() == child.id


async def test_it_gets_its_turn_when_it_may_run(line: Line) -> None:
    """As if it had come then: those of other clients that came meanwhile keep their places."""
    first = await line.submit()
    child = await line.submit(first)
    others = [await line.submit(client=client) for client in "ab"]
    order = [await line.run() for _ in range(4)]
    assert order == [first.id, others[0].id, others[1].id, child.id]


async def test_where_clients_take_no_turns_the_age_decides(line: Line) -> None:
    first = await line.submit(fair=False)
    child = await line.submit(first, fair=False)
    others = [await line.submit(client=client, fair=False) for client in "abb"]
    order = [await line.run() for _ in range(5)]
    assert order == [first.id, child.id, *(each.id for each in others)]


async def test_its_deadline_begins_with_its_turn(line: Line) -> None:
    first = await line.submit()
    event = queued_event()
    fields = {name: getattr(event, name) for name in event.__slots__}
    event = type(event)(**fields | {"after": (Parent(id=first.id),), "queue_timeout_ms": 500})
    child, _ = await line.store.add_job(event, GRAPH, max_queued=10)
    assert child.queue_deadline is None
    assert await line.store.expire_overdue(now=10**6) == []
    await line.run()
    assert (await line.state(child)).queue_deadline == 3_500
    [late] = await line.store.expire_overdue(now=10**6)
    assert late.failure is not None
    assert late.failure.kind is FailureKind.TIMEOUT


async def test_parents_that_ended_before_the_write_are_seen(line: Line) -> None:
    good, bad = await line.submit(), await line.submit()
    assert await line.run() == good.id
    assert await line.run(fails=True) == bad.id
    assert (await line.submit(good)).status is JobStatus.QUEUED
    assert (await line.submit(good, bad)).status is JobStatus.FAILED
    assert (await line.submit(Parent(id=bad.id, any_end=True))).status is JobStatus.QUEUED
    assert (await line.submit(Parent(id=JobId("gone")))).status is JobStatus.FAILED


async def test_the_end_and_what_follows_are_told_in_order(line: Line) -> None:
    first = await line.submit()
    child = await line.submit(first)
    seq = await line.store.last_seq()
    await line.run()
    told = [stored.event for stored in await line.store.events_after(seq)]
    assert [(each.job_id, each.type) for each in told] == [
        (first.id, "claimed"),
        (first.id, "completed"),
        (child.id, "waiting"),
    ]
    assert isinstance(told[-1], JobWaiting)
    assert told[-1].waiting_for is None


async def test_what_one_transaction_leaves_is_found_later(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chains, "AT_ONCE", 3)
    first = await line.submit()
    wide = [await line.submit(first) for _ in range(5)]
    deep = [wide[0]]
    for _ in range(8):
        deep.append(await line.submit(deep[-1]))
    await line.run(fails=True)
    failed = sum([(await line.state(job)).is_final for job in {*wide, *deep}])
    assert failed == 3
    rounds = 0
    while await line.store.settle_chains(now=4_000):
        rounds += 1
    assert 1 < rounds < 12
    assert {(await line.state(job)).status for job in {*wide, *deep}} == {JobStatus.FAILED}
    assert await line.store.settle_chains(now=4_000) == 0


async def test_a_cancelled_chain_is_cancelled_from_its_end(line: Line) -> None:
    chain = [await line.submit()]
    for _ in range(4):
        chain.append(await line.submit(chain[-1]))
    answers = await line.store.request_cancels(
        [job.id for job in chain] + [JobId("gone")], at=5_000, reason=None
    )
    assert [answer for _, answer in answers] == [CancelAnswer.CANCEL_NOW] * 5
    assert {(await line.state(job)).status for job in chain} == {JobStatus.CANCELLED}


async def test_a_parent_is_kept_as_long_as_it_has_a_child_that_has_not_ended(line: Line) -> None:
    first = await line.submit()
    child = await line.submit(first)
    await line.run()
    assert await line.store.prune(now=10**12, retention_days=1, retention_jobs=0) == 0
    await line.run()
    assert await line.store.prune(now=10**12, retention_days=1, retention_jobs=0) == 2
    assert await line.store.get_job(child.id) is None


async def test_a_child_that_comes_while_its_parent_is_being_forgotten_keeps_it(line: Line) -> None:
    first, other = await line.submit(), await line.submit()
    await line.run(output_count=1)
    await line.run()
    doomed = await line.store._readers.do(lambda connection: retention.beyond(connection, 10**12, 1, 0))
    assert doomed == [first.id, other.id]
    child = await line.submit(Parent(id=first.id, outputs=1))
    assert await line.store._writer.do(lambda connection: retention.forget(connection, job_ids=doomed)) == 1
    assert (await line.state(first)).output_count == 1
    assert (await line.state(child)).status is JobStatus.QUEUED


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_the_graph_every_job_ends_as_its_parents_say(line: Line, seed: int) -> None:
    choose = random.Random(seed)
    made: list[Job] = []
    for _ in range(25):
        parents = [
            Parent(id=job.id, any_end=choose.random() < 0.3, outputs=choose.choice((0, 0, 1)))
            for job in choose.sample(made, min(len(made), choose.randint(0, 3)))
        ]
        made.append(await line.submit(*parents, client=choose.choice("abc")))
        if choose.random() < 0.3:
            await line.run(fails=choose.random() < 0.3, output_count=choose.randint(0, 1))
        if choose.random() < 0.1:
            await line.store.request_cancel(choose.choice(made).id, at=2_500, reason=None)
    while await line.run(fails=choose.random() < 0.3, output_count=choose.randint(0, 1)) is not None:
        pass
    assert await line.store.settle_chains(now=4_000) == 0, "the ends left nothing"
    now = {job.id: await line.state(job) for job in made}
    for job in now.values():
        assert job.is_final
        barred = any(
            (now[each.id].status is not JobStatus.COMPLETED and not each.any_end)
            or now[each.id].output_count < each.outputs
            for each in job.after
        )
        if barred:
            assert job.attempt == 0
        of_parents = job.failure is not None and job.failure.kind is FailureKind.PARENT_FAILED
        assert of_parents == (barred and job.status is not JobStatus.CANCELLED)
        if job.attempt:
            ends = [now[each.id].finished_at for each in job.after]
            assert all(end is not None for end in ends)


@pytest.mark.parametrize("kind", ["wal"], indirect=True)
async def test_an_end_looks_at_those_that_wait_for_it_and_at_no_others(store: Store) -> None:
    found = await store._readers.do(lambda connection: plan_of(connection, chains._CHILDREN))
    assert any(" ix_job_parents_parent_id " in line for line in found), found
    assert not any("SCAN" in line or "ix_jobs_status_seq" in line for line in found), found
