"""`python -m tests.fleet.story --jobs 23000 --ends 60`: a long story of jobs, told by processes.

Four simulated engines, one or two bridges as `comfy-bridge serve` that are ended in turn, again and again,
and followed by new ones, while a client submits. The jobs come in two phases: each of the second waits for
one of the first. At the end every job has run once, in order.
"""

import argparse
import asyncio
import itertools
import json
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp

from comfy_mcp.domain.ids import JobId
from comfy_mcp.domain.job import JobStatus
from comfy_mcp.settings import load_settings
from comfy_mcp.store import Store
from comfy_mcp.store.connection import Connection
from tests.support import postgres
from tests.support.graphs import picture
from tests.support.processes import python_process
from tests.support.raw_sql import run
from tests.support.serve_process import Served, serve_process

WORKFLOW = "/v1/comfyui/workflow"
ENGINES = 4
SUBMITTERS = 4
PAUSE_S = 0.02
LIMIT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`ends`: how often a bridge is ended, and `how`. With `url` the store is on PostgreSQL. `seconds`: of a
    job at its engine."""

    jobs: int
    ends: int
    bridges: int = 1
    how: signal.Signals = signal.SIGKILL
    url: str | None = None
    seconds: float = 0.0


@dataclass(slots=True, kw_only=True)
class Told:
    """What became of it. `early`: jobs that were claimed before the one that they waited for had ended.
    `overtaken`: jobs of the first phase that were claimed after a younger one. `again`: attempts that were
    not the first. `runs`: successes by the engines' own count."""

    submitted: int = 0
    completed: int = 0
    runs: int = 0
    again: int = 0
    early: int = 0
    overtaken: int = 0
    ended: int = 0
    exits: set[int] = field(default_factory=set)
    seconds: float = 0.0

    @property
    def lost(self) -> int:
        return self.submitted - self.completed


class Rota:
    """The bridges that serve now. One that is ended is followed by a new one, at another address."""

    def __init__(self, folder: Path, plan: Plan, engines_url: str) -> None:
        self._plan = plan
        self._folder = folder
        self._stacks: list[AsyncExitStack] = []
        self.serving: list[Served] = []
        file = folder / "engines.toml"
        file.write_text("".join(f'[e{each}]\nurl = "{engines_url}/{each}"\n' for each in range(ENGINES)))
        self._settings: dict[str, object] = {
            "ENGINES_FILE": file,
            "LEASE_TTL_S": 1,
            "MAX_QUEUED": 1_000_000,
            "RETENTION_JOBS": 0,  # a parent is named after others have ended
            "DRAIN_TIMEOUT_S": 5,
            "HASH_MODELS": "false",
            **({"STORE": plan.url} if plan.url else {}),
        }

    async def start(self) -> None:
        stack = AsyncExitStack()
        served = await stack.enter_async_context(serve_process(self._folder, "", **self._settings))
        self._stacks.append(stack)
        self.serving.append(served)

    async def end(self, how: signal.Signals) -> int:
        """The one that has served longest. With two or more its successor is there before it goes."""
        if len(self.serving) > 1:
            await self.start()
        served, stack = self.serving.pop(0), self._stacks.pop(0)
        served.process.send_signal(how)
        status = await served.ended()
        await stack.aclose()
        if not self.serving:
            await self.start()
        return status

    async def close(self) -> None:
        for stack in self._stacks:
            await stack.aclose()


async def tell(folder: Path, plan: Plan) -> Told:
    told, begin = Told(), monotonic()
    command = ("-m", "bench.fleet_engines", str(ENGINES), str(plan.seconds))
    async with python_process(*command, env={}, log=folder / "engines.log") as (_, engines_url):
        rota = Rota(folder, plan, engines_url)
        try:
            for _ in range(plan.bridges):
                await rota.start()
            async with store_of(folder, plan) as store, asyncio.TaskGroup() as group:
                group.create_task(_end_again_and_again(rota, store, plan, told))
                await _submit_all(rota, plan, told)
                await _until(store, plan.jobs)
            told.runs = await _runs(engines_url)
        finally:
            await rota.close()
    async with store_of(folder, plan) as store:
        await _look(store, told)
    told.seconds = monotonic() - begin
    return told


