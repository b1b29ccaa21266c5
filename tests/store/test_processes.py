"""Several real processes on one file, and kill -9."""

import asyncio
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from comfy_mcp.domain.job import JobStatus
from comfy_mcp.settings import Settings
from comfy_mcp.store import JobGraph, JobQuery, Store
from comfy_mcp.store.sqlite import database
from tests.support.invariants import check_file, check_store
from tests.support.jobs import GRAPH, queued_event
from tests.support.warm_python import WARM_PYTHON

ROOT = Path(__file__).parents[2]
LIMIT_S = 60


@asynccontextmanager
async def another_process(settings: Settings, *arguments: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        WARM_PYTHON,
        "-m",
        "tests.support.store_process",
        str(settings.state_dir),
        *arguments,
        stdin=PIPE,
        stdout=PIPE,
        cwd=ROOT,
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line_of(process: Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


async def lines_of(process: Process) -> list[str]:
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode().split()


async def test_a_submit_that_returned_survives_kill_9(settings: Settings) -> None:
    async with another_process(settings, "add", "10000") as process:
        ids = [await line_of(process) for _ in range(20)]
        process.kill()
        await process.wait()
    check_file(settings.store_path)
    store = await Store.open(settings)
    for job_id in ids:
        assert (await store.get_graph(job_id)) == JobGraph(graph=GRAPH)  # type: ignore[arg-type]
    await check_store(store)
    await store.close()


@pytest.mark.parametrize("journal", ["wal", "truncate"])
async def test_a_transaction_that_was_killed_leaves_no_trace(
    settings: Settings, journal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "WAL_SAFE_FROM", (0,) if journal == "wal" else (999,))
    async with another_process(settings, "half", journal) as process:
        job_id = await line_of(process)
        assert await line_of(process) == "inside"
        process.kill()
        await process.wait()
    left = settings.store_path.with_name(f"bridge.sqlite3-{'wal' if journal == 'wal' else 'journal'}")
    assert left.stat().st_size > 0, "there is something to recover from"
    store = await Store.open(settings)
    assert store.info.set_aside is None
    assert [job.id for job in (await store.list_jobs(JobQuery())).items] == [job_id]
    await store.add_job(queued_event(), GRAPH, max_queued=10)
    await check_store(store)
    await store.close()


async def test_four_processes_that_start_together_share_one_store(settings: Settings) -> None:
    async with (
        another_process(settings, "add", "25") as first,
        another_process(settings, "add", "25") as second,
        another_process(settings, "add", "25") as third,
        another_process(settings, "add", "25") as fourth,
    ):
        ids = [line for process in (first, second, third, fourth) for line in await lines_of(process)]
    assert len(set(ids)) == 100
    store = await Store.open(settings)
    assert {job.id for job in (await store.list_jobs(JobQuery(limit=1000))).items} == set(ids)
    await check_store(store)
    await store.close()


async def test_two_processes_never_claim_the_same_job(settings: Settings) -> None:
    store = await Store.open(settings)
    added = {(await store.add_job(queued_event(), GRAPH, max_queued=100))[0].id for _ in range(60)}
    async with another_process(settings, "claim", "a") as one, another_process(settings, "claim", "b") as two:
        for process in (one, two):
            assert await line_of(process) == "ready"
        for process in (one, two):
            assert process.stdin is not None
            process.stdin.write(b"go\n")
        claimed = [line for process in (one, two) for line in await lines_of(process)]
    assert len(claimed) == 60
    assert set(claimed) == added
    assert (await store.counts())[JobStatus.QUEUED] == 60
    await check_store(store)
    await store.close()
