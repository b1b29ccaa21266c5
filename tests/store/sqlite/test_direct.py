"""Small transactions on the loop's own thread: only where nothing has to wait, and always in order."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from comfy_mcp.domain.errors import LimitExceeded, StoreFault
from comfy_mcp.domain.events import StoredEvent
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.settings import Settings
from comfy_mcp.store import ClaimOffer, Store
from comfy_mcp.store.driver_side import SMALL_BYTES
from comfy_mcp.store.sqlite import database
from tests.support.invariants import check_store, file_of
from tests.support.jobs import (
    GRAPH,
    completed,
    new_prompt_id,
    output_of_job,
    queued_event,
    started,
    submission,
)


class Opened:
    """A store, and how many pieces of work its threads were given."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = store
        self.writes = self.reads = 0
        monkeypatch.setattr(store._writer, "do", self._counted(store._writer.do, "writes"))
        monkeypatch.setattr(store._readers, "do", self._counted(store._readers.do, "reads"))

    def _counted(self, do: Callable[..., Any], name: str) -> Callable[..., Any]:
        async def counted(work: Any) -> Any:
            setattr(self, name, getattr(self, name) + 1)
            return await do(work)

        return counted

    async def add(self, **graph: Any) -> Any:
        return await self.store.add_job(queued_event(), graph or GRAPH, max_queued=10)


@asynccontextmanager
async def opened(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, *, wal: bool = True
) -> AsyncIterator[Opened]:
    monkeypatch.setattr(database, "WAL_SAFE_FROM", (0,) if wal else (999,))
    store = await Store.open(settings)
    yield Opened(store, monkeypatch)
    await check_store(store)
    await store.close()


async def test_small_writes_and_reads_by_key_need_no_thread(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(settings, monkeypatch) as house:
        job, _ = await house.add()
        await house.store.request_cancel(job.id, at=2, reason=None)
        assert await house.store.get_job(job.id) is not None
        assert await house.store.view_job(job.id) is not None
        assert (house.writes, house.reads) == (0, 0)


async def test_a_job_takes_twelve_statements_in_two_transactions(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(settings, monkeypatch) as house:
        store, said = house.store, list[str]()
        lease = await store.acquire_lease(EngineId("engine"), "me", 60)
        assert lease is not None
        file_of(store).loop_writer.driver_connection.set_trace_callback(said.append)

        offer = ClaimOffer(lease=lease, prompt_id=new_prompt_id())
        job, _, claim = await store.add_and_claim(submission(queued_event()), offer)
        assert claim is not None
        await store.record(lease, job.id, [started(job), completed(job)], outputs=[output_of_job(job)])

        assert [text for text in said if text == "COMMIT"] == ["COMMIT"] * 2
        statements = [text for text in said if text.startswith(("SELECT", "INSERT", "UPDATE", "DELETE"))]
        assert len(statements) == 12, statements
        assert house.writes == 0


async def test_an_error_undoes_what_was_done_and_the_next_write_is_whole(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[StoredEvent] = []
    async with opened(settings, monkeypatch) as house:
        house.store.on_commit(told.extend)
        event = queued_event()
        await house.store.add_job(event, GRAPH, max_queued=10)
        with pytest.raises(StoreFault):
            await house.store.add_job(event, GRAPH, max_queued=10)
        with pytest.raises(LimitExceeded):
            await house.store.add_job(queued_event(), GRAPH, max_queued=1)
        await house.add()
        assert told == await house.store.events_after(0)
        assert len(told) == 2
        assert house.writes == 0


async def test_while_somebody_else_holds_the_lock_writes_wait_in_the_thread_and_keep_their_order(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Sequence[StoredEvent]] = []
    async with opened(settings, monkeypatch) as house:
        house.store.on_commit(told.append)
        other = file_of(house.store)._driver.connect()
        other.execute("BEGIN IMMEDIATE")
        events = [queued_event(at=at) for at in range(4)]
        async with asyncio.TaskGroup() as tasks:
            adding = [tasks.create_task(house.store.add_job(event, GRAPH, max_queued=10)) for event in events]
            await asyncio.sleep(0)
            assert (await house.store.events_after(0)) == []
            assert house.writes == 4
            assert await house.store.get_job(events[0].job_id) is None, "readers go on meanwhile"
            other.execute("COMMIT")
        other.close()
        assert [task.result()[1] for task in adding] == [1, 2, 3, 4]
        assert [stored.event for each in told for stored in each] == events
        assert house.writes == 4
        await house.add()
        assert house.writes == 4, "the thread has done its work: the loop's turn again"


async def test_a_large_graph_is_written_by_the_thread(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(settings, monkeypatch) as house:
        await house.add(text="x" * SMALL_BYTES)
        assert house.writes == 1
        await house.add(text="x" * 100)
        assert house.writes == 1


@pytest.mark.parametrize(("wal", "synchronous"), [(False, "normal"), (True, "full")])
async def test_what_reaches_the_disk_at_each_commit_is_written_by_the_thread(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, wal: bool, synchronous: str
) -> None:
    changed = settings.model_copy(update={"store_synchronous": synchronous})
    async with opened(changed, monkeypatch, wal=wal) as house:
        await house.add()
        assert house.writes == 1


async def test_a_read_that_meets_a_lock_waits_in_a_thread(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(settings, monkeypatch, wal=False) as house:
        job, _ = await house.add()
        other = file_of(house.store)._driver.connect()
        other.execute("BEGIN EXCLUSIVE")
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(house.store.get_job(job.id))
            await asyncio.sleep(0)
            assert house.reads == 1
            other.execute("COMMIT")
        other.close()
        assert reading.result() == job
