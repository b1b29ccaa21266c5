"""What a tool call over stdio costs next to a tool that does nothing: same client, in turn."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from bench.pipe import server_on_pipe
from bench.processes import BRIDGE, NOOP, Run, engine, environment
from bench.stats import TIMES, Aim, Sample, Section, row
from tests.support.graphs import picture

STATUS_MS = 0.5
SUBMIT_MS = 2.5
WARM_UP = 10
CALLS = 300

Call = Callable[..., Awaitable[dict[str, Any]]]


async def measure_tools(run: Run) -> list[Section]:
    folder = run.fresh("tools")
    async with engine("embedded", folder / "engine") as (url, _):
        return [
            await _measure(environment(url, folder / "state"), folder / "servers.log", run.times(CALLS, 3))
        ]


async def _measure(env: Mapping[str, str], log: Path, calls: int) -> Section:
    async with AsyncExitStack() as stack:
        errors = stack.enter_context(log.open("a"))

        async def sdk(command: tuple[str, ...]) -> Call:
            server = StdioServerParameters(command=command[0], args=list(command[1:]), env=dict(env))
            client = await stack.enter_async_context(Client(stdio_client(server, errlog=errors)))

            async def call(tool: str, **arguments: Any) -> dict[str, Any]:
                result = await client.call_tool(tool, arguments)
                assert not result.is_error, result.content
                return result.structured_content or {}

            return call

        async def pipe(command: tuple[str, ...]) -> Call:
            server = await stack.enter_async_context(server_on_pipe(command, env, log))
            await server.handshake()
            return server.call

        through_sdk = await _in_turn("SDK client", await sdk(NOOP), await sdk(BRIDGE), calls)
    async with AsyncExitStack() as stack:
        on_pipe = await _in_turn("bare pipe", await pipe(NOOP), await pipe(BRIDGE), calls)
    noop, status, submit = through_sdk
    return Section(
        title="Tool calls over stdio",
        note="The no-op tool is on the SDK's lowlevel server and its own stdio transport. "
        "`workflow_status` is of a completed workflow with its output; `submit_workflow` sends a graph, "
        "and its job has run before the next call. The SDK's client checks each structured result against "
        "the tool's output schema; the no-op tool has none. On a bare pipe that work is left out.",
        columns=TIMES,
        rows=tuple(
            row(sample, None if sample is group[0] else group[0])
            for group in (through_sdk, on_pipe)
            for sample in group
        ),
        aims=(
            Aim(
                what="status over no-op, SDK client", value=status.p50 - noop.p50, limit=STATUS_MS, unit="ms"
            ),
            Aim(
                what="submit over no-op, SDK client", value=submit.p50 - noop.p50, limit=SUBMIT_MS, unit="ms"
            ),
        ),
    )


async def _in_turn(client: str, noop: Call, bridge: Call, calls: int) -> tuple[Sample, Sample, Sample]:
    samples = tuple(Sample(name=f"{name}, {client}") for name in ("no-op", "status", "submit"))
    last = ""
    for number in range(-WARM_UP, calls):
        last = await _round(samples, noop, bridge, last)
        if number < 0:
            for sample in samples:
                sample.values.clear()
    return samples[0], samples[1], samples[2]


async def _round(samples: tuple[Sample, ...], noop: Call, bridge: Call, last: str) -> str:
    """One call of each; the id of the workflow that has run."""
    nothing, status, submit = samples
    await nothing.time(lambda: noop("noop"))
    submitted = await submit.time(lambda: bridge("submit_workflow", workflow=picture("bench/t")))
    workflow: str = submitted["workflowId"]
    ended = await bridge("wait_for_workflow", workflow_id=workflow)
    assert ended["status"] == "completed", ended
    await status.time(lambda: bridge("workflow_status", workflow_id=last or workflow))
    return workflow
