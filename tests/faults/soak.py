"""`python -m tests.faults.soak [--jobs N]`: many jobs, subscribers that come and go, an event stream that is
cut again and again; and nothing grows.

Real processes: an engine behind a proxy, a sidecar that drives it, an MCP server on stdio beside it on the
same store. The jobs come in rounds. After each round everybody leaves, what is under way ends, retention has
its turn; at this rest the processes are measured from outside, and the checker of the fault trials compares
the store with the engine's record and with what clients heard, and looks for broken invariants. Retention
keeps more than two rounds, so no job is forgotten that has not been checked at a rest.

Whether what was measured is flat, `flat.py` says.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from tests.faults.course import LIMIT_S, SUBSCRIBERS, Course
from tests.faults.engines import EmbeddedProcess
from tests.faults.soak_report import MIB, Soak, table
from tests.faults.world import Bridge, World, open_world

ROUNDS = 25
RECONNECTS = 50
KEPT_ROUNDS = 2.5
RUSH = 2
"""Before the first round there is one more, with so many times the subscribers. The allocator keeps what it
took at the height of it, so that later no chance meeting of many looks like growth. A leak has to fill that
room, some MiB, before it shows: what is small takes thousands of jobs to find."""

HISTORY = 200
"""Prompts that the engine remembers: its memory is measured too."""


async def run_soak(
    folder: Path,
    jobs: int,
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
    on_rest: Callable[[Soak], None] = lambda _soak: None,
) -> Soak:
    """In an empty `folder`, `jobs` and those of the rush. Stops after the round with the first violation."""
    began = monotonic()
    per_round = -(-jobs // rounds)
    settings = {
        "RETENTION_JOBS": str(round(per_round * KEPT_ROUNDS)),
        "RETENTION_PAUSE_S": "0.5",
        "REFRESH_S": "0.5",
        "SESSION_IDLE_S": "1.5",
        "LEASE_TTL_S": "30",  # a busy machine is no reason for a takeover here
        "QUIET_S": "3",
        "CONNECT_TIMEOUT_S": "30",
        "REQUEST_TIMEOUT_S": "60",
        "BUSY_S": "30",
    }
    engine = EmbeddedProcess(folder / "engine", HISTORY)
    async with open_world(
        folder / "world", engine, others=(), bent_clock=False, server=None, cloud=None, **settings
    ) as world:
        course = await _start(world, engine, random.Random(seed))
        await course.round(per_round, 0, subscribers=RUSH * SUBSCRIBERS)
        await course.rest(measured=False)
        for number in range(rounds):
            cuts = RECONNECTS * (number + 1) // rounds - RECONNECTS * number // rounds
            await course.round(per_round, cuts)
            await course.rest()
            on_rest(course.soak)
            if course.soak.violations:
                break
        await course.end()
    course.soak.seconds = monotonic() - began
    return course.soak


async def _start(world: World, engine: EmbeddedProcess, rng: random.Random) -> Course:
    sidecar = await world.start_bridge("serve")
    agent = await world.start_bridge("mcp", "--metrics-port", "0")
    assert sidecar is not None
    assert sidecar.url is not None
    assert agent is not None
    urls = {"sidecar": sidecar.url, "agent": await _metrics_url(agent)}
    return Course(world, engine, rng, {"sidecar": sidecar, "agent": agent}, urls)


async def _metrics_url(agent: Bridge) -> str:
    """Of an MCP server, as its log tells."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            for line in agent.process.log.read_text().splitlines():
                if '"metrics_served"' in line:
                    said = json.loads(line)
                    return f"http://{said['host']}:{said['port']}"
            await asyncio.sleep(0.1)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000, metavar="N")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep the files here (default: a temporary folder)")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="comfy-soak-"))
    folder.mkdir(parents=True, exist_ok=True)

    def progress(soak: Soak) -> None:
        now = {name: points[-1][1] for name, points in soak.series.items()}
        (folder / "series.json").write_text(json.dumps(soak.series))
        memory = ", ".join(f"{name} {value / MIB:.1f} MiB" for name, value in now.items() if "memory" in name)
        print(f"{soak.jobs} jobs: {memory}", file=sys.stderr, flush=True)

    soak = asyncio.run(
        run_soak(folder, options.jobs, rounds=options.rounds, seed=options.seed, on_rest=progress)
    )
    for violation in soak.violations:
        print(f"  - {violation}")
    if soak.violations:
        print(f"    files: {folder}")
        return 1
    print("\n".join(table(soak)))
    return int(not all(verdict.flat for verdict in soak.verdicts().values()))


if __name__ == "__main__":
    sys.exit(main())
