import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from comfy_mcp.domain.errors import ErrorCode, LimitExceeded, NotFound, StoreFault
from comfy_mcp.domain.events import StoredEvent
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.job import JobStatus
from comfy_mcp.settings import Settings
from comfy_mcp.store import JobGraph, JobQuery, Store, queue, threads
from comfy_mcp.store import store as store_module
from comfy_mcp.store.connection import Connection
from comfy_mcp.store.sqlite import database
from tests.support.invariants import check_store
from tests.support.jobs import GRAPH, completed, new_prompt_id, progressed, queued_event, started, submission


class Held:
    """The writer, stopped inside a transaction of its own until `release`."""

    def __init__(self) -> None:
        self.inside = threading.Event()
        self._go = threading.Event()

    def __call__(self, _connection: Any) -> str:
        self.inside.set()
        assert self._go.wait(30)
        return "held"

    def release(self) -> None:
        self._go.set()


@asynccontextmanager
async def held_writer(store: Store, tasks: asyncio.TaskGroup) -> AsyncIterator[Held]:
    held = Held()
    tasks.create_task(store._writer.do(held))
    await asyncio.to_thread(held.inside.wait, 30)
    try:
        yield held
    finally:
        held.release()


async def handed_over() -> None:
    """Let the tasks that were just made run up to their first wait."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_a_cancelled_submit_still_commits_as_a_whole(store: Store) -> None:
    submitted = queued_event()
    async with asyncio.TaskGroup() as tasks, held_writer(store, tasks):
        task = tasks.create_task(store.add_job(submitted, GRAPH, max_queued=10))
        await handed_over()
        task.cancel()
        await handed_over()
        assert task.cancelled()
    await store.add_job(queued_event(), GRAPH, max_queued=10)
    assert await store.get_graph(submitted.job_id) == JobGraph(graph=GRAPH)
    assert len(await store.events_after(0)) == 2


async def test_what_waits_together_is_committed_together_and_fails_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    begin = Connection.begin

    def noted(connection: Connection) -> None:
        begun.append("begin")
        begin(connection)

    woken: list[Sequence[StoredEvent]] = []
    store.on_commit(woken.append)
    lease = await store.acquire_lease(EngineId("a"), "me", 60)
    assert lease is not None
    first = queued_event()
    monkeypatch.setattr(Connection, "begin", noted)
    async with asyncio.TaskGroup() as tasks, held_writer(store, tasks) as held:
        good = [
            tasks.create_task(store.add_job(each, GRAPH, max_queued=10)) for each in (first, queued_event())
        ]
        full = tasks.create_task(_outcome(store.add_job(queued_event(), GRAPH, max_queued=2)))
        twice = tasks.create_task(_outcome(store.add_job(first, GRAPH, max_queued=10)))
        renewal = tasks.create_task(store.renew_lease(lease, 60))
        last = tasks.create_task(store.add_job(queued_event(), GRAPH, max_queued=10))
        await handed_over()
        held.release()
    assert begun == ["begin", "begin"], "the held transaction, and one for all that waited"
    assert woken == [tuple(await store.events_after(0))]
    assert [task.result()[1] for task in (*good, last)] == [1, 2, 3]
    assert isinstance(full.result(), LimitExceeded)
    assert isinstance(twice.result(), StoreFault)
    assert renewal.result() is None
    assert (await store.counts())[JobStatus.QUEUED] == 3


async def test_a_listener_that_raises_takes_nothing_from_whoever_wrote_nor_from_the_next(
    store: Store,
) -> None:
    """The job is written: its caller hears so."""
    told: list[Sequence[StoredEvent]] = []

    def broken(_events: Sequence[StoredEvent]) -> None:
        raise RuntimeError("a defect")

    store.on_commit(broken)
    store.on_commit(told.append)
    job, _ = await store.add_job(queued_event(), GRAPH, max_queued=10)
    await store.add_jobs([submission(queued_event())])
    assert await store.get_job(job.id) == job
    assert [stored for each in told for stored in each] == await store.events_after(0)


async def test_what_a_failed_piece_of_a_transaction_had_appended_is_not_told(store: Store) -> None:
    told: list[Sequence[StoredEvent]] = []
    store.on_commit(told.append)
    lease = await store.acquire_lease(EngineId("a"), "me", 60)
    assert lease is not None
    job, _ = await store.add_job(queued_event(), GRAPH, max_queued=10)
    other, _ = await store.add_job(queued_event(), GRAPH, max_queued=10)

    def fail_late(connection: Connection) -> None:
        queue.cancel(connection, other.id, 5, None)
        raise NotFound("late", next_step="none")

    async with asyncio.TaskGroup() as tasks, held_writer(store, tasks) as held:
        one = tasks.create_task(store.add_job(queued_event(at=6), GRAPH, max_queued=10))
        late = tasks.create_task(_outcome(store._writer.do(fail_late)))
        two = tasks.create_task(store.request_cancel(job.id, at=7, reason=None))
        await handed_over()
        held.release()
    assert (one.exception(), two.exception()) == (None, None)
    assert isinstance(late.result(), NotFound)
    assert [stored for each in told for stored in each] == await store.events_after(0)
    assert [stored.event.at for stored in told[-1]] == [6, 7, 7]


async def test_progress_that_its_own_transaction_drops_again_is_not_told(store: Store) -> None:
    told: list[Sequence[StoredEvent]] = []
    store.on_commit(told.append)
    lease = await store.acquire_lease(EngineId("a"), "me", 60)
    assert lease is not None
    for _ in range(2):
        await store.add_job(queued_event(), GRAPH, max_queued=10)
    claims = [await store.claim_next(lease, prompt_id=new_prompt_id(), now=1) for _ in range(2)]
    job, other = (claim.job for claim in claims if claim is not None)
    async with asyncio.TaskGroup() as tasks, held_writer(store, tasks) as held:
        for each in (job, other):
            tasks.create_task(store.record(lease, each.id, [started(each, 1), progressed(each, 0.1, 1)]))
        tasks.create_task(store.record(lease, job.id, [progressed(job, 0.2, 2), completed(job, 2, 0)]))
        await handed_over()
        held.release()
    assert [stored.event for stored in told[-1]] == [
        started(job, 1),
        started(other, 1),
        progressed(other, 0.1, 1),
        completed(job, 2, 0),
    ]
    assert [stored for each in told for stored in each] == await store.events_after(0)


async def test_a_submit_counts_what_others_in_its_group_have_changed(store: Store) -> None:
    leaving, _ = await store.add_job(queued_event(), GRAPH, max_queued=10)
    async with asyncio.TaskGroup() as tasks, held_writer(store, tasks) as held:
        before = tasks.create_task(store.add_job(queued_event(), GRAPH, max_queued=10))
        tasks.create_task(store.request_cancel(leaving.id, at=1, reason=None))
        after = tasks.create_task(store.add_job(queued_event(), GRAPH, max_queued=10))
        await handed_over()
        held.release()
    assert [task.result()[1] for task in (before, after)] == [2, 2]


async def _outcome(awaitable: Any) -> object:
    try:
        return await awaitable
    except Exception as error:  # noqa: BLE001 - the outcome is what is looked at
        return error


async def test_a_disk_that_fills_up_in_a_group_tells_each_caller_the_truth(settings: Settings) -> None:
    store = await Store.open(settings)
    await store.add_job(queued_event(), GRAPH, max_queued=10)

    def limit(connection: Any) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 3}")

    await store._writer.do(limit)
    events = [queued_event() for _ in range(4)]
    graphs: list[dict[str, Any]] = [GRAPH, {"big": "x" * 300_000}, GRAPH, {"big": "x" * 300_000}]
    async with asyncio.TaskGroup() as tasks, held_writer(store, tasks) as held:
        outcomes = [
            tasks.create_task(_outcome(store.add_job(each, graph, max_queued=10)))
            for each, graph in zip(events, graphs, strict=True)
        ]
        await handed_over()
        held.release()
    told = {
        each.job_id
        for each, outcome in zip(events, outcomes, strict=True)
        if not isinstance(outcome.result(), Exception)
    }
    faults = [task.result() for task in outcomes if isinstance(task.result(), Exception)]
    assert len(faults) >= 2
    assert all(isinstance(fault, StoreFault) for fault in faults), faults
    there = {job.id for job in (await store.list_jobs(JobQuery())).items} & {each.job_id for each in events}
    assert told == there
    await check_store(store)
    await store.close()


async def test_an_unexpected_error_reaches_its_caller_and_the_thread_lives_on(store: Store) -> None:
    def broken(_connection: Any) -> None:
        raise ZeroDivisionError("a defect")

    for worker in (store._writer, store._readers):
        with pytest.raises(ZeroDivisionError):
            await worker.do(broken)
        assert await worker.do(lambda _connection: "alive") == "alive"


async def test_beyond_the_bound_callers_wait_and_can_still_leave(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "MAX_WAITING", 2)
    store = await Store.open(settings)
    within, beyond, left = queued_event(), queued_event(), queued_event()
    async with asyncio.TaskGroup() as tasks, held_writer(store, tasks) as held:
        tasks.create_task(store.add_job(within, GRAPH, max_queued=10))
        tasks.create_task(store.add_job(beyond, GRAPH, max_queued=10))
        leaving = tasks.create_task(store.add_job(left, GRAPH, max_queued=10))
        await handed_over()
        assert store._writer._inbox.qsize() == 1
        leaving.cancel()
        await handed_over()
        held.release()
    assert await store.get_job(within.job_id) is not None
    assert await store.get_job(beyond.job_id) is not None
    assert await store.get_job(left.job_id) is None
    await store.close()


async def test_closing_finishes_what_was_handed_over_and_refuses_the_rest(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "MAX_WAITING", 2)
    store = await Store.open(settings)
    submitted = queued_event()
    async with asyncio.TaskGroup() as tasks, held_writer(store, tasks) as held:
        adding = tasks.create_task(store.add_job(submitted, GRAPH, max_queued=10))
        late = tasks.create_task(_outcome(store.add_job(queued_event(), GRAPH, max_queued=10)))
        await handed_over()
        closing = tasks.create_task(store.close())
        await handed_over()
        assert not closing.done()
        held.release()
    assert adding.result()[0].id == submitted.job_id
    refused = late.result()
    assert isinstance(refused, StoreFault)
    assert refused.code is ErrorCode.SHUTTING_DOWN
    await store.close()
    for call in (store.add_job(queued_event(), GRAPH, max_queued=10), store.counts()):
        with pytest.raises(StoreFault) as caught:
            await call
        assert caught.value.code is ErrorCode.SHUTTING_DOWN
    with pytest.raises(StoreFault) as caught:
        store.data_version()
    assert caught.value.code is ErrorCode.SHUTTING_DOWN
    again = await Store.open(settings)
    assert await again.get_graph(submitted.job_id) == JobGraph(graph=GRAPH)
    await check_store(again)
    await again.close()


async def test_closing_that_is_cancelled_can_be_done_again(settings: Settings) -> None:
    before = set(threading.enumerate())
    store = await Store.open(settings)
    async with asyncio.TaskGroup() as tasks, held_writer(store, tasks) as held:
        closing = tasks.create_task(store.close())
        await handed_over()
        closing.cancel()
        await handed_over()
        held.release()
    await store.close()
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if thread.name.startswith("store-")]


async def test_the_log_of_the_file_is_moved_into_it_beside_the_writer(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "WAL_SAFE_FROM", (0,))
    monkeypatch.setattr(store_module, "CHECKPOINT_COMMITS", 5)
    monkeypatch.setattr(database, "_AUTOCHECKPOINT_PAGES", 0)  # SQLite itself never does
    store = await Store.open(settings)
    before = settings.store_path.stat().st_size
    for _ in range(200):
        await store.add_job(queued_event(), {"some": "x" * 5_000}, max_queued=1_000)
        if settings.store_path.stat().st_size > before:
            break
    else:
        raise AssertionError("200 commits later nothing has moved")
    await store.close()
