from dataclasses import replace
from typing import Any

import pytest

from comfy_mcp.domain.chains import Parent
from comfy_mcp.domain.errors import ErrorCode, LimitExceeded, NotFound, StoreFault
from comfy_mcp.domain.events import CancelRequested, JobCancelled, JobQueued, Priority, PriorityChanged
from comfy_mcp.domain.ids import ClientId, EngineId, JobId
from comfy_mcp.domain.job import CancelAnswer, Job, JobStatus
from comfy_mcp.domain.transitions import queued
from comfy_mcp.store import JobGraph, Store, queue, turns
from comfy_mcp.store.connection import Connection
from tests.support.invariants import check_store
from tests.support.jobs import (
    GRAPH,
    completed,
    new_job_id,
    new_prompt_id,
    progressed,
    queued_event,
    requeued,
    started,
)
from tests.support.plans import plan_of
from tests.support.raw_sql import run

ENGINE = EngineId("engine")


async def add(store: Store, **fields: Any) -> Job:
    job, _ = await store.add_job(queued_event(**fields), GRAPH, max_queued=1_000)
    return job


# ---------------------------------------------------------------------------- submit


@pytest.mark.parametrize("fair", [True, False])
async def test_the_place_that_a_job_would_get_is_known_before_it_comes(store: Store, fair: bool) -> None:
    lease = await store.acquire_lease(ENGINE, "me", 60)
    assert lease is not None
    for number in range(12):
        priority = (Priority.NORMAL, Priority.HIGH, Priority.LOW)[number % 3]
        event = queued_event(client="ab"[number % 5 == 0], priority=priority)
        ahead = await store.ahead_of(queued(event), fair=fair)
        _, position = await store.add_job(event, GRAPH, max_queued=100, fair=fair)
        assert position == ahead + 1
        if number == 4:
            await store.claim_next(lease, prompt_id=new_prompt_id(), now=1)


async def test_a_job_is_there_with_its_graph_and_first_event(store: Store) -> None:
    event = JobQueued(
        job_id=new_job_id(),
        at=17,
        client=ClientId("agent"),
        lane="local",
        priority=Priority.HIGH,
        node_count=2,
        warnings=("one", "two"),
    )
    job, position = await store.add_job(event, GRAPH, max_queued=1)
    assert position == 1
    assert (job.status, job.created_at, job.warnings) == (JobStatus.QUEUED, 17, ("one", "two"))
    assert await store.get_job(job.id) == job
    graph = await store.get_graph(job.id)
    assert graph == JobGraph(graph=GRAPH)
    assert list(graph.graph) == ["2", "1"]
    assert [stored.event for stored in await store.events_after(0)] == [event]


async def test_a_full_queue_refuses_and_writes_nothing(store: Store) -> None:
    await add(store)
    seq = await store.last_seq()
    with pytest.raises(LimitExceeded) as caught:
        await store.add_job(queued_event(), GRAPH, max_queued=1)
    assert caught.value.code is ErrorCode.QUEUE_FULL
    assert (await store.counts())[JobStatus.QUEUED] == 1
    assert await store.last_seq() == seq