@asynccontextmanager
async def store_of(folder: Path, plan: Plan) -> AsyncIterator[Store]:
    store = await Store.open(load_settings(state_dir=folder / "state", store=plan.url))
    yield store
    await store.close()


async def _end_again_and_again(rota: Rota, store: Store, plan: Plan, told: Told) -> None:
    """Spread over the whole story, by the jobs that have ended."""
    for number in range(1, plan.ends + 1):
        await _until(store, number * plan.jobs // (plan.ends + 1))
        told.exits.add(await rota.end(plan.how))
        told.ended += 1


async def _until(store: Store, completed: int) -> None:
    while (await store.counts())[JobStatus.COMPLETED] < completed:
        await asyncio.sleep(PAUSE_S)


async def _submit_all(rota: Rota, plan: Plan, told: Told) -> None:
    """One client, one job after the other in the first phase: that is the order to be kept."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LIMIT_S)) as session:
        first = [
            await _submit(session, rota, told, {"workflow": picture()})
            for _ in range(plan.jobs - plan.jobs // 2)
        ]
        left = iter(first[: plan.jobs // 2])

        async def second(jobs: Iterator[str]) -> None:
            for parent in jobs:
                await _submit(session, rota, told, {"workflow": picture(), "after": [parent]})

        async with asyncio.TaskGroup() as group:
            for _ in range(SUBMITTERS):
                group.create_task(second(left))


async def _submit(session: aiohttp.ClientSession, rota: Rota, told: Told, body: Mapping[str, Any]) -> str:
    """To whichever bridge takes it, as often as it needs."""
    told.submitted += 1
    headers = {"Idempotency-Key": f"job {told.submitted}"}
    for number in itertools.count(told.submitted):
        serving = rota.serving
        if serving:
            url = serving[number % len(serving)].url
            try:
                async with session.post(f"{url}{WORKFLOW}", json=body, headers=headers) as answer:
                    if answer.status < 300:
                        return str((await answer.json())["workflowId"])
                    assert answer.status == 503, await answer.text()
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass  # it has gone, or goes
        await asyncio.sleep(PAUSE_S)
    raise AssertionError("never reached")


async def _runs(engines_url: str) -> int:
    async with aiohttp.ClientSession() as session, session.post(f"{engines_url}/told") as answer:
        return len(await answer.json())


_EVENTS = "SELECT job_id, type FROM events WHERE type IN ('claimed', 'completed') ORDER BY seq"


def _events(connection: Connection) -> list[tuple[JobId, str]]:
    return [(row.job_id, row.type) for row in run(connection, _EVENTS)]


def _edges(connection: Connection) -> dict[str, tuple[int, str | None]]:
    """By job its place in the order of the submits, and whom it waited for."""
    rows = run(connection, "SELECT id, seq, after FROM jobs")
    return {row.id: (row.seq, json.loads(row.after)[0][0] if row.after else None) for row in rows}


async def _look(store: Store, told: Told) -> None:
    told.completed = (await store.counts())[JobStatus.COMPLETED]
    edges = await store._readers.do(_edges)
    claimed: set[str] = set()
    ended: set[str] = set()
    newest = 0
    for job_id, kind in await store._readers.do(_events):
        seq, parent = edges[job_id]
        if kind == "completed":
            ended.add(job_id)
        elif job_id in claimed:
            told.again += 1
        else:
            claimed.add(job_id)
            told.early += parent is not None and parent not in ended
            if parent is None:
                told.overtaken += seq < newest
                newest = max(newest, seq)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=23_000)
    parser.add_argument("--ends", type=int, default=60)
    parser.add_argument("--bridges", type=int, default=1)
    parser.add_argument("--postgresql", action="store_true")
    given = parser.parse_args()
    url = postgres.shared().database() if given.postgresql else None
    plan = Plan(jobs=given.jobs, ends=given.ends, bridges=given.bridges, url=url)
    with tempfile.TemporaryDirectory() as folder:
        told = asyncio.run(tell(Path(folder), plan))
    print(told, f"lost: {told.lost}", f"{told.submitted / told.seconds:.0f} jobs/s", flush=True)
    return 0 if (told.lost, told.early, told.overtaken) == (0, 0, 0) else 1


if __name__ == "__main__":
    sys.exit(main())
