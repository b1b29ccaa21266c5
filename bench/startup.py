"""From the start of the process to its first answer, and what it weighs when it has nothing to do."""

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path

from bench.pipe import Pipe, server_on_pipe
from bench.processes import BRIDGE, NOOP, Run, engine, environment
from bench.stats import TIMES, Aim, Sample, Section, row

HANDSHAKE_S = 1.0
OVER_NOOP_MB = 25.0
STARTS = 15
TOKENS = 2000
MEMORY = ("no-op server", "after the handshake", "runtime open", "runtime open, private")
SETTLE_S = 1.0
"""After the first answer the runtime opens in the background; then nothing happens any more."""


async def measure_startup(run: Run) -> list[Section]:
    folder = run.fresh("startup")
    async with engine("embedded", folder / "engine") as (url, _):
        return await _measure(run, environment(url, folder / "state"), folder / "servers.log")


async def _measure(run: Run, env: Mapping[str, str], log: Path) -> list[Section]:
    starts, settle_s = run.times(STARTS), run.times(1, 0) * SETTLE_S
    noop, bridge = Sample(name="no-op server"), Sample(name="comfy-bridge mcp")
    memory = {name: Sample(name=name) for name in MEMORY}
    surface = b""
    for number in range(-1, starts):  # the first round fills the caches of files and bytecode
        for sample, command in ((noop, NOOP), (bridge, BRIDGE)):
            async with server_on_pipe(command, env, log) as server:
                await server.handshake()
                if number < 0:
                    continue
                sample.values.append((time.perf_counter() - server.started) * 1000)
                if sample is noop:
                    memory["no-op server"].values.append(server.memory_mb())
                    continue
                memory["after the handshake"].values.append(server.memory_mb())
                if number == starts - 1:
                    surface = await _surface(server)
                await server.call("list_outputs")
                await asyncio.sleep(settle_s)
                memory["runtime open"].values.append(server.memory_mb())
                memory["runtime open, private"].values.append(server.memory_mb("RssAnon"))
    tokens = len(surface) / 4
    idle, least = memory["runtime open"].p50, memory["no-op server"].p50
    return [
        Section(
            title="From start to handshake",
            note="From starting the process until `initialize` is answered, files in the page cache.",
            columns=TIMES,
            rows=(row(noop), row(bridge, noop)),
            aims=(Aim(what="start to handshake", value=bridge.p50 / 1000, limit=HANDSHAKE_S, unit="s"),),
        ),
        Section(
            title="Memory of an idle server, and the size of its surface",
            note="Resident memory as the kernel counts it, shared libraries included; the runtime open: "
            f"{settle_s:g} s after the first tool call, the engine connected and driven.",
            columns=("what", "value"),
            rows=(
                *((sample.name, f"{sample.p50:.1f} MB") for sample in memory.values()),
                ("tools and instructions, as a model sees them", f"{tokens:.0f} tokens (bytes ÷ 4)"),
            ),
            aims=(
                Aim(
                    what="idle memory over the SDK's no-op server",
                    value=idle - least,
                    limit=OVER_NOOP_MB,
                    unit="MB",
                ),
                Aim(
                    what="tools and instructions, as a model sees them",
                    value=tokens,
                    limit=TOKENS,
                    unit="tokens",
                ),
            ),
        ),
    ]


async def _surface(server: Pipe) -> bytes:
    """What a model sees: names, descriptions and arguments of the tools, and the instructions."""
    info = {"name": "bench", "version": "1"}
    greeting = await server.ask("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=info)
    tools = await server.ask("tools/list")
    shown = [{name: tool[name] for name in ("name", "description", "inputSchema")} for tool in tools["tools"]]
    parts = (shown, greeting["instructions"])
    return b"".join(json.dumps(part, separators=(",", ":"), ensure_ascii=False).encode() for part in parts)
