"""A fleet: simulated engines, four bridges, one PostgreSQL. How many jobs a second, how late what one bridge
commits is heard at another, and what a job costs with few engines and with many."""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psycopg

from bench.clients import WORKFLOW
from bench.processes import Run, cpu_ms, python_process, sidecar
from bench.raw import RawClient
from bench.stats import Aim, Section, percentile
from tests.support.graphs import picture
from tests.support.postgres import Server, server

BRIDGES = 4
READY_S = 120.0
SUBMITTERS = 8
TICKS_MS = 1000 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """`per_s`: jobs submitted a second; None: all at once. `seconds`: of a job, with ten events a second.
    `settle_s`: before anything is measured, and for what is measured without work."""

    engines: int
    jobs: int
    per_s: float | None = None
    seconds: float = 2.0
    settle_s: float = 2.0


@dataclass(slots=True, kw_only=True)
class Figures:
    """CPU in ms a job, of all bridges and of the database; `idle`: of all bridges, ms a second without work.
    `lags`: from the engine's success to a client of a bridge, which drives the engine, or does not."""

    per_s: float = 0.0
    bridges: float = 0.0
    database: float = 0.0
    idle: float = 0.0
    own: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    engines_url: str
    bridges: Sequence[tuple[str, int]]
    postgres: Server
    store: str

    def cpu(self) -> tuple[float, float]:
        """Of the bridges and of the database, in ms."""
        return sum(cpu_ms(pid) for _, pid in self.bridges), _database_ms(self.postgres)

    async def rows(self, statement: str) -> list[tuple[object, ...]]:
        def ask() -> list[tuple[object, ...]]:
            with psycopg.connect(self.store, autocommit=True) as connection:
                return connection.execute(statement).fetchall()

        return await asyncio.to_thread(ask)

    async def until(self, statement: str, count: int) -> None:
        while await self.rows(statement) != [(count,)]:  # noqa: ASYNC110 - what other processes write
            await asyncio.sleep(0.5)


@asynccontextmanager
async def open_fleet(folder: Path, load: Load) -> AsyncIterator[Fleet]:
    """Each bridge has its own part of the engines; all have all jobs."""
    engines = load.engines
    async with AsyncExitStack() as stack:
        postgres = stack.enter_context(server(fsync="on"))
        store = postgres.database()
        command = ("-m", "bench.fleet_engines", str(engines), str(load.seconds))
        _, url = await stack.enter_async_context(python_process(*command, env={}, log=folder / "engines.log"))
        bridges = []
        for number in range(BRIDGES):
            own = folder / f"bridge-{number}"
            own.mkdir()
            file = own / "engines.toml"
            mine = range(number, engines, BRIDGES)
            file.write_text("".join(f'[e{each}]\nurl = "{url}/{each}"\n' for each in mine), encoding="utf-8")
            started = sidecar(own, "", ENGINES_FILE=str(file), STORE=store, HASH_MODELS="false")
            bridges.append(await stack.enter_async_context(started))
        fleet = Fleet(engines_url=url, bridges=bridges, postgres=postgres, store=store)
        async with asyncio.timeout(READY_S):
            await fleet.until("SELECT count(*) FROM engine_leases WHERE engine NOT LIKE '/%'", engines)
        await asyncio.sleep(load.settle_s)
        yield fleet


async def measure_load(folder: Path, load: Load) -> Figures:
    figures = Figures()
    async with open_fleet(folder, load) as fleet, asyncio.TaskGroup() as group:
        before, _ = fleet.cpu()
        await asyncio.sleep(load.settle_s)
        figures.idle = (fleet.cpu()[0] - before) / load.settle_s
        heard: dict[str, float] = {}
        watching = group.create_task(_watch(fleet.bridges[0][0], heard))
        await asyncio.sleep(0.5)
        bridges, database = fleet.cpu()
        await _submit(fleet, load)
        await fleet.until("SELECT count(*) FROM jobs WHERE status = 'completed'", load.jobs)
        after = fleet.cpu()
        figures.bridges = (after[0] - bridges) / load.jobs
        figures.database = (after[1] - database) / load.jobs
        await asyncio.sleep(1.0)
        watching.cancel()
        ends = await fleet.rows("SELECT finished_at FROM jobs")
        figures.per_s = _per_second([int(str(at)) for (at,) in ends])
        await _note_lags(fleet, heard, figures)
    return figures


