import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from comfy_mcp.domain.access import Idempotency
from comfy_mcp.domain.errors import Fenced, LimitExceeded, NotFound
from comfy_mcp.domain.events import JobClaimed, JobProgressed, Priority, StoredEvent
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.domain.job import IllegalTransition, JobStatus
from comfy_mcp.settings import Settings
from comfy_mcp.store import Claim, ClaimOffer, Lease, Store
from comfy_mcp.store.codec import Texts
from tests.support.jobs import (
    GRAPH,
    cancelled,
    completed,
    failed,
    new_job_id,
    new_prompt_id,
    output_of_job,
    outputs_of,
    progressed,
    queued_event,
    requeued,
    started,
    submission,
)
from tests.support.leases import A, B, add, claim, expire, lease_on

# ---------------------------------------------------------------------------- claims


async def test_claims_follow_priority_then_age(store: Store) -> None:
    low = await add(store, priority=Priority.LOW)
    first = await add(store)
    second = await add(store)
    high = await add(store, priority=Priority.HIGH)
    lease = await lease_on(store)
    claimed = [(await claim(store, lease)).job.id for _ in range(4)]
    assert claimed == [high.id, first.id, second.id, low.id]
    assert await store.claim_next(lease, prompt_id=new_prompt_id(), now=1) is None


async def test_a_claim_is_written_down_before_anything_else(store: Store) -> None:
    job = await add(store)
    lease = await lease_on(store)
    prompt_id = new_prompt_id()
    found = await store.claim_next(lease, prompt_id=prompt_id, now=1_500)
    assert found is not None
    assert json.loads(found.text) == GRAPH
    assert (found.job.attempt, found.job.prompt_id, found.job.engine) == (1, prompt_id, A)
    assert found.job.status is JobStatus.QUEUED
    assert await store.get_job(job.id) == found.job
    last = (await store.events_after(0))[-1]
    assert last.event == JobClaimed(job_id=job.id, at=1_500, attempt=1, engine=A, prompt_id=prompt_id)


async def test_a_claim_says_whether_others_wait_in_the_lane(store: Store) -> None:
    await add(store)
    await add(store)
    await add(store, lane="salad")
    lease = await lease_on(store)
    assert (await claim(store, lease)).more
    assert not (await claim(store, lease)).more


async def test_a_claim_takes_from_its_lane_only(store: Store) -> None:
    await add(store, lane="salad")
    lease = await lease_on(store)
    assert await store.claim_next(lease, prompt_id=new_prompt_id(), now=1) is None
    assert await store.claim_next(lease, prompt_id=new_prompt_id(), now=1, lane="salad") is not None


async def test_a_job_that_shall_be_cancelled_is_not_claimed_again(store: Store) -> None:
    await add(store)
    lease = await lease_on(store)
    job = (await claim(store, lease)).job
    await store.request_cancel(job.id, at=1_600, reason=None)
    await store.record(lease, job.id, [requeued(job)])
    assert await store.claim_next(lease, prompt_id=new_prompt_id(), now=1) is None


async def test_two_engines_never_claim_the_same_job(store: Store) -> None:
    for _ in range(4):
        await add(store)
    ours, theirs = await lease_on(store, A), await lease_on(store, B)
    claimed = [(await claim(store, lease)).job.id for lease in (ours, theirs, ours, theirs)]
    assert len(set(claimed)) == 4


# ---------------------------------------------------------------------------- record


async def test_a_run_from_start_to_outputs(store: Store) -> None:
    await add(store)
    lease = await lease_on(store)
    job = (await claim(store, lease)).job
    running = await store.record(lease, job.id, [started(job)])
    assert (running.status, running.started_at) == (JobStatus.RUNNING, 2_000)
    half = await store.record(lease, job.id, [progressed(job, 0.5)])
    assert (half.progress, half.current_node_title, half.eta_ms) == (0.5, "Empty", 50)
    assert await store.get_job(job.id) == half
    made = [output_of_job(job), output_of_job(job, "t_00002_.png")]
    done = await store.record(lease, job.id, [completed(job, output_count=2)], outputs=made)
    assert (done.status, done.progress, done.output_count) == (JobStatus.COMPLETED, 1.0, 2)
    assert await store.get_job(job.id) == done
    assert await outputs_of(store, job.id) == made


async def test_a_final_event_drops_the_progress_and_nothing_else(store: Store) -> None:
    await add(store)
    lease = await lease_on(store)
    job = (await claim(store, lease)).job
    await add(store)
    other = (await claim(store, lease)).job
    await store.record(lease, other.id, [progressed(other, 0.1)])
    await store.record(lease, job.id, [started(job), progressed(job, 0.2), progressed(job, 0.4)])
    before = await store.last_seq()
    await store.record(lease, job.id, [progressed(job, 0.9), completed(job)])
    log = await store.events_after(0, job_id=job.id)
    assert [stored.event.type for stored in log] == ["queued", "claimed", "started", "completed"]
    assert log[-1].seq > before, "a seq is never used twice"
    kept = await store.events_after(0, job_id=other.id)
    assert isinstance(kept[-1].event, JobProgressed)


