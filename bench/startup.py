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
MODEL_TOKENS, LIST_TOKENS = 2000, 3500
BYTES_A_TOKEN = 14_250 / 3_500
"""JSON of tools in o200k_base has that many, and more; tests/server/test_schemas.py counts the same way."""

MEMORY = ("no-op server", "after the handshake", "runtime open", "runtime open, private")
FOR_MODELS = "tools and instructions, as a model sees them"
LISTED = "tools/list, whole"
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
    shown = listed = 0
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
                    shown, listed = await _surface(server)
                await server.call("list_outputs")
                await asyncio.sleep(settle_s)
                memory["runtime open"].values.append(server.memory_mb())
                memory["runtime open, private"].values.append(server.memory_mb("RssAnon"))
    tokens = {FOR_MODELS: shown / BYTES_A_TOKEN, LISTED: listed / BYTES_A_TOKEN}
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
                *((what, f"{count:.0f} tokens") for what, count in tokens.items()),
            ),
            aims=(
                Aim(
                    what="idle memory over the SDK's no-op server",
                    value=idle - least,
                    limit=OVER_NOOP_MB,
                    unit="MB",
                ),
                Aim(what=FOR_MODELS, value=tokens[FOR_MODELS], limit=MODEL_TOKENS, unit="tokens"),
                Aim(what=LISTED, value=tokens[LISTED], limit=LIST_TOKENS, unit="tokens"),
            ),
        ),
    ]


async def _surface(server: Pipe) -> tuple[int, int]:
    """Bytes of what a model sees (names, descriptions and arguments of the tools, and the instructions), and
    of the whole tools/list."""
    info = {"name": "bench", "version": "1"}
    greeting = await server.ask("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=info)
    tools = (await server.ask("tools/list"))["tools"]
    shown = [{name: tool[name] for name in ("name", "description", "inputSchema")} for tool in tools]
    return _size(shown) + len(greeting["instructions"].encode()), _size(tools)


def _size(value: object) -> int:
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())
