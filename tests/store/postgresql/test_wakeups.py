"""A NOTIFY says only "look again": one per commit, and losing it costs latency."""

import asyncio
from typing import Any

import psycopg
import pytest

from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.operations.feed import Hub
from comfy_mcp.settings import Settings
from comfy_mcp.store import Store
from comfy_mcp.store.postgresql import wakeups
from comfy_mcp.store.postgresql.database import ServerDatabase
from tests.support.jobs import GRAPH, queued_event


def database_of(store: Store) -> ServerDatabase:
    assert isinstance(store._database, ServerDatabase)
    return store._database


async def listening(store: Store) -> None:
    while not database_of(store)._wakeups.listens:
        await asyncio.sleep(0)


async def hears_of_a_job(other: Store, store: Store) -> None:
    """`other` learns, once it listens, that `store` has added one."""
    await listening(other)
    before = other.data_version()
    await store.add_job(queued_event(), GRAPH, max_queued=10)
    while other.data_version() == before:
        await asyncio.sleep(0)


@pytest.fixture
def never_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wakeups, "LOOK_AGAIN_S", 3_600.0)


async def test_a_commit_of_another_process_changes_the_version_and_an_own_one_does_not(
    never_by_itself: None, store: Store, settings: Settings
) -> None:
    other = await Store.open(settings)
    await listening(store)
    await listening(other)
    first = store.data_version()
    others_first = other.data_version()
    await store.add_job(queued_event(), GRAPH, max_queued=10)
    while other.data_version() == others_first:
        await asyncio.sleep(0)
    assert store.data_version() == first
    await other.close()


async def test_one_commit_of_many_is_one_notice(
    never_by_itself: None, store: Store, by_hand: "psycopg.Connection[Any]"
) -> None:
    by_hand.execute(f'LISTEN "{database_of(store)._channel}"')
    async with asyncio.TaskGroup() as group:
        for _ in range(64):
            group.create_task(store.add_job(queued_event(), GRAPH, max_queued=100))
    by_hand.execute("SELECT 1")
    notices = list(by_hand.notifies(timeout=0))
    assert 0 < len(notices) < 64


async def test_a_lost_notice_costs_latency_only(
    monkeypatch: pytest.MonkeyPatch, store: Store, settings: Settings
) -> None:
    monkeypatch.setattr(wakeups, "LOOK_AGAIN_S", 0.01)
    other = await Store.open(settings)
    monkeypatch.setattr(
        "comfy_mcp.store.postgresql.wakeups.Wakeups._hear", lambda _, server: server.consume_input()
    )
    hub = Hub(other)
    await hub.open()
    with hub.subscribe() as subscription:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(hub.run())
            await store.add_job(queued_event(), GRAPH, max_queued=10)
            assert [event.seq for event in await subscription.changed()] == [1]
            running.cancel()
    await other.close()


async def test_who_listens_comes_back_after_its_connection_was_lost(
    never_by_itself: None,
    monkeypatch: pytest.MonkeyPatch,
    store: Store,
    settings: Settings,
    by_hand: "psycopg.Connection[Any]",
) -> None:
    monkeypatch.setattr(wakeups, "CONNECT_AGAIN_S", 0.01)
    other = await Store.open(settings)
    await listening(other)
    before = other.data_version()
    by_hand.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' "
        "AND pid <> pg_backend_pid()"
    )
    while other.data_version() == before:  # what it may have missed
        await asyncio.sleep(0)
    await hears_of_a_job(other, store)
    await other.close()


async def test_a_defect_does_not_end_the_thread_that_listens(
    never_by_itself: None, monkeypatch: pytest.MonkeyPatch, store: Store, settings: Settings
) -> None:
    monkeypatch.setattr(wakeups, "CONNECT_AGAIN_S", 0.0)
    hear, failed = wakeups.Wakeups._hear, set[int]()

    def fail_once(self: wakeups.Wakeups, server: Any) -> None:
        if id(self) not in failed:
            failed.add(id(self))
            raise RuntimeError("a defect")
        hear(self, server)

    monkeypatch.setattr(wakeups.Wakeups, "_hear", fail_once)
    other = await Store.open(settings)
    async with asyncio.timeout(20):
        for _ in range(2):
            await hears_of_a_job(other, store)
    await other.close()


async def test_a_transaction_without_an_answer_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    """As where the network swallows what is sent."""
    monkeypatch.setattr(wakeups, "LOOK_AGAIN_S", 0.02)
    monkeypatch.setattr("comfy_mcp.store.postgresql.database.READ_S", 1)
    monkeypatch.setattr("comfy_mcp.store.postgresql.database.CONNECT_S", 0)
    monkeypatch.setattr("comfy_mcp.store.database.BUSY_S", 0.2)
    store = await Store.open(settings)
    with pytest.raises(StoreFault):
        await store._readers.do(
            lambda connection: connection.exec_driver_sql(
                "SET LOCAL statement_timeout = 0; SELECT pg_sleep(600)"
            )
        )
    assert await store.events_after(0) == []
    await store.close()
