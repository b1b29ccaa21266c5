from collections.abc import Sequence

import pytest

from comfy_mcp.domain.events import JobProgressed, StoredEvent
from comfy_mcp.domain.ids import ClientId, EngineId
from comfy_mcp.settings import Settings
from comfy_mcp.store import ClaimOffer, Store
from comfy_mcp.store.sqlite import database
from tests.support.invariants import file_of
from tests.support.jobs import (
    GRAPH,
    completed,
    new_job_id,
    new_prompt_id,
    progressed,
    queued_event,
    started,
    submission,
)


async def test_the_log_is_read_in_order_from_anywhere(store: Store) -> None:
    events = [queued_event(at=at) for at in range(6)]
    for event in events:
        await store.add_job(event, GRAPH, max_queued=10)
    log = await store.events_after(0)
    assert [stored.event for stored in log] == events
    assert [stored.seq for stored in log] == sorted(stored.seq for stored in log)
    assert await store.events_after(log[2].seq) == log[3:]
    assert await store.events_after(log[0].seq, limit=2) == log[1:3]
    assert await store.events_after(0, job_id=events[4].job_id) == [log[4]]
    assert await store.events_after(log[4].seq, job_id=events[4].job_id) == []
    assert await store.last_seq() == log[-1].seq


async def test_events_of_one_write_are_told_with_the_numbers_under_which_they_are_read(store: Store) -> None:
    told: list[StoredEvent] = []
    store.on_commit(told.extend)
    lease = await store.acquire_lease(EngineId("a"), "me", 60)
    assert lease is not None
    offer = ClaimOffer(lease=lease, prompt_id=new_prompt_id())
    job, _, claim = await store.add_and_claim(submission(queued_event()), offer)
    assert claim is not None
    nodes = [progressed(job, at / 10, at, node=str(at)) for at in (2, 3)]
    await store.record(lease, job.id, [started(job), *nodes])
    await store.record(lease, job.id, [completed(job)])

    log = {stored.seq: stored.event for stored in await store.events_after(0)}

    assert [stored.event.type for stored in told] == [
        "queued",
        "claimed",
        "started",
        "progress",
        "progress",
        "completed",
    ]
    assert [stored.seq for stored in told] == sorted({stored.seq for stored in told})
    lasting = [stored for stored in told if not isinstance(stored.event, JobProgressed)]
    assert log == {stored.seq: stored.event for stored in lasting}  # an end drops the progress


async def test_one_clients_part_of_the_log_is_found_by_the_query(store: Store) -> None:
    for number in range(6):
        event = queued_event(at=number, client="ann" if number % 3 else "bob")
        await store.add_job(event, GRAPH, max_queued=10)
    log = await store.events_after(0)
    bobs = await store.events_after(0, client=ClientId("bob"))
    assert bobs == [log[0], log[3]]
    assert await store.events_after(0, client=ClientId("bob"), limit=1) == [log[0]]
    assert await store.events_after(log[0].seq, client=ClientId("bob")) == [log[3]]
    assert await store.events_after(0, client=ClientId("eve")) == []


async def test_an_empty_log_is_at_zero(store: Store) -> None:
    assert await store.last_seq() == 0
    assert await store.events_after(0) == []


async def test_a_commit_with_events_wakes_and_others_do_not(store: Store) -> None:
    woken: list[Sequence[StoredEvent]] = []
    store.on_commit(woken.append)
    await store.add_job(queued_event(), GRAPH, max_queued=10)
    assert len(woken) == 1
    lease = await store.acquire_lease(EngineId("a"), "me", 60)
    assert lease is not None
    await store.renew_lease(lease, 60)
    await store.get_job(new_job_id())
    assert len(woken) == 1
    claim = await store.claim_next(lease, prompt_id=new_prompt_id(), now=1)
    assert claim is not None
    assert len(woken) == 2
    await store.record(lease, claim.job.id, [started(claim.job)])
    assert len(woken) == 3
    assert [stored for events in woken for stored in events] == await store.events_after(0)


@pytest.mark.parametrize("kind", ["wal", "truncate"], indirect=True)
async def test_the_data_version_changes_with_each_commit_that_is_not_told(
    store: Store, settings: Settings
) -> None:
    other, told = await Store.open(settings), list[Sequence[StoredEvent]]()
    store.on_commit(told.append)
    first = store.data_version()
    assert store.data_version() == first
    await other.add_job(queued_event(), GRAPH, max_queued=10)
    second = store.data_version()
    assert (second != first, told) == (True, [])
    await store.add_job(queued_event(), GRAPH, max_queued=10)
    on_the_loop = store.info.journal_mode == "wal"
    assert (store.data_version() == second, len(told)) == (on_the_loop, 1)
    assert [len(await each.events_after(0)) for each in (store, other)] == [2, 2]
    await other.close()


async def test_asking_for_the_data_version_never_waits(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "WAL_SAFE_FROM", (999,))
    monkeypatch.setattr("comfy_mcp.store.database.BUSY_S", 600.0)
    store = await Store.open(settings)
    before = store.data_version()
    other = file_of(store)._driver.connect()
    other.execute("BEGIN EXCLUSIVE")
    assert store.data_version() == -1
    other.execute("COMMIT")
    other.close()
    assert store.data_version() >= before
    await store.close()


async def test_a_seq_is_not_reused_when_the_newest_job_is_forgotten(store: Store) -> None:
    job, _ = await store.add_job(queued_event(), GRAPH, max_queued=10)
    lease = await store.acquire_lease(EngineId("a"), "me", 60)
    assert lease is not None
    claim = await store.claim_next(lease, prompt_id=new_prompt_id(), now=1)
    assert claim is not None
    await store.record(lease, job.id, [completed(claim.job)])
    seq = await store.last_seq()
    assert await store.prune(now=10**12, retention_days=1, retention_jobs=0) == 1
    assert await store.last_seq() == 0
    await store.add_job(queued_event(), GRAPH, max_queued=10)
    assert await store.last_seq() > seq
