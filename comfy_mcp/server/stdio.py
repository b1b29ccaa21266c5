"""The MCP server on stdin and stdout: one client, one process, the runtime in the background."""

import asyncio
from typing import Literal

import structlog
from mcp.server.runner import serve_loop

from comfy_mcp.domain.ids import ClientId
from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.operations.context import Caller
from comfy_mcp.server.app import BridgeServer, build_server
from comfy_mcp.server.bus import open_bus
from comfy_mcp.server.notifications import publish_events
from comfy_mcp.server.pipes import Wire, claim_stdio, open_streams
from comfy_mcp.server.runtime_provider import OpenBridge, RuntimeProvider
from comfy_mcp.settings import Settings
from comfy_mcp.signals import stopped_by_signals

log = structlog.get_logger(__name__)

ProtocolMode = Literal["auto", "legacy"]

LINE_FACTOR = 3
"""Longest line, as a multiple of the largest workflow: JSON text inside JSON is longer."""

GRACE_S = 0.1
"""For the last frames of open streams, when a signal ends the process."""


async def serve_stdio(
    settings: Settings,
    *,
    open_bridge: OpenBridge,
    protocol: ProtocolMode = "auto",
    wire: Wire | None = None,
) -> None:
    """Serve until the client closes stdin, stdout breaks, or a signal asks for the end.

    `protocol="legacy"` refuses server/discover, for clients that then go on with `initialize` on the same
    pipe and can't be configured. On exit the leases are released; running prompts continue.
    """
    wire = wire or claim_stdio()
    provider = RuntimeProvider(settings, open_bridge=open_bridge)
    caller = Caller(client=ClientId(settings.client_name), surface="mcp-stdio")
    stop = asyncio.Event()
    answered = asyncio.Event()

    async with open_bus() as bus, asyncio.TaskGroup() as tasks:

        async def publish(bridge: Bridge) -> None:
            await publish_events(bridge, caller, bus)

        async def run_runtime() -> None:
            # The first answer comes first: importing the runtime beside it would slow the handshake down.
            await answered.wait()
            await provider.run(publish)

        server = build_server(provider, settings, bus=bus, caller_of=lambda _ctx: caller)
        runtime = tasks.create_task(run_runtime(), name="runtime")
        with stopped_by_signals(stop):
            serving = tasks.create_task(_serve(server, wire, settings, protocol, answered), name="mcp-stdio")
            serving.add_done_callback(lambda _task: stop.set())
            await stop.wait()
            log.info("mcp_stops", by="client" if serving.done() else "signal")
            bus.close()
            await asyncio.wait({serving}, timeout=GRACE_S)
            serving.cancel()
            await asyncio.wait({serving})
            runtime.cancel()
            await asyncio.wait({runtime})


async def _serve(
    server: BridgeServer,
    wire: Wire,
    settings: Settings,
    protocol: ProtocolMode,
    answered: asyncio.Event,
) -> None:
    max_line = settings.max_graph_bytes * LINE_FACTOR
    async with open_streams(wire, max_line=max_line, on_answer=answered.set) as (read, write):
        options = server.create_initialization_options()
        if protocol == "legacy":
            async with server.lifespan(server) as state:
                await serve_loop(server, read, write, lifespan_state=state, init_options=options)
        else:
            await server.run(read, write, options)
