"""The store alone: how long its writes take, and how many jobs a second one process and four get through."""

import asyncio
import contextlib
import sys
import time
import uuid
from asyncio.subprocess import DEVNULL, PIPE
from functools import partial
from pathlib import Path

from bench.processes import REPOSITORY, Run, environment
from bench.stats import Sample, Section
from comfy_mcp.domain.events import JobCompleted, JobEvent, JobQueued, JobStarted, Priority
from comfy_mcp.domain.ids import ClientId, EngineId, JobId, PromptId
from comfy_mcp.settings import load_settings
from comfy_mcp.store import Lease, Store
from tests.support.graphs import picture

PROCESSES = 4
MANY = 100_000
CLIENTS = 100
WAITING = 20
"""Jobs that wait while claims are timed, for each job of a round."""


async def measure_store(run: Run) -> list[Section]:
    return [await _measure(run.fresh("store"), run.times(500, 5))]


async def _measure(folder: Path, jobs: int) -> Section:
    adding, claiming, recording = (Sample(name=name) for name in ("add_job", "claim_next", "record"))
    store = await Store.open(load_settings(state_dir=folder / "store-alone"))
    try:
        lease = await lease_of(store, "bench")
        for _ in range(jobs):
            await one_job(store, lease, adding, claiming, recording)
        begin = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(jobs):
                group.create_task(store.add_job(queued(), picture(), max_queued=MANY))
        together = jobs / (time.perf_counter() - begin)
        crowded = await _claims_in_a_crowd(store, lease, jobs)
        info = store.info
    finally:
        await store.close()
    single = await _throughput(folder / "store-1", processes=1, jobs=jobs)
    several = await _throughput(folder / "store-4", processes=PROCESSES, jobs=jobs)
    return Section(
        title="The store alone",
        note=f"{info.version}, journal {info.journal_mode}, synchronous {info.synchronous}. "
        "A job is add_job, claim_next and record (started, completed): three transactions, four events.",
        columns=("what", "n", "p50 ms", "p99 ms", "per second"),
        rows=(
            *(
                (sample.name, str(len(sample.values)), f"{sample.p50:.2f}", f"{sample.p99:.2f}", "—")
                for sample in (adding, claiming, recording, crowded)
            ),
            ("add_job, all at once (group commit)", str(jobs), "—", "—", f"{together:.0f}"),
            ("jobs, 1 process", str(jobs), "—", "—", f"{single:.0f}"),
            (f"jobs, {PROCESSES} processes", str(PROCESSES * jobs), "—", "—", f"{several:.0f}"),
        ),
    )


async def _claims_in_a_crowd(store: Store, lease: Lease, jobs: int) -> Sample:
    """With many jobs of many clients waiting, as they take turns."""
    sample = Sample(name=f"claim_next, {WAITING * jobs} waiting of {CLIENTS} clients")
    for _ in range(WAITING):
        async with asyncio.TaskGroup() as group:
            for number in range(jobs):
                event = queued(f"client {number % CLIENTS}")
                group.create_task(store.add_job(event, picture(), max_queued=MANY))
    for _ in range(jobs):
        prompt_id = PromptId(str(uuid.uuid4()))
        await sample.time(partial(store.claim_next, lease, prompt_id=prompt_id, now=now()))
    return sample


def queued(client: str = "bench") -> JobQueued:
    return JobQueued(
        job_id=JobId(str(uuid.uuid4())),
        at=now(),
        client=ClientId(client),
        lane="local",
        priority=Priority.NORMAL,
        node_count=2,
    )


async def one_job(store: Store, lease: Lease, adding: Sample, claiming: Sample, recording: Sample) -> None:
    """Add one, claim the next, whoever added it, and complete that."""
    await adding.time(lambda: store.add_job(queued(), picture(), max_queued=MANY))
    prompt_id = PromptId(str(uuid.uuid4()))
    claim = await claiming.time(lambda: store.claim_next(lease, prompt_id=prompt_id, now=now()))
    assert claim is not None
    job = claim.job
    events: list[JobEvent] = [
        JobStarted(job_id=job.id, at=now(), attempt=job.attempt),
        JobCompleted(job_id=job.id, at=now(), attempt=job.attempt),
    ]
    await recording.time(lambda: store.record(lease, job.id, events))


def now() -> int:
    return time.time_ns() // 1_000_000


async def lease_of(store: Store, name: str) -> Lease:
    lease = await store.acquire_lease(EngineId(name), f"bench-{uuid.uuid4().hex}", 600.0)
    assert lease is not None
    return lease


async def _throughput(folder: Path, *, processes: int, jobs: int) -> float:
    """Jobs a second, from the moment at which every process is ready until the last one is done."""
    command = (sys.executable, "-m", "bench.storing", str(folder), str(jobs))
    running = [
        await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment("", folder), cwd=REPOSITORY
        )
        for _ in range(processes)
    ]
    try:
        for process in running:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"ready\n"
        begin = time.perf_counter()
        for process in running:
            assert process.stdin is not None
            process.stdin.close()
        for process in running:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"done\n"
        return processes * jobs / (time.perf_counter() - begin)
    finally:
        for process in running:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    process.kill()
            await process.wait()


async def _worker(folder: Path, jobs: int) -> None:
    """`ready` on stdout, then the jobs as soon as stdin is closed."""
    store = await Store.open(load_settings(state_dir=folder))
    try:
        lease = await lease_of(store, f"bench-{uuid.uuid4().hex}")
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
        ignored = Sample(name="")
        for _ in range(jobs):
            await one_job(store, lease, ignored, ignored, ignored)
        sys.stdout.write("done\n")
        sys.stdout.flush()
    finally:
        await store.close()


if __name__ == "__main__":
    asyncio.run(_worker(Path(sys.argv[1]), int(sys.argv[2])))