async def test_a_failure_is_kept_in_full(store: Store) -> None:
    await add(store)
    lease = await lease_on(store)
    job = (await claim(store, lease)).job
    event = failed(job)
    done = await store.record(lease, job.id, [started(job), event], outputs=[output_of_job(job)])
    assert done.failure == event.failure
    assert await store.get_job(job.id) == done
    assert (await store.events_after(0))[-1].event == event
    assert len(await outputs_of(store, job.id)) == 1, "what a failed run wrote before is kept"


async def test_a_job_that_no_engine_took_can_be_failed(store: Store) -> None:
    job = await add(store)
    lease = await lease_on(store)
    done = await store.record(lease, job.id, [failed(job)])
    assert (done.status, done.attempt) == (JobStatus.FAILED, 0)


async def test_a_requeued_job_runs_again_as_the_next_attempt(store: Store) -> None:
    await add(store)
    lease = await lease_on(store)
    first = (await claim(store, lease)).job
    await store.record(lease, first.id, [started(first), progressed(first, 0.7)])
    waiting = await store.record(lease, first.id, [requeued(first)])
    assert (waiting.status, waiting.prompt_id, waiting.progress) == (JobStatus.QUEUED, None, 0.0)
    second = (await claim(store, lease)).job
    assert (second.id, second.attempt) == (first.id, 2)
    with pytest.raises(IllegalTransition):
        await store.record(lease, first.id, [completed(first)])
    await store.record(lease, second.id, [completed(second)])


async def test_an_illegal_event_writes_nothing_of_its_batch(store: Store) -> None:
    await add(store)
    lease = await lease_on(store)
    job = (await claim(store, lease)).job
    seq = await store.last_seq()
    with pytest.raises(IllegalTransition):
        await store.record(
            lease, job.id, [started(job), completed(job), started(job)], outputs=[output_of_job(job)]
        )
    assert await store.get_job(job.id) == job
    assert await store.last_seq() == seq
    assert await outputs_of(store, job.id) == []


async def test_nothing_leaves_a_final_state(store: Store) -> None:
    await add(store)
    lease = await lease_on(store)
    job = (await claim(store, lease)).job
    done = await store.record(lease, job.id, [cancelled(job)])
    for event in (started(job), completed(job), failed(job), requeued(job), cancelled(job)):
        with pytest.raises(IllegalTransition):
            await store.record(lease, job.id, [event])
    assert await store.get_job(job.id) == done


async def test_only_claim_next_claims(store: Store) -> None:
    job = await add(store)
    lease = await lease_on(store)
    event = JobClaimed(job_id=job.id, at=1, attempt=1, engine=A, prompt_id=new_prompt_id())
    with pytest.raises(IllegalTransition):
        await store.record(lease, job.id, [event])


async def test_events_and_outputs_of_another_job_are_a_mistake(store: Store) -> None:
    await add(store)
    lease = await lease_on(store)
    job = (await claim(store, lease)).job
    other = await add(store)
    with pytest.raises(ValueError, match="among those"):
        await store.record(lease, other.id, [failed(job)])
    with pytest.raises(ValueError, match="another"):
        await store.record(lease, other.id, [], outputs=[output_of_job(job)])


async def test_recording_what_does_not_exist_says_so(store: Store) -> None:
    lease = await lease_on(store)
    with pytest.raises(NotFound):
        await store.record(lease, new_job_id(), [])


# ---------------------------------------------------------------------------- takeover


async def test_who_takes_over_learns_where_the_engine_sends_the_events(store: Store) -> None:
    await add(store)
    lease = await lease_on(store)
    claimed = await store.claim_next(lease, prompt_id=new_prompt_id(), now=1, stream_id="a stream")
    assert claimed is not None
    assert claimed.stream_id == "a stream"
    assert [found.stream_id for found in await store.adopt(lease)] == ["a stream"]


async def test_whoever_lost_the_lease_writes_nothing_more(store: Store) -> None:
    await add(store)
    await add(store)
    mine = await lease_on(store)
    job = (await claim(store, mine)).job
    await expire(store)
    theirs = await lease_on(store, A, "other")
    with pytest.raises(Fenced):
        await store.record(mine, job.id, [completed(job)])
    with pytest.raises(Fenced):
        await store.claim_next(mine, prompt_id=new_prompt_id(), now=1)
    with pytest.raises(Fenced):
        await store.adopt(mine)
    assert await store.get_job(job.id) == job
    with pytest.raises(Fenced):
        await store.record(theirs, job.id, [completed(job)])  # not adopted yet: not theirs yet
    adopted = await store.adopt(theirs)
    assert [found.job for found in adopted] == [job]
    assert json.loads(adopted[0].text) == GRAPH
    done = await store.record(theirs, job.id, [completed(job)])
    assert done.status is JobStatus.COMPLETED