@pytest.fixture
def long_from_three(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue of three is too long to be counted at each submit."""
    monkeypatch.setattr(queue, "LONG_QUEUE", 3)


@pytest.mark.usefixtures("long_from_three")
async def test_a_long_queue_has_its_limit_and_room_again_at_once(store: Store) -> None:
    jobs = [await add(store) for _ in range(4)]
    with pytest.raises(LimitExceeded):
        await store.add_job(queued_event(), GRAPH, max_queued=4)
    await store.request_cancel(jobs[0].id, at=1_000, reason=None)
    _, position = await store.add_job(queued_event(), GRAPH, max_queued=4)
    assert position == 4


@pytest.mark.usefixtures("long_from_three")
async def test_a_long_queue_is_counted_once_a_second(store: Store) -> None:
    jobs = [await add(store) for _ in range(3)]
    await add(store)  # counts three, and itself
    await store.request_cancel(jobs[0].id, at=1_000, reason=None)
    _, estimate = await store.add_job(queued_event(at=1_000 + queue.RECOUNT_MS - 1), GRAPH, max_queued=99)
    assert estimate == 5, "four were counted, one of them is gone"
    _, position = await store.add_job(queued_event(at=1_000 + queue.RECOUNT_MS), GRAPH, max_queued=99)
    assert position == 5, "counted again: four were there"


@pytest.mark.usefixtures("long_from_three")
async def test_jobs_that_wait_for_others_fill_a_long_queue_too(store: Store) -> None:
    parent, *_ = [await add(store) for _ in range(3)]
    for _ in range(2):
        await store.add_job(replace(queued_event(), after=(Parent(id=parent.id),)), GRAPH, max_queued=5)
    with pytest.raises(LimitExceeded, match="The queue is full: 5 jobs"):
        await store.add_job(queued_event(), GRAPH, max_queued=5)


async def test_behind_too_many_to_count_a_job_is_said_to_be_the_last(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        await add(store, client="many")
    await add(store, client="few")
    event = queued_event(client="few")  # its turn is before the third of "many"
    _, exact = await store.add_job(event, GRAPH, max_queued=99)
    await store.request_cancel(event.job_id, at=1_000, reason=None)
    assert exact == 5 - 1
    monkeypatch.setattr(turns, "MOST_AHEAD", 3)
    _, estimate = await store.add_job(queued_event(client="few"), GRAPH, max_queued=99)
    assert estimate == 5


async def test_the_same_id_twice_is_refused_and_changes_nothing(store: Store) -> None:
    job = await add(store)
    with pytest.raises(StoreFault) as caught:
        await store.add_job(queued_event(job.id, client="other"), GRAPH, max_queued=10)
    assert caught.value.code is ErrorCode.INTERNAL
    assert await store.get_job(job.id) == job


async def test_text_that_no_database_takes_is_stored_all_the_same(store: Store) -> None:
    event = queued_event(client="a\ud800b\0")
    job, _ = await store.add_job(event, {"1": {"title": "\udfff\0"}}, max_queued=10)
    assert await store.get_graph(job.id) == JobGraph(graph={"1": {"title": "\udfff\0"}})
    kept = await store.get_job(job.id)
    assert kept is not None
    assert kept.client == "a\ufffdb\ufffd"


# ---------------------------------------------------------------------------- run order


async def test_positions_follow_priority_then_age(store: Store) -> None:
    answers = {}
    for name, priority in [
        ("n1", Priority.NORMAL),
        ("l1", Priority.LOW),
        ("h1", Priority.HIGH),
        ("n2", Priority.NORMAL),
        ("h2", Priority.HIGH),
    ]:
        job, position = await store.add_job(queued_event(priority=priority), GRAPH, max_queued=10)
        answers[name] = (job.id, position)
    assert {name: position for name, (_, position) in answers.items()} == {
        "n1": 1, "l1": 2, "h1": 1, "n2": 3, "h2": 2,
    }  # fmt: skip
    now = {name: await store.queue_position(job_id) for name, (job_id, _) in answers.items()}
    assert now == {"h1": 1, "h2": 2, "n1": 3, "n2": 4, "l1": 5}
    view = await store.queue(3)
    assert [job.id for job in view.queued] == [answers[name][0] for name in ("h1", "h2", "n1")]


async def test_lanes_have_queues_of_their_own(store: Store) -> None:
    await add(store)
    salad, position = await store.add_job(queued_event(lane="salad"), GRAPH, max_queued=10)
    assert position == 1
    assert await store.queue_position(salad.id) == 1


async def test_a_claimed_job_stands_before_all_that_are_not(store: Store) -> None:
    low = await add(store, priority=Priority.LOW)
    lease = await store.acquire_lease(ENGINE, "me", 60)
    assert lease is not None
    claim = await store.claim_next(lease, prompt_id=new_prompt_id(), now=1)
    assert claim is not None
    assert claim.job.id == low.id
    high, position = await store.add_job(queued_event(priority=Priority.HIGH), GRAPH, max_queued=10)
    assert position == 2
    assert (await store.queue_position(low.id), await store.queue_position(high.id)) == (1, 2)
    assert [job.id for job in (await store.queue(10)).queued] == [low.id, high.id]
    await store.record(lease, low.id, [started(claim.job)])
    assert (await store.queue_position(low.id), await store.queue_position(high.id)) == (None, 1)
    view = await store.queue(10)
    assert [job.id for job in view.running] == [low.id]
    assert view.counts[JobStatus.RUNNING] == 1


# ---------------------------------------------------------------------------- priority


async def test_a_job_that_waits_gets_another_priority_and_a_turn_there(store: Store) -> None:
    one, two, three = [await add(store) for _ in range(3)]
    changed = await store.set_priorities([three.id], Priority.HIGH, at=2, by="ann", fair=True)
    assert [(job.id, job.priority) for job in changed] == [(three.id, Priority.HIGH)]
    assert [job.id for job in (await store.queue(10)).queued] == [three.id, one.id, two.id]
    assert (
        await store.set_priorities([three.id, JobId("gone")], Priority.HIGH, at=3, by=None, fair=True) == []
    )
    await store.set_priorities([one.id], Priority.LOW, at=4, by=None, fair=False)
    await store.set_priorities([three.id], Priority.NORMAL, at=5, by=None, fair=True)
    assert [job.id for job in (await store.queue(10)).queued] == [two.id, three.id, one.id]
    events = [each.event for each in await store.events_after(0) if isinstance(each.event, PriorityChanged)]
    assert [(event.priority, event.by) for event in events][:1] == [(Priority.HIGH, "ann")]


async def test_what_an_engine_has_or_what_has_ended_keeps_its_priority(store: Store) -> None:
    first, second = await add(store), await add(store)
    lease = await store.acquire_lease(ENGINE, "me", 60)
    assert lease is not None
    await store.claim_next(lease, prompt_id=new_prompt_id(), now=1)
    await store.request_cancel(second.id, at=2, reason=None)
    ids = [first.id, second.id]
    assert await store.set_priorities(ids, Priority.HIGH, at=3, by=None, fair=True) == []


async def test_the_next_one_of_a_client_takes_the_place_that_is_left(store: Store) -> None:
    mine = [await add(store, client="a") for _ in range(2)]
    theirs = await add(store, client="b")
    assert [job.id for job in (await store.queue(10)).queued] == [mine[0].id, theirs.id, mine[1].id]
    await store.set_priorities([mine[0].id], Priority.LOW, at=2, by=None, fair=True)
    assert [job.id for job in (await store.queue(10)).queued] == [mine[1].id, theirs.id, mine[0].id]


# ---------------------------------------------------------------------------- cancel


async def test_cancelling_a_waiting_job_ends_it_at_once(store: Store) -> None:
    job = await add(store)
    after, answer = await store.request_cancel(job.id, at=5, reason="enough")
    assert answer is CancelAnswer.CANCEL_NOW
    assert (after.status, after.finished_at, after.cancel_reason) == (JobStatus.CANCELLED, 5, "enough")
    assert await store.get_job(job.id) == after
    events = [stored.event for stored in await store.events_after(0, job_id=job.id)]
    assert [type(event) for event in events[1:]] == [CancelRequested, JobCancelled]
    again, answer = await store.request_cancel(job.id, at=9, reason="again")
    assert (again, answer) == (after, CancelAnswer.ALREADY_CANCELLED)
    assert len(await store.events_after(0)) == 3


async def test_cancelling_a_job_at_an_engine_asks_once(store: Store) -> None:
    await add(store)
    lease = await store.acquire_lease(ENGINE, "me", 60)
    assert lease is not None
    claim = await store.claim_next(lease, prompt_id=new_prompt_id(), now=1)
    assert claim is not None
    for _ in range(2):
        job, answer = await store.request_cancel(claim.job.id, at=5, reason=None)
        assert answer is CancelAnswer.ASK_ENGINE
        assert job.cancel_requested
        assert job.status is JobStatus.QUEUED
    asked = [stored for stored in await store.events_after(0) if isinstance(stored.event, CancelRequested)]
    assert len(asked) == 1
    done = await store.record(lease, job.id, [started(job), progressed(job, 0.5), completed(job)])
    assert await store.request_cancel(job.id, at=9, reason=None) == (done, CancelAnswer.TOO_LATE)


async def test_cancelling_what_does_not_exist_says_so(store: Store) -> None:
    with pytest.raises(NotFound) as caught:
        await store.request_cancel(new_job_id(), at=1, reason=None)
    assert caught.value.code is ErrorCode.WORKFLOW_NOT_FOUND


@pytest.mark.parametrize("kind", ["wal", "truncate"], indirect=True)
async def test_every_query_over_the_queue_uses_its_partial_index(store: Store) -> None:
    from comfy_mcp.store import choosing, expiry, queue, reads

    run_order = (choosing._NEXT, queue._QUEUE_SIZES, reads._BETWEEN)
    by_deadline = (expiry._ANY, expiry._NEXT)
    indexes = [*("ix_jobs_queue" for _ in run_order), *("ix_jobs_queue_deadline" for _ in by_deadline)]

    def plans(connection: Connection) -> list[str]:
        return [" | ".join(plan_of(connection, each)) for each in (*run_order, *by_deadline)]

    for plan, index in zip(await store._readers.do(plans), indexes, strict=True):
        assert f" {index} " in plan, plan
        assert "TEMP B-TREE" not in plan, plan


async def test_invariants_are_checked_for_real(store: Store) -> None:
    job = await add(store)

    def break_it(connection: Any) -> None:
        run(connection, "UPDATE jobs SET status = 'running' WHERE id = ?", (job.id,))

    def repair(connection: Any) -> None:
        run(connection, "UPDATE jobs SET status = 'queued' WHERE id = ?", (job.id,))

    await store._writer.do(break_it)
    with pytest.raises(AssertionError, match="disagree"):
        await check_store(store)
    await store._writer.do(repair)


async def test_cancelling_a_job_that_an_engine_lost_leaves_no_progress_behind(store: Store) -> None:
    await add(store)
    lease = await store.acquire_lease(ENGINE, "me", 60)
    assert lease is not None
    claim = await store.claim_next(lease, prompt_id=new_prompt_id(), now=1)
    assert claim is not None
    await store.record(lease, claim.job.id, [progressed(claim.job, 0.5), requeued(claim.job)])
    _, answer = await store.request_cancel(claim.job.id, at=5, reason=None)
    assert answer is CancelAnswer.CANCEL_NOW
    types = [stored.event.type for stored in await store.events_after(0)]
    assert types == ["queued", "claimed", "requeued", "cancel_requested", "cancelled"]
