"""`python -m tests.hostile`: for each mode how a job ends, and how long the bridge's event loop stood.

The engine runs in a process of its own, so that its own work is not counted.
"""

import asyncio
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from tests.hostile import engine as engine_module
from tests.hostile.engine import GRAPH, Mode, hostile_engine
from tests.support.sidecar import WORKFLOW, Sidecar, open_sidecar

MEASURED = (
    Mode.WELL,
    Mode.HALF_CHARACTER,
    Mode.HISTORY_TOO_LARGE,
    Mode.HISTORY_ENDLESS,
    Mode.MANY_OUTPUTS,
    Mode.LONG_TEXTS,
    Mode.NO_BRACES,
    Mode.STEPS,
    Mode.DOTS,
    Mode.LONG_ERROR,
    Mode.LONG_REFUSAL,
    Mode.SOCKET_502,
)


async def serve(mode: Mode) -> None:
    """The engine alone: its URL on stdout, until stdin closes."""
    vars(engine_module).update(engine_module.MEASURED)
    async with hostile_engine(mode) as engine:
        print(engine.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def watch(stalls: list[float]) -> None:
    while True:
        before = perf_counter()
        try:
            await asyncio.sleep(0.005)
        finally:  # also the last one, which is cancelled
            stalls.append(max(0.0, perf_counter() - before - 0.005))


async def measure(mode: Mode) -> str:
    engine = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.hostile", mode.name,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert engine.stdin is not None
    assert engine.stdout is not None
    url = (await engine.stdout.readline()).decode().strip()
    stalls: list[float] = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            async with open_sidecar(Path(folder), engine_url=url, request_timeout_s=3.0) as sidecar:
                await sidecar.ended(await sidecar.submit(GRAPH))
                state = await measured_job(sidecar, stalls)
    finally:
        engine.stdin.close()
        await engine.wait()
    stalls.sort()
    p99 = stalls[int(len(stalls) * 0.99)]
    return f"| {mode.value} | {state} | {1000 * p99:.0f}, {1000 * max(stalls):.0f} ms |"


async def measured_job(sidecar: Sidecar, stalls: list[float]) -> str:
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch(stalls))
        await asyncio.sleep(0)  # it has begun, however soon the job ends
        ended = await sidecar.ended(await sidecar.submit(GRAPH))
        await sidecar("GET", f"{WORKFLOW}/{ended['workflowId']}")
        watching.cancel()
    return str(ended["failure"]["kind"] if ended["failure"] else ended["status"])


async def main() -> None:
    print("| what the engine does | the job | p99, longest |\n|---|---|---|")
    for mode in MEASURED:
        print(await measure(mode), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(Mode[sys.argv[1]]) if len(sys.argv) > 1 else main())
