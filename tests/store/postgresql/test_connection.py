"""One writer at a time, the order of the log, and what becomes of a transaction whose connection is lost."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import pytest

from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.domain.events import StoredEvent
from comfy_mcp.settings import Settings
from comfy_mcp.store import Store
from comfy_mcp.store.connection import Connection
from comfy_mcp.store.postgresql import connection as module
from comfy_mcp.store.postgresql.connection import BEGIN_WRITING, STORE_LOCK, ServerConnection
from tests.support.invariants import check_store
from tests.support.jobs import GRAPH, completed, new_prompt_id, queued_event, started
from tests.support.leases import A, lease_on


async def test_what_is_read_at_a_seq_never_gets_a_predecessor(store: Store, settings: Settings) -> None:
    """Three processes write, a fourth reads as fast as it can: none comes below one that it has seen."""
    others = [await Store.open(settings) for _ in range(2)]
    reader = await Store.open(settings)
    seen: list[StoredEvent] = []
    done = asyncio.Event()

    async def read() -> None:
        while True:
            last = done.is_set()
            seen.extend(await reader.events_after(seen[-1].seq if seen else 0))
            if last:
                return

    async def write(each: Store) -> None:
        for _ in range(40):
            await each.add_job(queued_event(), GRAPH, max_queued=1_000)

    async with asyncio.TaskGroup() as group:
        group.create_task(read())
        async with asyncio.TaskGroup() as writing:
            for each in (store, *others) * 3:
                writing.create_task(write(each))
        done.set()
    assert [event.seq for event in seen] == [event.seq for event in await all_events(store)]
    assert len(seen) == 360
    for each in (*others, reader):
        await each.close()


async def all_events(store: Store) -> list[StoredEvent]:
    return await store.events_after(0, limit=10_000)


async def test_a_writer_that_has_a_seq_and_has_not_committed_holds_up_every_other_writer(
    store: Store, by_hand: "psycopg.Connection[Any]"
) -> None:
    """The trap: the later number is committed first. Here the later writer gets its number afterwards."""
    early = ServerConnection(by_hand, begin=BEGIN_WRITING)
    early.begin()
    number = by_hand.execute("SELECT nextval(pg_get_serial_sequence('events', 'seq'))").fetchone()
    assert number is not None
    async with asyncio.TaskGroup() as late:
        late.create_task(store.add_job(queued_event(), GRAPH, max_queued=10))
        while not waits_for_the_lock(by_hand):
            await asyncio.sleep(0)
        assert await all_events(store) == []
        by_hand.execute("ROLLBACK")
    assert [event.seq > number[0] for event in await all_events(store)] == [True]


def waits_for_the_lock(connection: "psycopg.Connection[Any]") -> bool:
    waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    return connection.execute(waiting).fetchone() is not None


async def test_every_write_takes_the_lock_and_no_read_does(
    store: Store, by_hand: "psycopg.Connection[Any]"
) -> None:
    by_hand.execute(f"BEGIN; SELECT {STORE_LOCK}")
    assert await store.events_after(0) == []
    await store.counts()
    async with asyncio.TaskGroup() as group:
        lease = group.create_task(store.acquire_lease(A, "me", 60))
        while not waits_for_the_lock(by_hand):
            await asyncio.sleep(0)
        assert not lease.done()
        by_hand.execute("COMMIT")
    assert lease.result() is not None


async def test_a_lock_that_is_held_for_too_long_is_a_fault_and_the_next_write_goes_on(
    settings: Settings, by_hand: "psycopg.Connection[Any]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comfy_mcp.store.database.BUSY_S", 0.2)
    store = await Store.open(settings)
    by_hand.execute(f"BEGIN; SELECT {STORE_LOCK}")
    with pytest.raises(StoreFault, match="locked"):
        await store.add_job(queued_event(), GRAPH, max_queued=10)
    by_hand.execute("COMMIT")
    await store.add_job(queued_event(), GRAPH, max_queued=10)
    await store.close()


async def test_whoever_stops_within_a_transaction_is_cut_off_before_the_others_give_up(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a process that is paused, or whose machine is gone."""
    monkeypatch.setattr("comfy_mcp.store.database.BUSY_S", 0.6)
    one, other = await Store.open(settings), await Store.open(settings)
    paused, go = threading.Event(), threading.Event()

    def stop(connection: Connection) -> None:
        paused.set()
        go.wait()
        connection.exec_driver_sql("SELECT 1")

    async def write() -> None:
        with pytest.raises(StoreFault):
            await one._writer.do(stop)

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        await asyncio.to_thread(paused.wait)
        await other.add_job(queued_event(), GRAPH, max_queued=10)
        go.set()
    await one.add_job(queued_event(), GRAPH, max_queued=10)
    assert sum((await one.counts()).values()) == 2
    await one.close()
    await other.close()


