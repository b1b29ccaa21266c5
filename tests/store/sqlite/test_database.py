import importlib
import os
import sqlite3
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from comfy_mcp.domain.errors import ErrorCode, StoreFault
from comfy_mcp.settings import Settings
from comfy_mcp.store import JobQuery, Store
from comfy_mcp.store.connection import Connection
from comfy_mcp.store.schema import HEAD
from comfy_mcp.store.sqlite import database
from comfy_mcp.store.sqlite.faults import translated
from tests.support.invariants import check_store, file_of
from tests.support.jobs import GRAPH, queued_event
from tests.support.unprivileged import unprivileged


def driver_connection(path: Path) -> Any:
    """By the driver that the store uses, with transactions only where a test begins one."""
    try:
        module = importlib.import_module("pysqlite3.dbapi2")
    except ImportError:
        module = sqlite3
    return module.connect(str(path), isolation_level=None)


async def add_one(settings: Settings) -> str:
    store = await Store.open(settings)
    job, _ = await store.add_job(queued_event(), GRAPH, max_queued=10)
    await store.close()
    return job.id


# ---------------------------------------------------------------------------- permissions, journal


async def test_file_and_folder_are_private(settings: Settings) -> None:
    previous = os.umask(0)
    try:
        store = await Store.open(settings)
        await store.add_job(queued_event(), GRAPH, max_queued=10)
    finally:
        os.umask(previous)
    assert stat.S_IMODE(settings.state_dir.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in settings.state_dir.iterdir()}
    assert settings.store_path.name in modes
    assert set(modes.values()) == {0o600}, modes
    await store.close()


async def test_a_file_that_others_may_read_becomes_private(settings: Settings) -> None:
    await add_one(settings)
    settings.store_path.chmod(0o644)
    await (await Store.open(settings)).close()
    assert stat.S_IMODE(settings.store_path.stat().st_mode) == 0o600


async def test_info_says_how_the_store_runs(settings: Settings) -> None:
    store = await Store.open(settings)
    info = store.info
    module = importlib.import_module("pysqlite3.dbapi2" if info.driver == "pysqlite3" else "sqlite3")
    wal = module.sqlite_version_info >= (3, 51, 3)
    assert info.path == settings.store_path
    assert info.version == f"SQLite {module.sqlite_version}"
    assert (info.journal_mode, info.synchronous) == (("wal", "normal") if wal else ("truncate", "full"))
    assert info.schema_revision == HEAD
    assert info.set_aside is None
    await store.close()


