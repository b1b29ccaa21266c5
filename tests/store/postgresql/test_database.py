"""Opening the store: created, migrated, shared, refused; and nothing of the password anywhere."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, NullPool, create_engine

from comfy_mcp.domain.errors import ErrorCode, InvalidInput, StoreFault
from comfy_mcp.settings import Settings, load_settings
from comfy_mcp.store import Store, schema
from comfy_mcp.store.migrations import run
from comfy_mcp.store.postgresql import database
from tests.support import postgres
from tests.support.jobs import GRAPH, queued_event

SECRET = "hunter2"


def definitions(connection: "psycopg.Connection[Any]") -> Mapping[str, Any]:
    """Columns and indexes, however they came to be."""
    columns = connection.execute(
        "SELECT table_name, column_name, data_type, is_nullable, column_default IS NULL "
        "FROM information_schema.columns WHERE table_schema = current_schema() "
        "AND table_name <> 'alembic_version'"
    ).fetchall()
    indexes = connection.execute(
        "SELECT tablename, indexname, replace(indexdef, current_schema() || '.', '') "
        "FROM pg_indexes WHERE schemaname = current_schema() AND tablename <> 'alembic_version'"
    ).fetchall()
    return {"columns": sorted(columns), "indexes": sorted(indexes)}


def migrate(url: str) -> None:
    run.upgrade_server(lambda: psycopg.connect(url), "SELECT 1")


def test_migrating_from_nothing_gives_the_tables_of_the_code(url: str) -> None:
    migrate(url)
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=NullPool)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []


async def test_migrating_and_creating_at_once_give_the_same_definitions(
    settings: Settings, by_hand: "psycopg.Connection[Any]"
) -> None:
    stepwise = postgres.shared().database()
    migrate(stepwise)
    await (await Store.open(settings)).close()
    with psycopg.connect(stepwise) as other:
        assert definitions(other) == definitions(by_hand)


async def test_a_store_of_before_is_migrated_when_it_is_opened_by_several_at_once(
    settings: Settings, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await Store.open(settings)).close()
    calls: list[str] = []

    def upgrade(connection: Connection) -> None:
        if connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == "next":
            return
        connection.exec_driver_sql("CREATE TABLE novelty (x INTEGER)")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'next'")
        calls.append("upgrade")

    monkeypatch.setattr(database, "HEAD", "next")
    monkeypatch.setattr(run, "upgrade", upgrade)
    async with asyncio.TaskGroup() as group:
        opening = [group.create_task(Store.open(settings)) for _ in range(3)]
    for each in opening:
        assert each.result().info.schema_revision == "next"
        await each.result().close()
    assert calls == ["upgrade"]


async def test_several_at_once_create_one_store(settings: Settings) -> None:
    async with asyncio.TaskGroup() as group:
        opening = [group.create_task(Store.open(settings)) for _ in range(4)]
    stores = [each.result() for each in opening]
    for each in stores:
        await each.add_job(queued_event(), GRAPH, max_queued=10)
    assert sum((await stores[0].counts()).values()) == 4
    for each in stores:
        await each.close()


async def test_a_migration_that_fails_leaves_all_as_it_was(
    settings: Settings, by_hand: "psycopg.Connection[Any]", monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await Store.open(settings)).close()

    def upgrade(connection: Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE novelty (x INTEGER)")
        connection.exec_driver_sql("this is no SQL")

    with monkeypatch.context() as patch:
        patch.setattr(database, "HEAD", "next")
        patch.setattr(run, "upgrade", upgrade)
        with pytest.raises(StoreFault):
            await Store.open(settings)
    row = by_hand.execute("SELECT to_regclass('novelty')").fetchone()
    assert row == (None,)
    await (await Store.open(settings)).close()


async def test_a_newer_schema_is_refused_and_left_alone(
    settings: Settings, by_hand: "psycopg.Connection[Any]"
) -> None:
    await (await Store.open(settings)).close()
    by_hand.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreFault, match="9999") as caught:
        await Store.open(settings)
    assert caught.value.code is ErrorCode.STORE_SCHEMA_NEWER
    assert by_hand.execute("SELECT version_num FROM alembic_version").fetchone() == ("9999",)


async def test_info_says_how_the_store_runs(store: Store) -> None:
    assert store.info.driver == "psycopg"
    assert store.info.schema_revision == schema.HEAD
    assert (await store.file_sizes())["database"] > 1_000_000
    assert (store.info.path.parent.stat().st_mode & 0o777) == 0o700, "what is this machine's own"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (f"postgresql://me:{SECRET}@127.0.0.1:1/name", "can't be reached"),
        (f"postgresql://me:{SECRET}@/name?host=/nowhere", "can't be reached"),
    ],
)
async def test_a_server_that_is_not_there_is_a_fault_without_the_password(
    url: str, says: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = load_settings(state_dir=tmp_path, store=url)
    with pytest.raises(StoreFault, match=says) as caught:
        await Store.open(settings)
    assert caught.value.code is ErrorCode.STORE_UNAVAILABLE
    assert "name" in caught.value.message
    written = "".join((str(caught.value), repr(settings), *capfd.readouterr()))
    assert SECRET not in written


async def test_a_database_that_is_not_there_is_named(tmp_path: Path) -> None:
    settings = load_settings(state_dir=tmp_path, store=postgres.shared().url("missing"))
    with pytest.raises(StoreFault) as caught:
        await Store.open(settings)
    assert 'database "missing" does not exist' in str(caught.value.next_step)


@pytest.mark.parametrize(
    "value", [f"postgresql://me:{SECRET}@host:port/name", f"mysql://me:{SECRET}@host/name"]
)
async def test_a_url_that_can_not_be_used_is_a_mistake_in_the_settings(value: str, tmp_path: Path) -> None:
    with pytest.raises((InvalidInput, StoreFault)) as caught:
        await Store.open(load_settings(state_dir=tmp_path, store=value))
    assert SECRET not in str(caught.value)


async def test_a_read_only_server_says_so(store: Store, by_hand: "psycopg.Connection[Any]") -> None:
    """As a standby after a failover."""
    await store._writer.do(
        lambda connection: connection.exec_driver_sql("SET default_transaction_read_only = on")
    )
    with pytest.raises(StoreFault, match="read-only"):
        await store.add_job(queued_event(), GRAPH, max_queued=10)
    await store._writer.do(
        lambda connection: connection.exec_driver_sql("SET default_transaction_read_only = off")
    )
