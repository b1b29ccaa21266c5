"""Steps of progress: shown at once, in the log never, in the row now and then and at the end."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from comfy_mcp.domain.errors import Fenced
from comfy_mcp.domain.events import JobProgressed, StoredEvent
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.settings import Settings
from comfy_mcp.store import JobQuery, Lease, Store, driven
from tests.support.jobs import GRAPH, completed, failed, new_prompt_id, progressed, queued_event, started

A = EngineId("a")


async def running(store: Store, lease: Lease) -> Job:
    """At node 1, with one tenth done."""
    await store.add_job(queued_event(), GRAPH, max_queued=10)
    claim = await store.claim_next(lease, prompt_id=new_prompt_id(), now=1)
    assert claim is not None
    return await store.record(lease, claim.job.id, [started(claim.job), progressed(claim.job, 0.1)])


async def leased(store: Store) -> Lease:
    lease = await store.acquire_lease(A, "me", 60)
    assert lease is not None
    return lease


async def test_a_step_is_told_and_shown_at_once_and_no_transaction_is_made_of_it(
    store: Store, settings: Settings
) -> None:
    told: list[Sequence[StoredEvent]] = []
    lease = await leased(store)
    job = await running(store, lease)
    log, version = await store.events_after(0), store.data_version()
    store.on_commit(told.append)
    step = progressed(job, 0.5)
    after = await store.record(lease, job.id, [step])
    assert after == replace(job, progress=0.5)
    assert told == [[StoredEvent(seq=0, event=step, volatile=True)]]
    assert (await store.events_after(0), store.data_version()) == (log, version)
    assert await store.get_job(job.id) == after
    view = await store.view_job(job.id)
    assert view is not None
    assert view.job == after
    assert await store.view_job(job.id) == view
    assert (await store.list_jobs(JobQuery())).items == (after,)
    assert (await store.list_views(JobQuery())).items == (view,)
    assert (await store.queue(10)).running == (after,)
    other = await Store.open(settings)
    assert await other.get_job(job.id) == job
    seq, (known,) = await other.others_steps()
    assert (seq, replace(known, at=0)) == (log[-1].seq, progressed(job, 0.1, at=0))
    assert (await store.others_steps())[1] == []
    await other.close()


async def test_steps_are_written_after_a_while_and_then_told_without_a_place(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = await leased(store)
    job = await running(store, lease)
    await store.record(lease, job.id, [progressed(job, 0.3)])
    monkeypatch.setattr(driven, "WRITE_S", 0.0)
    log = await store.events_after(0)
    after = await store.record(lease, job.id, [progressed(job, 0.5)])
    assert await store.events_after(0) == log
    other = await Store.open(settings)
    assert await other.get_job(job.id) == after
    await other.close()


async def test_another_node_is_an_event_of_the_log(store: Store) -> None:
    lease = await leased(store)
    job = await running(store, lease)
    await store.record(lease, job.id, [progressed(job, 0.3)])
    await store.record(lease, job.id, [progressed(job, 0.4, node="2")])
    log = [stored.event for stored in await store.events_after(0)]
    assert [event.node_id for event in log if isinstance(event, JobProgressed)] == ["1", "2"]


async def test_the_last_step_is_written_with_a_failure(store: Store, settings: Settings) -> None:
    lease = await leased(store)
    job = await running(store, lease)
    await store.record(lease, job.id, [progressed(job, 0.7)])
    ended = await store.record(lease, job.id, [failed(job)])
    assert (ended.status, ended.progress) == (JobStatus.FAILED, 0.7)
    other = await Store.open(settings)
    assert await other.get_job(job.id) == ended
    await other.close()


async def test_a_row_that_was_read_before_the_last_write_shows_no_step_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = await leased(store)
    before = await running(store, lease)
    monkeypatch.setattr(driven, "WRITE_S", 0.0)
    after = await store.record(lease, before.id, [progressed(before, 0.5)])
    assert store._driven.unwritten(lease, before.id) == ()
    assert store._driven.shown(before) == after
    assert store._driven.shown(after) is after


async def test_what_whoever_lost_the_lease_has_shown_is_forgotten(store: Store, settings: Settings) -> None:
    lease = await leased(store)
    job = await running(store, lease)
    await store.record(lease, job.id, [progressed(job, 0.7)])
    newer = await leased(store)
    await store.adopt(newer)
    with pytest.raises(Fenced):
        await store.record(lease, job.id, [completed(job)])
    assert await store.get_job(job.id) == job
    await store.record(newer, job.id, [progressed(job, 0.8)])
    await store.record(newer, job.id, [progressed(job, 0.9)])
    await store.release_lease(newer)
    assert (await store.get_job(job.id)) == replace(job, progress=0.8)


async def test_so_many_are_remembered_and_no_more(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driven, "MAX_DRIVEN", 1)
    monkeypatch.setattr(store, "_driven", driven.Driven())
    lease = await leased(store)
    one, two = await running(store, lease), await running(store, lease)
    for job in (one, two):
        await store.record(lease, job.id, [progressed(job, 0.7)])
    assert len(store._driven._known) == 1
    await store.record(lease, one.id, [completed(one)])
    assert (await store.get_job(two.id)) == replace(two, progress=0.7)


async def test_a_row_read_before_the_end_shows_no_less_than_was_shown(store: Store) -> None:
    lease = await leased(store)
    job = await running(store, lease)
    known = driven.Driven()
    known.wrote(lease, job)
    assert known.take(lease, job.id, [progressed(job, 0.5)]) is not None
    known.wrote(lease, await store.record(lease, job.id, [completed(job)]))
    assert not known.knows(job.id)
    assert known.shown(job) == replace(job, progress=0.5)
    again = replace(job, attempt=2)
    assert known.shown(again) == again
