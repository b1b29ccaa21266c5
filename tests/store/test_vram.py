"""What shapes needed, and claims that pass over jobs for want of memory."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, insert, select

from comfy_mcp.domain.errors import Fenced
from comfy_mcp.domain.events import JobWaiting, Priority
from comfy_mcp.domain.gpu_use import GpuUse
from comfy_mcp.domain.ids import EngineId, JobId
from comfy_mcp.domain.job import Job
from comfy_mcp.domain.vram import KEPT_PEAKS, Admission, EngineRoom, Rooms
from comfy_mcp.settings import Settings
from comfy_mcp.store import (
    Claim,
    ClaimOffer,
    Lease,
    Store,
    choosing,
    claims,
    holds,
    schema,
    side_tables,
    vram,
)
from comfy_mcp.store.connection import Connection
from comfy_mcp.store.core import made
from tests.store.test_heads import STEPS, held
from tests.support.gpus import GIB
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
from tests.support.plans import plan_of

A, B = EngineId("a"), EngineId("b")
BIG, SMALL = "big", "small"


def admission(free: int, *others: EngineRoom, due: int = -1, engine: EngineId = A) -> Admission:
    here = EngineRoom(engine=A, room_bytes=free * GIB, total_bytes=24 * GIB)
    return Admission(engine=engine, rooms=Rooms(engines=(here, *others)), due=due)


async def add(store: Store, shape: str | None, **fields: Any) -> JobId:
    event = replace(queued_event(**fields), shape=shape)
    await store.add_job(event, GRAPH, max_queued=1_000)
    return event.job_id


async def learn(store: Store, lease: Lease, shape: str | None, *peaks: int | None, at: int = 3_000) -> None:
    for peak in peaks:
        await add(store, shape)
        claim = await store.claim_next(lease, prompt_id=new_prompt_id(), now=1_500)
        assert claim is not None
        use = None if peak is None else GpuUse(held_bytes=peak * GIB)
        end = replace(completed(claim.job, at), gpu_use=use)
        await store.record(lease, claim.job.id, [started(claim.job), end])


async def look(store: Store, lease: Lease, how: Admission, now: int = 1_500) -> Claim | None:
    return await store.claim_next(lease, prompt_id=new_prompt_id(), now=now, admission=how)


async def claimed(store: Store, lease: Lease, how: Admission) -> JobId | None:
    claim = await look(store, lease, how)
    return None if claim is None else claim.job.id


async def job(store: Store, job_id: JobId) -> Job:
    found = await store.get_job(job_id)
    assert found is not None
    return found


# ---------------------------------------------------------------------------- what is learnt


async def test_completed_runs_that_were_measured_teach_what_their_shape_needs(store: Store) -> None:
    lease = await lease_on(store)
    assert await store.vram_need(BIG) is None
    await learn(store, lease, BIG, None)
    await learn(store, lease, None, 9)
    assert await store.vram_need(BIG) is None
    await learn(store, lease, BIG, 20)
    assert await store.vram_need(BIG) == 20 * GIB
    await learn(store, lease, BIG, 10)
    assert await store.vram_need(BIG) == 10 * GIB, "a run got by with less"
    assert await store.vram_need(SMALL) is None


async def test_the_end_of_a_run_that_was_not_measured_costs_no_new_look(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_tables, "NEED_KEPT_S", 3_600.0)
    looks: list[float] = []
    store = await Store.open(settings, on_read=looks.append)
    lease = await lease_on(store)
    await learn(store, lease, BIG, 20)
    assert await store.vram_need(BIG) == 20 * GIB
    await learn(store, lease, BIG, None)
    looks.clear()
    assert await store.vram_need(BIG) == 20 * GIB
    assert not looks
    await store.close()


async def test_a_run_that_failed_teaches_nothing(store: Store) -> None:
    lease = await lease_on(store)
    await add(store, BIG)
    claim = await store.claim_next(lease, prompt_id=new_prompt_id(), now=1)
    assert claim is not None
    await store.record(lease, claim.job.id, [replace(failed(claim.job), gpu_use=GpuUse(held_bytes=5 * GIB))])
    assert await store.vram_need(BIG) is None


async def test_the_last_runs_are_remembered_of_the_shapes_that_were_seen_last(settings: Settings) -> None:
    store = await Store.open(settings, kept_shapes=2)
    lease = await lease_on(store)
    await learn(store, lease, "first", *range(1, KEPT_PEAKS + 3), at=10)
    await learn(store, lease, "second", 1, at=20)
    await learn(store, lease, "first", 7, at=30)
    await learn(store, lease, "third", 1, at=40)

    def kept(connection: Connection) -> dict[str, list[int]]:
        return {row.shape: json.loads(row.peaks) for row in connection.execute(select(schema.vram_shapes))}

    await store.prune(now=50, retention_days=0, retention_jobs=0)
    rows = await store._readers.do(kept)
    await store.close()
    assert set(rows) == {"first", "third"}
    assert rows["first"] == [peak * GIB for peak in (*range(4, KEPT_PEAKS + 3), 7)]


async def test_what_another_process_learns_is_known_here(settings: Settings) -> None:
    one, other = await Store.open(settings), await Store.open(settings)
    await learn(one, await lease_on(one), BIG, 20)
    assert await other.vram_need(BIG) == 20 * GIB
    for number in range(300):  # what is remembered of questions is bounded
        await other.vram_need(str(number))
    assert len(other._needs) <= 256
    await one.close()
    await other.close()


# ---------------------------------------------------------------------------- who is held


@pytest.fixture
async def taught(store: Store) -> Lease:
    """Big ones needed 20 GiB, small ones 2."""
    lease = await lease_on(store)
    await learn(store, lease, BIG, 20)
    await learn(store, lease, SMALL, 2)
    return lease


async def test_who_does_not_fit_is_passed_over_and_told_and_those_behind_go_on(
    store: Store, taught: Lease
) -> None:
    big, small, unknown = await add(store, BIG), await add(store, SMALL), await add(store, None)
    behind = await add(store, BIG)
    assert await claimed(store, taught, admission(10)) == small
    held = (await job(store, big)).waiting_for
    assert held is not None
    assert (held.since, held.need_bytes, held.free_bytes) == (1_500, 20 * GIB, 10 * GIB)
    assert (await job(store, behind)).waiting_for is None, "that one waits for its turn"
    assert await claimed(store, taught, admission(10)) == unknown
    assert await claimed(store, taught, admission(10)) is None
    assert (await job(store, behind)).waiting_for is not None
    assert await store.any_held()
    assert (await store.backlog()).held == 2
    log = [each.event for each in await store.events_after(0, job_id=big)]
    assert log[1:] == [JobWaiting(job_id=big, at=1_500, waiting_for=held)]
    assert await claimed(store, taught, admission(19)) == big, "short by less than 5 %"
    assert (await job(store, big)).waiting_for is None
    assert await claimed(store, taught, admission(20)) == behind
    assert not await store.any_held()
    assert (await store.backlog()).held == 0


@pytest.mark.parametrize("kind", ["wal"], indirect=True)
async def test_where_nothing_fits_the_writer_is_held_as_long_however_many_wait(
    store: Store, taught: Lease
) -> None:
    found = list[int]()
    for size in (holds.MARKED_AT_ONCE, 800):
        events = [replace(queued_event(), shape=BIG) for _ in range(size)]
        await store.add_jobs([submission(event, max_queued=1_000) for event in events])
        with held(store) as steps:
            assert await look(store, taught, admission(10)) is None
        found += steps
    few, many = found
    assert many <= 1.1 * few + STEPS, found
    while steps:
        with held(store) as steps:
            assert await look(store, taught, admission(10)) is None
    assert (await store.backlog()).held == 850, "each job says what it waits for, and then nothing is written"
    with pytest.raises(Fenced):
        await look(store, replace(taught, fence=taught.fence + 1), admission(10))
    await store.drain(taught.engine, at=1_600)
    assert await look(store, taught, admission(24)) is None


async def test_what_is_told_is_told_to_those_only_that_wait_still(store: Store, taught: Lease) -> None:
    first, second = await add(store, BIG), await add(store, BIG)
    offer = ClaimOffer(lease=taught, prompt_id=new_prompt_id(), admission=admission(10))
    found = await store._readers.do(lambda connection: choosing.look(connection, offer, 1_500))
    assert found == choosing.Found(None, [first, second])
    await store.request_cancel(first, at=1_500, reason=None)
    await store._writer.do(lambda connection: claims.claim_next(connection, offer, 1_600, found))
    assert (await job(store, first)).waiting_for is None
    assert (await job(store, second)).waiting_for is not None
    lost = replace(offer, lease=replace(taught, fence=taught.fence + 1))
    with pytest.raises(Fenced):
        await store._writer.do(lambda connection: claims.claim_next(connection, lost, 1_600, found))


async def test_holding_outlives_the_process(settings: Settings) -> None:
    store = await Store.open(settings)
    lease = await lease_on(store)
    await learn(store, lease, BIG, 20)
    big = await add(store, BIG)
    await look(store, lease, admission(10))
    before = await job(store, big)
    await store.close()
    store = await Store.open(settings)
    assert await job(store, big) == before
    assert before.waiting_for is not None
    again = await lease_on(store)
    assert await look(store, again, admission(10), now=9_000) is None
    assert await job(store, big) == before, "it waits since then"
    assert await claimed(store, again, admission(10, due=1_500)) == big, "it has waited for long enough"
    await store.close()


async def test_what_is_told_follows_what_is_free(store: Store, taught: Lease) -> None:
    big = await add(store, BIG)
    for free in (10, 11, 12, 13):
        await look(store, taught, admission(free))
    log = [each.event for each in await store.events_after(0, job_id=big)]
    told = [each.waiting_for for each in log if isinstance(each, JobWaiting)]
    assert [each and each.free_bytes // GIB for each in told] == [10, 12]


async def test_while_another_engine_has_room_a_job_waits_for_its_turn_there(
    store: Store, taught: Lease
) -> None:
    big = await add(store, BIG)
    other = EngineRoom(engine=B, room_bytes=22 * GIB, total_bytes=24 * GIB)
    await look(store, taught, admission(10))
    assert (await job(store, big)).waiting_for is not None
    assert await claimed(store, taught, admission(10, other)) is None
    assert (await job(store, big)).waiting_for is None
    assert await claimed(store, await lease_on(store, B), admission(10, other, engine=B)) == big


async def test_what_no_engine_could_ever_hold_and_what_is_not_known_is_not_held(
    store: Store, taught: Lease
) -> None:
    small_card = EngineRoom(engine=A, room_bytes=1 * GIB, total_bytes=8 * GIB)
    first, second = await add(store, BIG), await add(store, BIG)
    assert await claimed(store, taught, Admission(engine=A, rooms=Rooms(engines=(small_card,)))) == first
    await look(store, taught, admission(10))
    assert (await job(store, second)).waiting_for is not None
    third = await add(store, BIG, priority=Priority.LOW)
    await look(store, taught, admission(10))
    assert await claimed(store, taught, Admission(engine=A, rooms=Rooms())) == second
    assert (await job(store, third)).waiting_for is None, "told, though it has to wait for its turn"


async def test_a_held_job_can_be_cancelled_and_expires(store: Store, taught: Lease) -> None:
    gone, late = await add(store, BIG), await add(store, BIG)
    await look(store, taught, admission(10))
    await store.request_cancel(gone, at=2_000, reason=None)
    assert (await job(store, gone)).waiting_for is None
    event = replace(queued_event(), shape=BIG, queue_timeout_ms=100)
    await store.add_job(event, GRAPH, max_queued=9)
    await look(store, taught, admission(10), now=1_050)
    assert (await job(store, event.job_id)).waiting_for is not None
    (ended,) = await store.expire_overdue(now=2_000)
    assert ended.failure is not None
    assert "needed 20.0 GiB" in ended.failure.message
    assert (await store.backlog()).held == 1
    assert (await job(store, late)).waiting_for is not None


async def test_a_job_that_waits_again_after_an_attempt_is_held_like_any_other(
    store: Store, taught: Lease
) -> None:
    big = await add(store, BIG)
    claim = await look(store, taught, admission(22))
    assert claim is not None
    await store.record(taught, big, [requeued(claim.job)])
    assert await claimed(store, taught, admission(10)) is None
    assert (await job(store, big)).waiting_for is not None


async def test_the_overview_counts_what_waits_beyond_what_is_free(store: Store, taught: Lease) -> None:
    assert await store.waiting_beyond(10 * GIB) == (0, 0)
    for shape in (BIG, BIG, SMALL, None):
        await add(store, shape)
    assert await store.waiting_beyond(10 * GIB) == (2, 20 * GIB)
    assert await store.waiting_beyond(1 * GIB) == (3, 20 * GIB)


@pytest.mark.parametrize("kind", ["wal", "truncate"], indirect=True)
async def test_held_jobs_are_found_by_an_index(store: Store) -> None:
    def plans(connection: Connection) -> list[str]:
        return [line for each in (holds._HELD, holds._ANY_HELD) for line in plan_of(connection, each)]

    def plan_of_a_claim(connection: Connection) -> list[str]:
        return plan_of(
            connection, choosing._NEXT_THAT_FITS, b_lane="local", b_now=1, b_limit=1, b_ceiling=1, b_due=1
        )

    plan = await store._readers.do(plan_of_a_claim)
    assert "ix_jobs_queue" in plan[0], "in the order of the queue, so the first that fits ends the look"
    assert not any("TEMP B-TREE FOR ORDER BY" in line for line in plan)
    plan = await store._readers.do(plans)
    assert sum("ix_jobs_held" in line for line in plan) == 2
    assert any("sqlite_autoindex_vram_shapes" in line for line in plan)
    assert [line for line in plan if line.startswith("SCAN")] == []


async def test_a_job_without_memory_for_it_is_not_claimed_as_it_is_added(store: Store, taught: Lease) -> None:
    for shape, fits in ((BIG, False), (None, True)):
        room = ClaimOffer(lease=taught, prompt_id=new_prompt_id(), admission=admission(1))
        event = replace(queued_event(priority=Priority.HIGH), shape=shape)
        _, _, claim = await store.add_and_claim(submission(event, max_queued=9), room)
        assert (claim is not None) is fits
        if claim is None:
            await store.request_cancel(event.job_id, at=2, reason=None)


# ---------------------------------------------------------------------------- one rule in two languages


@given(
    need=st.none() | st.integers(0, 40),
    held_since=st.none() | st.integers(0, 5),
    free=st.integers(0, 30),
    total=st.integers(1, 30),
    due=st.integers(-1, 5),
    known=st.booleans(),
)
def test_the_filter_is_the_rule(
    need: int | None, held_since: int | None, free: int, total: int, due: int, known: bool
) -> None:
    room = EngineRoom(engine=A if known else B, room_bytes=min(free, total), total_bytes=total)
    rule = Admission(engine=A, rooms=Rooms(engines=(room,)), due=due)
    with ENGINE.connect() as connection:
        values = dict.fromkeys((each.name for each in schema.jobs.c), 0)
        connection.execute(insert(schema.jobs), {**values, "id": "j", "shape": "s", "held_since": held_since})
        if need is not None:
            row = {"shape": "s", "peaks": "[]", "need_bytes": need, "seen_at": 1}
            connection.execute(insert(schema.vram_shapes), row)
        found = select(schema.jobs.c.id).select_from(made(vram.WITH_NEED)).where(made(holds.FITS))
        fits = connection.execute(found, holds.limits(rule)).first() is not None
        connection.rollback()
    assert fits == rule.admits(need, held_since)


ENGINE = create_engine("sqlite://")
schema.metadata.create_all(ENGINE)
