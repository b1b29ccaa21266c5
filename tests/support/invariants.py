"""What must hold of any store at any moment, read straight from its database."""

import asyncio
import importlib
import itertools
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Connection, NullPool, create_engine, select

from comfy_mcp.domain.days import day_of
from comfy_mcp.domain.events import JobProgressed, JobQueued
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.domain.transitions import evolve, queued
from comfy_mcp.store import Store
from comfy_mcp.store import schema as tables
from comfy_mcp.store.codec import job_of, storable, stored_event_of
from comfy_mcp.store.output_codec import output_of
from comfy_mcp.store.postgresql.database import ServerDatabase
from comfy_mcp.store.sqlite.database import FileDatabase


async def check_store(store: Store) -> None:
    """Raises AssertionError that names the job at fault."""
    database = store._database
    if isinstance(database, ServerDatabase):
        await asyncio.to_thread(check_server, database._server._conninfo)
    else:
        await asyncio.to_thread(check_file, store.info.path)


def file_of(store: Store) -> FileDatabase:
    """The store's database, which is SQLite's."""
    assert isinstance(store._database, FileDatabase)
    return store._database


def check_server(conninfo: str) -> None:
    """The same of PostgreSQL's store."""
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(conninfo),
        poolclass=NullPool,
        isolation_level="REPEATABLE READ",
    )
    with engine.connect() as connection:
        _check(connection)


def check_file(path: Path) -> None:
    """The same for the file of a store that no longer runs."""
    try:
        module = importlib.import_module("pysqlite3.dbapi2")
    except ImportError:
        module = importlib.import_module("sqlite3")
    engine = create_engine(
        "sqlite://", creator=lambda: module.connect(str(path)), module=module, poolclass=NullPool
    )
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN")  # one snapshot: others may be writing meanwhile
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
        _check(connection)


def _check(connection: Connection) -> None:
    jobs = {row.id: job_of(row) for row in connection.execute(select(tables.jobs))}
    graphs = set(connection.execute(select(tables.graphs.c.job_id)).scalars())
    assert graphs == set(jobs), "each job has its graph, and no graph is left over"
    attempts = _by_job(connection, select(tables.attempts).order_by(tables.attempts.c.attempt))
    events = _by_job(connection, select(tables.events).order_by(tables.events.c.seq))
    outputs = _by_job(connection, select(tables.outputs).order_by(tables.outputs.c.seq))
    fences = {row.engine: row.fence for row in connection.execute(select(tables.engine_leases))}
    _check_spending(connection, jobs.values())
    _check_deliveries(connection)
    for job in jobs.values():
        _check_job(job)
        _check_events(job, events.get(job.id, []))
        _check_attempts(job, attempts.get(job.id, []), fences)
        _check_outputs(job, outputs.get(job.id, []), attempts.get(job.id, []))


def _check_spending(connection: Connection, jobs: Iterable[Job]) -> None:
    """What a day counts covers its jobs; those that were forgotten count still."""
    counted = Counter[int]()
    for job in jobs:
        if job.spend is not None:
            assert job.spend.over == job.is_final, job
            counted[day_of(job.created_at)] += job.spend.counted
    days = {row.day: row.amount for row in connection.execute(select(tables.spending))}
    assert all(amount <= days.get(day, 0) for day, amount in counted.items()), (counted, days)


def _check_deliveries(connection: Connection) -> None:
    """Of those of a job that are pending the first does not wait, and the others do."""
    of = tables.deliveries.c
    pending = select(tables.deliveries).where(tables.IS_PENDING).order_by(of.seq)
    for job_id, rows in _by_job(connection, pending).items():
        assert [row.waits for row in rows] == [False] + [True] * (len(rows) - 1), job_id


def _check_job(job: Job) -> None:
    assert (job.finished_at is not None) == job.is_final, job
    assert 0.0 <= job.progress <= 1.0, job
    assert (job.failure is not None) == (job.status is JobStatus.FAILED), job
    if job.status is JobStatus.COMPLETED:
        assert job.progress == 1.0, job
    if job.is_final:
        assert job.current_node is None, job
        assert job.eta_ms is None, job
    if job.prompt_id is not None:
        assert job.attempt >= 1, job
        assert job.engine is not None, job


def _check_events(job: Job, rows: list[Any]) -> None:
    """The log, played through the state machine, ends where the row is."""
    log = [stored_event_of(row) for row in rows]
    assert log, f"{job.id} has no event"
    first, *later = (stored.event for stored in log)
    assert isinstance(first, JobQueued), log
    replayed = queued(first)
    for event in later:
        replayed = evolve(replayed, event)  # raises where the log breaks a rule, as after a final event
    finals = [stored.seq for stored in log if stored.is_final]
    assert finals == ([log[-1].seq] if job.is_final else []), f"{job.id}: one final event, the last one"
    if job.is_final:
        assert not any(isinstance(stored.event, JobProgressed) for stored in log), log
    assert _history(replayed) == _history(job), f"{job.id}: the log and the row disagree"


def _history(job: Job) -> tuple[object, ...]:
    return (
        job.status,
        job.attempt,
        job.engine,
        job.prompt_id,
        job.created_at,
        job.finished_at,
        job.cancel_requested,
        job.failure,
        job.output_count,
        job.priority,
        storable(job.client),
        job.lane,
        job.warnings,
        job.queue_timeout_ms,
        job.run_timeout_ms,
        job.queue_deadline,
        job.retry_of,
        job.oom_retried,
        job.spend,
        job.tags,
    )


def _check_attempts(job: Job, rows: list[Any], fences: dict[str, int]) -> None:
    assert [row.attempt for row in rows] == list(range(1, job.attempt + 1)), job
    for row in rows:
        in_flight = job.is_claimed and row.attempt == job.attempt
        assert (row.state == "active") == in_flight, (job, row)
        assert (row.finished_at is None) == in_flight, (job, row)
        assert row.fence <= fences[row.engine], "nobody writes with a fence that no lease has had"
    if job.prompt_id is not None:
        assert (rows[-1].prompt_id, rows[-1].engine) == (job.prompt_id, job.engine), job
    for earlier, later in itertools.pairwise(rows):
        assert earlier.state == "requeued", "only a requeued attempt is followed by another"
        assert earlier.engine != later.engine or earlier.fence <= later.fence, job


def _check_outputs(job: Job, rows: list[Any], attempts: list[Any]) -> None:
    states = {row.attempt: row.state for row in attempts}
    for output in map(output_of, rows):
        assert output.attempt in states, f"{output.id} is of an attempt that never was"
        assert states[output.attempt] != "active", f"{output.id} is of an attempt that is not over"


def _by_job(connection: Connection, statement: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in connection.execute(statement):
        found.setdefault(row.job_id, []).append(row)
    return found
