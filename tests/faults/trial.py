"""One trial: a seed decides everything that is random about it; the outcome says what came of it."""

import asyncio
import random
import signal
import traceback
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from tests.faults.checker import (
    Expectations,
    Outcome,
    PromptRecord,
    check,
    connect,
    read_cloud_record,
    read_record,
)
from tests.faults.clients import FINAL, Clients, Submitted, until_started
from tests.faults.engines import TakeEngine
from tests.faults.kinds import Kind
from tests.faults.stage import Stage
from tests.faults.world import Bridge, World, open_world
from tests.support import graphs
from tests.support.cloud_service import COMFY_API, SALAD, open_cloud_service
from tests.support.postgres import Server

FINAL_LIMIT_S = 60.0
"""After the faults have ended every job ends within this, on a machine as busy as can be. A healthy trial
needs some multiples of lease, poll interval and request timeout (world.py), all of them about a second."""

TOLD_LIMIT_S = 10.0
"""A bridge says what the store has, at once or as soon as it could open it again."""

DRAINED_LIMIT_S = 30.0
"""What the engine still has, from whoever sent it, runs to its end within this."""


DEFECTS = ("tenure_failed", "unexpected_error", "impossible_event", "Traceback", "never retrieved")
"""In a line of a log: a fault that nobody foresaw."""

FOLLOWING = 40
"""Lines shown of it: a traceback ends with its cause."""

MOST_SHOWN = 3_000
"""Characters."""

PUT_IN = "Defect: put in"
"""Except one that the trial itself put in."""

NORMAL_REFUSALS = frozenset({"not_cancellable"})
"""Error codes that a client may meet without any fault."""

RETRIES = 6
"""How often a client with an idempotency key asks again before it gives up."""


@dataclass(slots=True, kw_only=True)
class Result:
    seed: int
    kind: str
    outcome: Outcome
    seconds: float
    notes: list[str] = field(default_factory=list)


async def run_trial(
    take_engine: TakeEngine,
    folder: Path,
    seed: int,
    kind: Kind,
    server: Server | None = None,
    *,
    engines: int = 1,
) -> Result:
    """Never raises for what the product does: that is in the outcome's violations. Of several engines the
    faults hit one."""
    began = monotonic()
    rng = random.Random(f"{kind.name} {seed}")
    engine, *others = [
        take_engine(folder / f"engine-{number}", kind.history_limit) for number in range(engines)
    ]
    max_attempts = rng.choice([2, 2, 3])
    settings = {"MAX_ATTEMPTS": str(max_attempts), "PIPELINE_DEPTH": str(rng.choice([1, 2, 2, 4]))}
    settings |= kind.settings
    notes: list[str] = []
    try:
        async with (
            open_cloud_service() if kind.cloud else nullcontext() as cloud,
            open_world(
                folder,
                engine,
                others=others,
                bent_clock=kind.bent_clock,
                server=server,
                cloud=cloud,
                **settings,
            ) as world,
        ):
            notes = world.notes
            clients = Clients(world)
            stage = Stage(world=world, clients=clients, rng=rng)
            violations = await _play(stage, kind)
            expected = Expectations(
                foreign=frozenset(stage.foreign),
                history_evicted=kind.history_limit is not None,
                foreign_deletes=stage.foreign_deletes,
                max_attempts=max_attempts,
                lossy_engine=kind.lossy_engine,
                refusals=NORMAL_REFUSALS | kind.refusals,
                late_posts=stage.late_posts,
                store_lost=stage.store_lost,
                defects=kind.defects,
            )
            record: dict[str, PromptRecord] = {}
            for each in (engine, *others):
                record |= read_record(each.log_path, each.log_from, pid=each.pid)
            if cloud is not None:
                record |= await asyncio.to_thread(read_cloud_record, world.store, cloud)
            outcome = await asyncio.to_thread(check, world.store, record, clients, expected)
            outcome.violations[:0] = violations
    except Exception:  # noqa: BLE001 - whatever goes wrong belongs to this seed
        outcome = Outcome(violations=[f"the trial broke: {traceback.format_exc()[-1500:]}"])
    return Result(seed=seed, kind=kind.name, outcome=outcome, seconds=monotonic() - began, notes=notes)