async def _submit(fleet: Fleet, load: Load) -> None:
    begin, numbers = time.monotonic(), iter(range(load.jobs))

    async def submitter(url: str) -> None:
        client = await RawClient.connect(url)
        for number in numbers:
            if load.per_s is not None:
                await asyncio.sleep(begin + number / load.per_s - time.monotonic())
            answer = await client.post(WORKFLOW, json.dumps({"workflow": picture()}).encode())
            assert answer.status < 300, answer.body
        await client.close()

    async with asyncio.TaskGroup() as group:
        for number in range(SUBMITTERS):
            group.create_task(submitter(fleet.bridges[number % BRIDGES][0]))


async def _watch(url: str, heard: dict[str, float]) -> None:
    """Everything that the bridge tells, steps of progress too; kept are the ends."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{url}/v1/comfyui/stream", max_msg_size=0) as socket,
    ):
        await socket.send_json({"type": "subscribe", "workflowId": "*"})
        async for message in socket:
            if '"workflow:completed"' in message.data:
                heard[json.loads(message.data)["workflowId"]] = time.monotonic() * 1000


async def _note_lags(fleet: Fleet, heard: dict[str, float], figures: Figures) -> None:
    async with aiohttp.ClientSession() as session, session.post(f"{fleet.engines_url}/told") as answer:
        told = await answer.json()
    for prompt_id, job_id, engine in await fleet.rows("SELECT prompt_id, job_id, engine FROM attempts"):
        if prompt_id in told and job_id in heard:
            own = int(str(engine)[1:]) % BRIDGES == 0
            (figures.own if own else figures.lags).append(heard[str(job_id)] - told[prompt_id])


def _per_second(ends: list[int]) -> float:
    """Without the first and the last tenth: while every engine has work."""
    ends.sort()
    tenth = len(ends) // 10
    middle = ends[tenth : len(ends) - tenth] or ends
    return (len(middle) - 1) * 1000 / max(1, middle[-1] - middle[0])


def _database_ms(postgres: Server) -> float:
    ticks = 0
    for pid in postgres.pids():
        with contextlib.suppress(FileNotFoundError):
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return ticks * TICKS_MS


async def measure_fleet(run: Run) -> list[Section]:
    if run.quick:
        loads = [Load(engines=8, jobs=16, seconds=0.2, settle_s=0.2)]
    else:
        loads = [
            Load(engines=200, jobs=3000),
            Load(engines=10, jobs=100, per_s=4),
            Load(engines=100, jobs=300, per_s=10),
            Load(engines=1000, jobs=300, per_s=10),
        ]
    found = [(load, await measure_load(run.fresh("fleet"), load)) for load in loads]
    busiest = found[0][1]
    return [
        Section(
            title="A fleet of engines, four bridges and PostgreSQL",
            note="Simulated engines: a job takes 2 s, with ten events a second; they share one "
            "process. One server with fsync, everything on one machine. Lag: from the engine's last event to "
            "a client of one bridge that follows all jobs, of engines that other bridges drive. CPU: of all "
            "four bridges, and of the database, while jobs run; idle: of the bridges, before.",
            columns=(
                *("what", "jobs a second", "lag p50 ms", "lag p99 ms"),
                *("bridges, CPU ms a job", "database, CPU ms a job", "idle, CPU ms a second"),
            ),
            rows=tuple(_row(load, figures) for load, figures in found),
            aims=(
                Aim(
                    what="one job after the other, 200 engines",
                    value=1000 / busiest.per_s,
                    limit=10,
                    unit="ms",
                ),
                Aim(
                    what="lag p99 between bridges",
                    value=percentile(busiest.lags, 99),
                    limit=100,
                    unit="ms",
                ),
            ),
        )
    ]


def _row(load: Load, figures: Figures) -> tuple[str, ...]:
    how = "all queued at once" if load.per_s is None else f"{load.per_s:g} submitted a second"
    return (
        f"{load.engines} engines, {load.jobs} jobs, {how}",
        f"{figures.per_s:.1f}",
        *(f"{percentile(figures.lags, percent):.0f}" for percent in (50, 99)),
        *(f"{each:.1f}" for each in (figures.bridges, figures.database, figures.idle)),
    )