# ------------------------------------------------------------------------------- a connection that is lost


class Cut:
    """Loses the connection of the writer ahead of its n-th statement, or right behind it."""

    def __init__(self, statements: Any, at: int, *, behind: bool) -> None:
        self._statements = statements
        self._left = at
        self._behind = behind
        self.happened = False

    def run(self, *args: Any) -> Any:
        return self._cut(lambda: self._statements.run(*args))

    def send(self, *args: Any) -> None:
        self._cut(lambda: self._statements.send(*args))

    def _cut(self, do: Callable[[], Any]) -> Any:
        self._left -= 1
        if self._left == 0 and not self._behind:
            self._lose()
        result = do()
        if self._left == 0 and self._behind:
            self._lose()
            raise psycopg.OperationalError("the answer was lost")
        return result

    def over(self) -> None:
        """It has had fewer statements, and keeps its connection."""
        self._left = 0

    def _lose(self) -> None:
        self.happened = True
        self._statements.connection.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._statements, name)


@contextmanager
def losing(monkeypatch: pytest.MonkeyPatch, at: int, *, behind: bool) -> Iterator[list[Cut]]:
    """Of each connection that begins to write from now on; only the first one is lost."""
    cuts: list[Cut] = []
    begin = ServerConnection.begin

    def begin_and_cut(self: ServerConnection) -> None:
        begin(self)
        if self._begin == BEGIN_WRITING and not cuts:
            cuts.append(Cut(self._statements, at, behind=behind))
            self._statements = cuts[0]  # type: ignore[assignment]

    with monkeypatch.context() as patch:
        patch.setattr(module.ServerConnection, "begin", begin_and_cut)
        yield cuts
    for cut in cuts:
        cut.over()


@pytest.mark.parametrize("behind", [False, True], ids=["before it", "after it"])
async def test_a_connection_lost_at_any_statement_leaves_all_of_a_submit_or_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, behind: bool
) -> None:
    at, kept = 0, 0
    while True:
        at += 1
        event = queued_event()
        with losing(monkeypatch, at, behind=behind) as cuts:
            answered = False
            with suppress(StoreFault):
                await store.add_job(event, GRAPH, max_queued=1_000)
                answered = True
        there = await store.get_job(event.job_id) is not None
        if not cuts[0].happened:
            assert answered
            break
        assert not answered
        kept += there
        await check_store(store)
    assert at > 6
    assert kept == behind, "the answer to a COMMIT may be lost, and then it is there"


@pytest.mark.parametrize("behind", [False, True], ids=["before it", "after it"])
async def test_a_claim_whose_answer_was_lost_is_found_by_adoption(
    store: Store, monkeypatch: pytest.MonkeyPatch, behind: bool
) -> None:
    lease = await lease_on(store)
    at = 0
    while True:
        at += 1
        job, _ = await store.add_job(queued_event(), GRAPH, max_queued=1_000)
        prompt_id = new_prompt_id()
        with losing(monkeypatch, at, behind=behind) as cuts:
            try:
                claim = await store.claim_next(lease, prompt_id=prompt_id, now=1_500)
            except StoreFault:
                claim = None
        adopted = await store.adopt(lease)
        there = await store.get_job(job.id)
        assert there is not None
        assert [each.job.prompt_id for each in adopted] == ([prompt_id] if there.is_claimed else [])
        if not cuts[0].happened:
            assert claim is not None
            break
        if not there.is_claimed:
            claim = await store.claim_next(lease, prompt_id=new_prompt_id(), now=1_500)
            assert claim is not None
            there = claim.job
        await store.record(lease, job.id, [started(there), completed(there)])
        await check_store(store)
    assert at > 6


async def test_a_server_that_restarts_is_not_noticed_between_two_transactions(
    store: Store, by_hand: "psycopg.Connection[Any]"
) -> None:
    await store.add_job(queued_event(), GRAPH, max_queued=10)
    await store.counts()
    by_hand.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
        "AND application_name = 'comfy-bridge'"
    )
    await store.add_job(queued_event(), GRAPH, max_queued=10)
    assert sum((await store.counts()).values()) == 2