async def _play(stage: Stage, kind: Kind) -> list[str]:
    world, rng = stage.world, stage.rng
    surfaces = ["serve", *rng.choices(["serve", "mcp"], k=rng.choice(kind.more_bridges))]
    for number, surface in enumerate(surfaces):
        chaos = kind.chaos(rng) if kind.chaos is not None and number == 0 else None
        if chaos is not None:
            stage.note(f"chaos {chaos}")
        await world.start_bridge(surface, chaos=chaos)
    async with asyncio.TaskGroup() as tasks:
        fault = tasks.create_task(kind.run(stage))
        jobs = [
            tasks.create_task(_job(stage, kind, number))
            for number in range(rng.randint(2, 5) * (1 + bool(world.others or world.cloud)))
        ]
        watchers = [
            tasks.create_task(stage.clients.watch(bridge))
            for bridge in world.bridges
            if bridge.url is not None and rng.random() < 0.5
        ]
        await fault
        for job in jobs:
            await job
        for watcher in watchers:
            watcher.cancel()
    if kind.chaos is not None and world.bridges[0].process.status == -signal.SIGKILL:
        stage.note("the point struck; the bridge is dead")
    stage.note("heal")
    await world.heal()
    violations = stage.violations
    survivor = stage.some_bridge()
    if survivor is not None and (kind.chaos is None or kind.defects):
        violations += await _until_final(stage, survivor)  # nobody has to start anything for that
    # A kill point may lie in wait for the bridge that is left: one without any takes over in the end.
    bridge = await world.start_bridge("serve")
    if bridge is None:
        return [*violations, "a bridge without faults did not start"]
    violations += await _until_final(stage, bridge)
    if kind.after is not None:
        violations += await kind.after(stage, bridge)
    violations += await _until_drained(world)
    try:
        statuses = await world.end()
    except TimeoutError:
        violations.append("a bridge did not go when asked to")
    else:
        violations += [f"a bridge ended with status {status}" for status in statuses if status != 0]
    return violations + await asyncio.to_thread(confessions, world)


def confessions(world: World) -> list[str]:
    """What a bridge's log says only when the code is wrong."""
    found = []
    for bridge in world.bridges:
        lines = bridge.process.log.read_text(errors="replace").splitlines()
        guilty = [
            "\n".join(lines[number : number + FOLLOWING])
            for number, line in enumerate(lines)
            if any(word in line for word in DEFECTS) and PUT_IN not in line
        ]
        found += [f"{bridge.process.log.name}: {text[:MOST_SHOWN]}" for text in guilty[:3]]
    return found


async def _job(stage: Stage, kind: Kind, number: int) -> None:
    """One client's life: submit, follow, perhaps cancel, perhaps ask twice."""
    rng, clients = random.Random(stage.rng.random()), stage.clients
    await asyncio.sleep(rng.uniform(0, kind.spread_s))
    bridge = stage.some_bridge(rng)
    if bridge is None:
        return
    what, graph = stage.world.engine.graph(rng)
    if kind.files and rng.random() < 0.7:
        what, graph = "file", graphs.own_file(rng)
    gpu = rng.choice(["local", COMFY_API, SALAD, "auto", "auto", "auto"]) if kind.cloud else "local"
    if gpu != "local":
        what, graph = "picture", graphs.picture()
    timeouts: dict[str, float] = {}
    if rng.random() < kind.deadlines:
        if rng.random() < 0.4:
            what, graph = "endless", stage.world.engine.endless_graph()
        if what == "endless" or rng.random() < 0.6:
            timeouts["run_timeout_s"] = round(rng.uniform(0.05, 1.0), 2)
        if not timeouts or rng.random() < 0.3:
            timeouts["queue_timeout_s"] = round(rng.uniform(0.05, 1.5), 2)
    key = f"key-{number}" if kind.keyed or rng.random() < 0.6 else None
    if kind.keyed:
        other = stage.some_bridge(rng) or bridge
        async with asyncio.TaskGroup() as both:
            for each in (bridge, other):
                both.create_task(clients.submit(each, what, graph, key=key, timeouts=timeouts))
        entry = next((item for item in clients.submitted if item.key == key and item.job_id), None)
    else:
        entry = await clients.submit(bridge, what, graph, key=key, timeouts=timeouts, gpu=gpu)
        if key is not None:
            entry = await _again(stage, rng, entry, graph, gpu)
    if entry is None or entry.job_id is None:
        return
    if gpu != "local":
        stage.note(f"{entry.job_id} asked for {gpu}")
    if kind.chains and rng.random() < kind.chains:
        await _child_of(stage, rng, entry)
    if rng.random() < kind.cancels:
        await _cancel_somewhere(stage, rng, entry)
    follower = stage.some_bridge(rng)
    if follower is not None and rng.random() < 0.5:
        try:
            async with asyncio.timeout(rng.uniform(0.5, 2.5)):
                await clients.follow(follower, entry)
        except TimeoutError:
            return