async def test_adopting_takes_attempts_in_flight_on_that_engine_only(store: Store) -> None:
    for _ in range(4):
        await add(store)
    on_a, on_b = await lease_on(store, A), await lease_on(store, B)
    running = (await claim(store, on_a)).job
    finished = (await claim(store, on_a)).job
    elsewhere = (await claim(store, on_b)).job
    back = (await claim(store, on_a)).job
    running = await store.record(on_a, running.id, [started(running)])
    await store.record(on_a, finished.id, [completed(finished)])
    await store.record(on_a, back.id, [requeued(back)])
    await expire(store)
    theirs = await lease_on(store, A, "other")
    assert [found.job for found in await store.adopt(theirs)] == [running]
    await store.record(on_b, elsewhere.id, [completed(elsewhere)])


async def test_another_engines_driver_has_no_say_over_an_attempt(store: Store) -> None:
    await add(store)
    on_a, on_b = await lease_on(store, A), await lease_on(store, B)
    job = (await claim(store, on_a)).job
    with pytest.raises(Fenced):
        await store.record(on_b, job.id, [cancelled(job)])
    done = await store.record(on_a, job.id, [completed(job)])
    with pytest.raises(Fenced):
        await store.record(on_b, job.id, [cancelled(job)])
    assert await store.get_job(job.id) == done


# ---------------------------------------------------------------------------- submit and claim in one


def offer(lease: Lease, **fields: Any) -> ClaimOffer:
    return ClaimOffer(lease=lease, prompt_id=new_prompt_id(), **fields)


async def test_a_job_that_is_the_next_is_claimed_as_it_is_added(store: Store) -> None:
    told: list[Sequence[StoredEvent]] = []
    lease = await lease_on(store)
    store.on_commit(told.append)
    event, room = queued_event(), offer(lease, stream_id="stream")
    job, position, claim = await store.add_and_claim(submission(event, max_queued=1), room)
    assert (job.prompt_id, job.attempt, position) == (room.prompt_id, 1, 1)
    assert claim == Claim(job=job, text=Texts.of(GRAPH, None).graph, stream_id="stream", more=False)
    assert await store.get_job(job.id) == job
    log = await store.events_after(0)
    assert [stored.event.type for stored in log] == ["queued", "claimed"]
    assert told == [tuple(log)], "in one transaction"
    assert await store.adopt(lease) == [replace(claim, more=True)]
    with pytest.raises(LimitExceeded):
        await store.add_and_claim(submission(queued_event(), max_queued=1), offer(lease))
    assert (await store.record(lease, job.id, [started(job), completed(job)])).status is JobStatus.COMPLETED


async def test_a_job_behind_others_is_added_only(store: Store) -> None:
    lease = await lease_on(store)
    first = await add(store)
    job, position, claim = await store.add_and_claim(submission(queued_event(), max_queued=9), offer(lease))
    assert (job.prompt_id, position, claim) == (None, 2, None)
    urgent = queued_event(priority=Priority.HIGH)
    job, position, claim = await store.add_and_claim(submission(urgent, max_queued=9), offer(lease))
    assert claim is not None
    assert (claim.more, position) == (True, 1)
    found = await store.claim_next(lease, prompt_id=new_prompt_id(), now=1_500)
    assert found is not None
    assert found.job.id == first.id


async def test_whoever_has_no_lease_any_more_adds_the_job_and_does_not_get_it(store: Store) -> None:
    older = await lease_on(store)
    newer = await lease_on(store)
    job, _, claim = await store.add_and_claim(submission(queued_event(), max_queued=9), offer(older))
    assert claim is None
    assert (await store.claim_next(newer, prompt_id=new_prompt_id(), now=1_500)) is not None
    assert await store.get_job(job.id) is not None


async def test_a_repeated_submit_claims_nothing(store: Store) -> None:
    lease = await lease_on(store)
    use = Idempotency(client=ClientId("local"), key="k", digest="d", since=0)
    once = await store.add_and_claim(submission(queued_event(), max_queued=9, idempotency=use), offer(lease))
    again = await store.add_and_claim(submission(queued_event(), max_queued=9, idempotency=use), offer(lease))
    assert once[2] is not None
    assert again == (once[0], 1, None)


# ---------------------------------------------------------------------------- what is known is not read


async def test_what_others_have_changed_since_is_seen_all_the_same(store: Store, settings: Settings) -> None:
    await add(store)
    lease = await lease_on(store)
    mine = await claim(store, lease)
    other = await Store.open(settings)
    await other.request_cancel(mine.job.id, at=5, reason="enough")
    job = await store.record(lease, mine.job.id, [started(mine.job)])
    assert (job.cancel_requested, job.cancel_reason) == (True, "enough")
    await other.record(lease, mine.job.id, [completed(mine.job)])
    with pytest.raises(IllegalTransition):
        await store.record(lease, mine.job.id, [failed(mine.job)])
    await other.close()
