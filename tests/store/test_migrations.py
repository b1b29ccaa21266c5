from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, NullPool, create_engine, insert

from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.settings import Settings
from comfy_mcp.store import Store, database, schema
from comfy_mcp.store.migrations import run
from tests.support.invariants import check_store


def connect(path: Path) -> Connection:
    return create_engine(f"sqlite:///{path}", poolclass=NullPool).connect()


def migrated(path: Path) -> Connection:
    connection = connect(path)
    with connection.begin():
        run.upgrade(connection)
    return connection


def definitions(connection: Connection) -> dict[str, str]:
    """Each table and index as SQL, without layout and quotes."""
    rows = connection.exec_driver_sql(
        "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' AND name <> 'alembic_version'"
    )
    return {name: " ".join(sql.replace('"', "").split()) for name, sql in rows}


def test_head_names_the_newest_migration() -> None:
    assert run.head() == schema.HEAD


def test_migrating_from_nothing_gives_the_tables_of_the_code(tmp_path: Path) -> None:
    with migrated(tmp_path / "a") as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, schema.metadata) == []


def test_migrating_and_creating_at_once_give_the_same_definitions(tmp_path: Path) -> None:
    with migrated(tmp_path / "a") as stepwise, connect(tmp_path / "b") as at_once:
        schema.metadata.create_all(at_once)
        assert definitions(stepwise) == definitions(at_once)
        assert "jobs" in definitions(stepwise)


async def test_an_older_store_is_migrated_when_it_is_opened(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is one revision yet: pretend that the next one adds a table."""
    await (await Store.open(settings)).close()
    calls: list[str] = []

    def upgrade(connection: Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE novelty (x INTEGER)")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'next'")
        calls.append("upgrade")

    monkeypatch.setattr(schema, "HEAD", "next")
    monkeypatch.setattr(run, "upgrade", upgrade)
    for _ in range(2):
        store = await Store.open(settings)
        assert store.info.schema_revision == "next"
        await check_store(store)
        await store.close()
    assert calls == ["upgrade"]


async def test_a_migration_that_fails_leaves_the_store_as_it_was(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await Store.open(settings)).close()

    def upgrade(connection: Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE novelty (x INTEGER)")
        connection.execute(insert(schema.jobs), [{}, {}])

    with monkeypatch.context() as patch:
        patch.setattr(schema, "HEAD", "next")
        patch.setattr(run, "upgrade", upgrade)
        with pytest.raises(StoreFault):
            await Store.open(settings)
    with connect(settings.store_path) as connection:
        assert "novelty" not in definitions(connection)
    store = await Store.open(settings)
    await check_store(store)
    await store.close()


async def test_opening_a_store_at_head_does_not_import_alembic(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: Any) -> Any:
        raise AssertionError("the slow path was taken")

    await (await Store.open(settings)).close()
    monkeypatch.setattr(database, "_upgrade_from", refuse)
    monkeypatch.setattr(database, "_create", refuse)
    store = await Store.open(settings)
    assert store.info.schema_revision == schema.HEAD
    await store.close()