async def test_without_the_bundled_driver_the_linked_sqlite_decides(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pysqlite3.dbapi2", None)
    store = await Store.open(settings)
    assert store.info.driver == "sqlite3"
    assert store.info.version == f"SQLite {sqlite3.sqlite_version}"
    safe = sqlite3.sqlite_version_info >= database.WAL_SAFE_FROM
    assert store.info.journal_mode == ("wal" if safe else "truncate")
    await store.add_job(queued_event(), GRAPH, max_queued=10)
    await check_store(store)
    await store.close()


async def test_the_setting_full_syncs_every_write(settings: Settings) -> None:
    store = await Store.open(settings.model_copy(update={"store_synchronous": "full"}))
    level = await store._writer.do(
        lambda connection: connection.exec_driver_sql("PRAGMA synchronous").scalar()
    )
    assert store.info.synchronous == "full"
    assert level == 2
    await store.close()


async def test_an_unsafe_sqlite_refuses_a_wal_that_is_in_use(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "WAL_SAFE_FROM", (0,))
    store = await Store.open(settings)
    await store.add_job(queued_event(), GRAPH, max_queued=10)
    monkeypatch.setattr(database, "WAL_SAFE_FROM", (999,))
    monkeypatch.setattr("comfy_mcp.store.database.BUSY_S", 0.05)
    with pytest.raises(StoreFault) as caught:
        await Store.open(settings)
    assert caught.value.code is ErrorCode.STORE_UNAVAILABLE
    assert "journal" in caught.value.message
    await store.close()


async def test_where_there_is_no_wal_the_store_runs_without(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system without shared memory answers a wish for WAL with another mode, as :memory: does."""
    monkeypatch.setattr(database, "WAL_SAFE_FROM", (0,))
    driver = database._driver(settings.store_path, settings)

    class NoShared(database._Driver):
        def bare(self, *, read_only: bool = False) -> Any:
            return self.module.connect(":memory:")

    values = {name: getattr(driver, name) for name in database._Driver.__dataclass_fields__}
    adapted = database._set_journal(NoShared(**values))
    assert (driver.journal_mode, adapted.journal_mode, adapted.synchronous) == ("wal", "truncate", "full")


async def test_damage_met_while_running_is_named(settings: Settings) -> None:
    store = await Store.open(settings)
    await store.add_job(queued_event(), GRAPH, max_queued=10)
    await store.close()
    content = settings.store_path.read_bytes()
    settings.store_path.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))
    driver = database._driver(settings.store_path, settings)
    with pytest.raises(StoreFault) as caught:
        database._revision(driver)
    assert caught.value.code is ErrorCode.STORE_CORRUPT
    with pytest.raises(StoreFault) as caught, translated(settings.store_path):
        Connection(driver.connect()).exec_driver_sql("SELECT * FROM jobs")
    assert caught.value.code is ErrorCode.STORE_CORRUPT


async def test_damage_met_while_running_has_a_large_file_checked_at_the_next_open(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "CHECKED_BYTES", 0)
    monkeypatch.setattr(database, "WAL_SAFE_FROM", (999,))
    store = await Store.open(settings)
    await store.add_job(queued_event(), GRAPH, max_queued=10)

    def root_of_jobs(connection: Any) -> int:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'jobs'"
        return int(connection.exec_driver_sql(query).scalar())

    page = await store._readers.do(root_of_jobs)
    await store.close()
    content = bytearray(settings.store_path.read_bytes())
    content[4096 * (page - 1) : 4096 * page] = b"\xa5" * 4096
    settings.store_path.write_bytes(content)

    store = await Store.open(settings)
    assert store.info.set_aside is None
    with pytest.raises(StoreFault) as caught:
        await store.list_jobs(JobQuery())
    assert caught.value.code is ErrorCode.STORE_CORRUPT
    await store.close()
    again = await Store.open(settings)
    assert again.info.set_aside is not None
    assert again.info.set_aside.read_bytes() == bytes(content)
    assert not list(settings.state_dir.glob("*.suspect"))
    await check_store(again)
    await again.close()


async def test_damage_that_cannot_be_set_aside_is_an_error(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path) -> Path:
        raise PermissionError(1, "not allowed")

    settings.state_dir.mkdir()
    settings.store_path.write_bytes(b"junk" * 1000)
    monkeypatch.setattr(database, "set_aside", refuse)
    with pytest.raises(StoreFault) as caught:
        await Store.open(settings)
    assert caught.value.code is ErrorCode.STORE_CORRUPT
    assert settings.store_path.read_bytes() == b"junk" * 1000


# ---------------------------------------------------------------------------- damage, other versions


async def test_a_store_survives_closing(settings: Settings) -> None:
    job_id = await add_one(settings)
    store = await Store.open(settings)
    assert [job.id for job in (await store.queue(10)).queued] == [job_id]
    await store.close()


async def test_a_file_that_is_no_database_is_set_aside(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = LogCapture()
    monkeypatch.setattr(database, "log", structlog.wrap_logger(None, processors=[lines]))
    settings.state_dir.mkdir()
    settings.store_path.write_bytes(b"not a database, but somebody's text\n" * 100)
    store = await Store.open(settings)
    aside = store.info.set_aside
    assert aside is not None
    assert aside.name.startswith("bridge.sqlite3.corrupt-2")
    assert aside.read_bytes().startswith(b"not a database")
    assert sum((await store.counts()).values()) == 0
    await store.add_job(queued_event(), GRAPH, max_queued=10)
    await check_store(store)
    await store.close()
    assert [(line["log_level"], line["set_aside"]) for line in lines.entries] == [("error", str(aside))]


async def test_a_file_with_damaged_pages_is_set_aside_unchanged_with_its_log(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "WAL_SAFE_FROM", (0,))
    store = await Store.open(settings)
    other = driver_connection(settings.store_path)
    other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    other.close()
    await store.add_job(queued_event(), GRAPH, max_queued=100)
    # As if every process had been killed here, and then the disk lost all pages but the first.
    crashed = settings.model_copy(update={"state_dir": tmp_path / "crashed"})
    crashed.state_dir.mkdir()
    content = settings.store_path.read_bytes()
    damaged = content[:4096] + b"\xa5" * (len(content) - 4096)
    log = settings.store_path.with_name("bridge.sqlite3-wal").read_bytes()
    await store.close()
    assert len(log) > 0
    crashed.store_path.write_bytes(damaged)
    crashed.store_path.with_name("bridge.sqlite3-wal").write_bytes(log)

    again = await Store.open(crashed)
    aside = again.info.set_aside
    assert aside is not None
    assert aside.read_bytes() == damaged
    assert aside.with_name(aside.name + "-wal").read_bytes() == log
    await check_store(again)
    await again.close()


async def test_damage_twice_in_a_second_keeps_both_files(settings: Settings) -> None:
    names = set()
    for text in (b"first" * 99, b"second" * 99):
        settings.state_dir.mkdir(exist_ok=True)
        for leftover in settings.state_dir.glob("bridge.sqlite3-*"):
            leftover.unlink()
        settings.store_path.write_bytes(text)
        store = await Store.open(settings)
        assert store.info.set_aside is not None
        names.add(store.info.set_aside.read_bytes())
        await store.close()
    assert names == {b"first" * 99, b"second" * 99}


async def test_a_store_that_was_replaced_is_not_written_to(settings: Settings) -> None:
    store = await Store.open(settings)
    await store.add_job(queued_event(), GRAPH, max_queued=10)
    settings.store_path.rename(settings.store_path.with_name("elsewhere"))
    for attempt in (store.add_job(queued_event(), GRAPH, max_queued=10), store.counts()):
        with pytest.raises(StoreFault, match="removed or replaced"):
            await attempt
    settings.store_path.write_bytes(b"")
    with pytest.raises(StoreFault, match="removed or replaced"):
        await store.counts()
    await store.close()


async def test_a_newer_schema_is_refused_and_left_alone(settings: Settings) -> None:
    await add_one(settings)
    connection = driver_connection(settings.store_path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    before = settings.store_path.read_bytes()
    with pytest.raises(StoreFault) as caught:
        await Store.open(settings)
    assert caught.value.code is ErrorCode.STORE_SCHEMA_NEWER
    assert "9999" in caught.value.message
    assert settings.store_path.read_bytes() == before
    assert list(settings.state_dir.glob("*corrupt*")) == []


# ---------------------------------------------------------------------------- the disk says no


async def test_a_folder_that_is_read_only_is_a_clear_error(settings: Settings) -> None:
    parent = settings.state_dir.parent
    parent.chmod(0o500)
    try:
        with unprivileged(), pytest.raises(StoreFault) as caught:
            await Store.open(settings)
    finally:
        parent.chmod(0o700)
    assert caught.value.code is ErrorCode.STORE_UNAVAILABLE
    assert "COMFY_BRIDGE_STATE_DIR" in caught.value.next_step
    assert not settings.state_dir.exists()


async def test_a_file_where_the_folder_should_be_is_a_clear_error(settings: Settings) -> None:
    settings.state_dir.write_text("a file")
    with pytest.raises(StoreFault) as caught:
        await Store.open(settings)
    assert caught.value.code is ErrorCode.STORE_UNAVAILABLE


async def test_a_write_to_a_read_only_database_changes_nothing(settings: Settings) -> None:
    store = await Store.open(settings)
    await store._writer.do(lambda connection: connection.exec_driver_sql("PRAGMA query_only=ON"))
    file_of(store).loop_writer.exec_driver_sql("PRAGMA query_only=ON")
    with pytest.raises(StoreFault, match="read-only") as caught:
        await store.add_job(queued_event(), GRAPH, max_queued=10)
    assert caught.value.code is ErrorCode.STORE_UNAVAILABLE
    assert sum((await store.counts()).values()) == 0
    await store.close()


async def test_a_store_held_by_another_process_is_a_clear_error_and_then_works(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comfy_mcp.store.database.BUSY_S", 0.05)
    store = await Store.open(settings)
    other = driver_connection(settings.store_path)
    other.execute("BEGIN IMMEDIATE")
    event = queued_event()
    with pytest.raises(StoreFault, match="Another process") as caught:
        await store.add_job(event, GRAPH, max_queued=10)
    assert caught.value.retryable
    other.execute("ROLLBACK")
    other.close()
    job, position = await store.add_job(event, GRAPH, max_queued=10)
    assert (job.id, position) == (event.job_id, 1)
    await check_store(store)
    await store.close()


async def test_a_full_disk_leaves_nothing_half_written(settings: Settings) -> None:
    store = await Store.open(settings)
    kept, _ = await store.add_job(queued_event(), GRAPH, max_queued=10)

    async def limit_pages(extra: int) -> None:
        def pragma(connection: Any) -> None:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages + extra}")

        await store._writer.do(pragma)

    await limit_pages(2)
    with pytest.raises(StoreFault, match="is full") as caught:
        await store.add_job(queued_event(), {"big": "x" * 200_000}, max_queued=10)
    assert caught.value.code is ErrorCode.STORE_UNAVAILABLE
    await check_store(store)
    assert [job.id for job in (await store.queue(10)).queued] == [kept.id]
    await limit_pages(1_000)
    await store.add_job(queued_event(), {"big": "x" * 200_000}, max_queued=10)
    await check_store(store)
    await store.close()