async def _again(
    stage: Stage, rng: random.Random, entry: Submitted, graph: Mapping[str, Any], gpu: str
) -> Submitted:
    """A client that got no answer asks again with the same key, anywhere: that must not make a second job."""
    for _ in range(RETRIES):
        if entry.job_id is not None:
            break
        await asyncio.sleep(rng.uniform(0.1, 0.6))
        bridge = stage.some_bridge(rng)
        if bridge is not None:
            entry = await stage.clients.submit(
                bridge, entry.kind, graph, key=entry.key, timeouts=entry.timeouts, gpu=gpu
            )
    return entry


async def _child_of(stage: Stage, rng: random.Random, parent: Submitted) -> None:
    """Another one that waits for it, and perhaps a third one that waits for that."""
    for _ in range(rng.choice([1, 2])):
        bridge = stage.some_bridge(rng)
        if bridge is None or parent.job_id is None:
            return
        what, graph = stage.world.engine.graph(rng)
        after = {rng.choice(["after", "after", "after_any"]): [parent.job_id]}
        parent = await stage.clients.submit(bridge, what, graph, after=after)


async def _cancel_somewhere(stage: Stage, rng: random.Random, entry: Submitted) -> None:
    """At any phase: at once, when it has just started, or at some moment of its life."""
    bridge = stage.some_bridge(rng)
    if bridge is None:
        return
    when = rng.choice(["at once", "started", "some time"])
    if when == "started":
        await until_started(stage.clients, bridge, entry, 3.0)
    elif when == "some time":
        await asyncio.sleep(rng.uniform(0, 0.8))
    stage.note(f"cancel {entry.job_id}")
    await stage.clients.cancel(bridge, entry)


async def _until_final(stage: Stage, bridge: Bridge) -> list[str]:
    """Every job of the store, and the surfaces say the same of those that were promised."""
    world = stage.world

    def open_jobs() -> list[str]:
        connection = connect(world.store)
        try:
            rows = connection.execute("SELECT id, status FROM jobs WHERE status IN ('queued', 'running')")
            return [f"{job_id} is {status}" for job_id, status in rows]
        finally:
            connection.close()

    def all_jobs() -> set[str]:
        connection = connect(world.store)
        try:
            return {job_id for (job_id,) in connection.execute("SELECT id FROM jobs")}
        finally:
            connection.close()

    try:
        async with asyncio.timeout(FINAL_LIMIT_S):
            while await asyncio.to_thread(open_jobs):
                await asyncio.sleep(0.1)
    except TimeoutError:
        left = await asyncio.to_thread(open_jobs)
        return [f"{FINAL_LIMIT_S:.0f} s after the last fault: {text}" for text in left]
    violations = []
    for entry in stage.clients.submitted:
        if entry.job_id is not None and not (stage.store_lost and entry.job_id not in all_jobs()):
            state = await stage.until_final(bridge, entry, TOLD_LIMIT_S)
            if state not in FINAL:
                violations.append(f"the store is done with {entry.job_id}, and REST says {state}")
    return violations


async def _until_drained(world: World) -> list[str]:
    async def prompts(port: int) -> int:
        async with world.session.get(f"http://127.0.0.1:{port}/prompt") as answer:
            return int((await answer.json())["exec_info"]["queue_remaining"])

    try:
        async with asyncio.timeout(DRAINED_LIMIT_S):
            for port in world.ports:
                while await prompts(port):
                    await asyncio.sleep(0.05)
    except TimeoutError:
        return ["every job is final and an engine still has prompts"]
    return []
