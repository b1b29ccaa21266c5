"""What the bridge adds to a trivial job: the same engine, a bare client and the bridge in turn."""

import itertools
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from bench.processes import Run, Worker, cpu_ms, engine, sidecar, worker
from bench.stats import Aim, Sample, Section, ratio

ROUNDS = 15
BLOCK = 60
QUEUED = 200
CPU_RATIO = 3.0
NAMES = {"comfyui": "ComfyUI on CPU", "embedded": "the embedded engine"}
JOB_RATIO = {"comfyui": 1.25, "embedded": 1.35}
QUEUED_RATIO = {"comfyui": 1.1, "embedded": 1.2}
IN_FLIGHT_RATIO = {1: 1.5, 8: 1.25, 32: 1.25, 100: 1.25}
BUSY = (20, 8)
"""Milliseconds of a job that is not trivial, and how many of those are in flight."""

COLUMNS = ("what", "n", "p50 ms", "p99 ms", "per second", "÷ bare", "own CPU ms a job", "÷ bare's")


@dataclass(slots=True, kw_only=True)
class Side:
    """One of the two that are compared. `pid` is the process whose CPU counts."""

    name: str
    worker: Worker
    pid: int
    single: bool
    """Jobs come one after the other: their own times are compared, else those of whole blocks."""

    times: Sample = field(default_factory=lambda: Sample(name="ms"))
    blocks: Sample = field(default_factory=lambda: Sample(name="ms a job, of whole blocks"))
    cpu: Sample = field(default_factory=lambda: Sample(name="CPU ms a job"))

    async def block(self, **order: Any) -> None:
        before = cpu_ms(self.pid)
        times, whole = await self.worker.block(prefix=_fresh_prefix(), **order)
        self.times.values += times
        self.blocks.values.append(whole / order["jobs"])
        self.cpu.values.append((cpu_ms(self.pid) - before) / order["jobs"])

    @property
    def pace(self) -> Sample:
        return self.times if self.single else self.blocks

    def row(self, bare: "Side | None" = None) -> tuple[str, ...]:
        times = (f"{self.times.p50:.2f}", f"{self.times.p99:.2f}", f"{1000 / self.blocks.p50:.0f}")
        ratios = ("—", "—")
        if bare is not None:
            ratios = (f"{ratio(self.pace, bare.pace):.2f}", f"{ratio(self.cpu, bare.cpu):.2f}")
        return (self.name, str(len(self.times.values)), *times, ratios[0], f"{self.cpu.p50:.2f}", ratios[1])


_blocks = itertools.count(1)


def _fresh_prefix() -> str:
    """A new output folder for each block: a job in a folder of 3,000 files takes three times as long."""
    return f"bench/{next(_blocks)}/p"


async def in_turn(name: str, bare: Worker, other: Worker, pid: int, rounds: int, **order: Any) -> list[Side]:
    """Blocks of both, whose order changes each round, after one of each that does not count."""
    single = order["in_flight"] == 1
    sides = [
        Side(name=f"{name}, bare", worker=bare, pid=bare.pid, single=single),
        Side(name=name, worker=other, pid=pid, single=single),
    ]
    for side in sides:
        await side.worker.block(prefix=_fresh_prefix(), **order)
    for number in range(rounds):
        for side in sides if number % 2 else reversed(sides):
            await side.block(**order)
    return sides


async def measure_jobs(run: Run) -> list[Section]:
    return [await _on_engine(run, kind) for kind in run.engines]


async def _on_engine(run: Run, kind: str) -> Section:
    rounds, block, queued = run.times(ROUNDS), run.times(BLOCK, 3), run.times(QUEUED, 5)
    async with AsyncExitStack() as stack:
        folder = run.fresh(f"jobs-{kind}")
        url, _ = await stack.enter_async_context(engine(kind, folder / "engine"))
        bare = await stack.enter_async_context(worker("bare", url, folder))
        bridge = await stack.enter_async_context(worker("bridge", url, folder))
        one = await in_turn("one job", bare, bridge, bridge.pid, rounds, jobs=block, in_flight=1)
        many = await in_turn(f"{queued} queued", bare, bridge, bridge.pid, rounds, jobs=queued, in_flight=0)
    on = NAMES[kind]
    return Section(
        title=f"A trivial job (EmptyImage → SaveImage, 64²) on {on}",
        note="Bare: POST /prompt, wait for `executing: null` on an open socket, GET /history. Bridge: "
        "`submit_workflow` and `wait_for_workflow`; a job is durable before it is sent. "
        f"Each in its own process, in turn: {rounds} blocks of {block} jobs one after the other, and "
        f"{rounds} times {queued} at once (times are of all {queued}). Each block saves into a new folder. "
        "The bridge's CPU includes what it finds out about outputs after the end.",
        columns=COLUMNS,
        rows=_rows(one, many),
        aims=(
            _ratio_aim(f"trivial job on {on}, bridge ÷ bare", one, JOB_RATIO[kind]),
            Aim(
                what=f"own CPU of a trivial job on {on}, bridge ÷ bare",
                value=ratio(one[1].cpu, one[0].cpu),
                limit=CPU_RATIO,
                unit="times",
            ),
            _ratio_aim(f"{queued} jobs queued at once on {on}, bridge ÷ bare", many, QUEUED_RATIO[kind]),
        ),
    )


async def measure_http_jobs(run: Run) -> list[Section]:
    sides: list[list[Side]] = []
    aims: list[Aim] = []
    rounds, jobs = run.times(ROUNDS), run.times(60, 2)
    async with AsyncExitStack() as stack:
        folder = run.fresh("http-jobs")
        url, _ = await stack.enter_async_context(engine("embedded", folder / "engine"))
        served, pid = await stack.enter_async_context(sidecar(folder, url))
        bare = await stack.enter_async_context(worker("bare-http", url, folder))
        client = await stack.enter_async_context(worker("sidecar-http", served, folder))
        for number, limit in IN_FLIGHT_RATIO.items():
            order = {"jobs": jobs if run.quick else max(jobs, number), "in_flight": number}
            name = f"~0 ms, {number} in flight"
            sides.append(await in_turn(name, bare, client, pid, rounds, **order))
            aims.append(_ratio_aim(f"{name}: sidecar ÷ bare", sides[-1], limit))
        step_ms, number = BUSY
        order = {"jobs": run.times(4 * number, 2), "in_flight": number, "step_ms": step_ms}
        name = f"{step_ms} ms, {number} in flight"
        sides.append(await in_turn(name, bare, client, pid, rounds, **order))
    return [
        Section(
            title="From submit to the picture's bytes over HTTP",
            note="Embedded engine. Bare: POST /prompt, the socket's `executing: null`, GET /history, GET "
            "/view, on kept connections. The sidecar: POST workflow with `Prefer: wait`, GET the output's "
            f"url; each job durable. {rounds} blocks of each in turn, each into a new folder; with several "
            "in flight the ratio is of the time for whole blocks. CPU: the bare client's process, and the "
            "sidecar's without its client.",
            columns=COLUMNS,
            rows=_rows(*sides),
            aims=tuple(aims),
        )
    ]


def _rows(*pairs: Sequence[Side]) -> tuple[tuple[str, ...], ...]:
    return tuple(row for bare, other in pairs for row in (bare.row(), other.row(bare)))


def _ratio_aim(what: str, sides: Sequence[Side], limit: float) -> Aim:
    bare, other = sides
    return Aim(what=what, value=ratio(other.pace, bare.pace), limit=limit, unit="times")
