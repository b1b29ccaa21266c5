from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, NullPool, create_engine, insert

from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.domain.events import FailureKind
from comfy_mcp.settings import Settings
from comfy_mcp.store import JobQuery, Store, schema
from comfy_mcp.store.compiled import TABLES
from comfy_mcp.store.migrations import run
from comfy_mcp.store.sqlite import database
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
        for text in TABLES:
            at_once.exec_driver_sql(text)
        assert definitions(stepwise) == definitions(at_once)
        assert "jobs" in definitions(stepwise)


async def test_an_older_store_is_migrated_when_it_is_opened(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pretend that the next revision adds a table."""
    await (await Store.open(settings)).close()
    calls: list[str] = []

    def upgrade(connection: Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE novelty (x INTEGER)")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'next'")
        calls.append("upgrade")

    monkeypatch.setattr(database, "HEAD", "next")
    monkeypatch.setattr(run, "upgrade", upgrade)
    for _ in range(2):
        store = await Store.open(settings)
        assert store.info.schema_revision == "next"
        await check_store(store)
        await store.close()
    assert calls == ["upgrade"]


async def test_failed_jobs_of_an_older_store_are_found_by_their_kind(settings: Settings) -> None:
    settings.state_dir.mkdir(mode=0o700)
    with connect(settings.store_path) as connection, connection.begin():
        run.upgrade(connection, "0002")
        names = {row.name for row in connection.exec_driver_sql("PRAGMA table_info(jobs)")}
        assert "failure_kind" not in names
        connection.exec_driver_sql(
            "INSERT INTO jobs (id, client, lane, priority, status, created_at, node_count, attempt, "
            "finished_at, progress, cancel_requested, failure, output_count) "
            "VALUES ('old', 'c', 'local', 1, 'failed', 1, 2, 0, 2, 0.0, 0, ?, 0)",
            ('{"kind":"oom","message":"full","node_id":null,"node_type":null,"detail":null}',),
        )
    store = await Store.open(settings)
    found = await store.list_jobs(JobQuery(failure_kind=FailureKind.OOM))
    other = await store.list_jobs(JobQuery(failure_kind=FailureKind.TIMEOUT))
    await store.close()
    assert [job.id for job in found.items] == ["old"]
    assert found.items[0].queue_deadline is None
    assert not found.items[0].oom_retried
    assert other.items == ()


async def test_a_key_of_before_keeps_what_it_could_do(settings: Settings) -> None:
    settings.state_dir.mkdir(mode=0o700)
    with connect(settings.store_path) as connection, connection.begin():
        run.upgrade(connection, "0010")
        for name, rights in (("agent", "cancel read submit"), ("board", "read"), ("chief", "admin submit")):
            connection.exec_driver_sql(
                "INSERT INTO api_keys (name, digest, rights, created_at) VALUES (?, ?, ?, 1)",
                (name, name, rights),
            )
    store = await Store.open(settings)
    kept = {key.name: {right.value for right in key.rights} for key in await store.keys()}
    await store.close()
    assert kept == {
        "agent": {"cancel", "read", "submit", "high"},
        "board": {"read"},
        "chief": {"admin", "submit", "high"},
    }


async def test_deliveries_of_before_wait_for_the_earlier_ones_of_their_job(settings: Settings) -> None:
    settings.state_dir.mkdir(mode=0o700)
    rows = [("a", "delivered"), ("a", "pending"), ("b", "pending"), ("a", "pending"), ("b", "dead")]
    with connect(settings.store_path) as connection, connection.begin():
        run.upgrade(connection, "0021")
        for number, (job, state) in enumerate(rows):
            connection.exec_driver_sql(
                "INSERT INTO deliveries (id, job_id, client, type, at, registered, url, host, state, tries, "
                "due_at) VALUES (?, ?, 'c', 'workflow.queued', 1, 0, '', 'h', ?, 0, 1)",
                (f"{number}", job, state),
            )
        run.upgrade(connection)
        waits = connection.exec_driver_sql("SELECT id FROM deliveries WHERE waits").scalars().all()
    assert waits == ["3"]


async def test_a_migration_that_fails_leaves_the_store_as_it_was(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await Store.open(settings)).close()

    def upgrade(connection: Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE novelty (x INTEGER)")
        connection.execute(insert(schema.jobs), [{}, {}])

    with monkeypatch.context() as patch:
        patch.setattr(database, "HEAD", "next")
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
    monkeypatch.setattr(database, "_check_known", refuse)
    monkeypatch.setattr(database, "_create", refuse)
    store = await Store.open(settings)
    assert store.info.schema_revision == schema.HEAD
    await store.close()
