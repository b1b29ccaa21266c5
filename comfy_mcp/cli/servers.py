"""The commands that stay: the MCP server on stdio, the HTTP sidecar, and the embedded engine."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Literal

from comfy_mcp.cli.exits import ExitCode
from comfy_mcp.cli.options import import_lean
from comfy_mcp.cli.output import Output
from comfy_mcp.domain.errors import InvalidInput
from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.settings import Settings


async def mcp(
    settings: Settings,
    output: Output,
    *,
    protocol: Literal["auto", "legacy"],
    metrics_port: int | None = None,
    metrics_host: str = "127.0.0.1",
) -> ExitCode:
    """Serve MCP on stdin and stdout until the client disconnects, and /metrics if a port is given."""
    import_lean("mcp")
    from comfy_mcp.server.stdio import serve_stdio

    if sys.stdin.isatty():
        output.note(
            "MCP on stdin and stdout: an agent starts this command. `comfy-bridge doctor --write CLIENT` "
            "connects one; Ctrl-C ends this."
        )
    opener = open_in_background
    if metrics_port is not None:
        opener = partial(_open_with_metrics, host=metrics_host, port=metrics_port)
    await serve_stdio(settings, protocol=protocol, open_bridge=opener)
    return ExitCode.OK


@asynccontextmanager
async def open_in_background(settings: Settings, *, counted: bool = False) -> AsyncIterator[Bridge]:
    """A bridge whose imports slow down neither the handshake nor the first answers: they run in a thread.
    `counted`: with metrics."""
    await asyncio.to_thread(import_module, "comfy_mcp.runtime")
    from comfy_mcp.pauses import short_pauses
    from comfy_mcp.runtime import open_bridge

    async with open_bridge(settings, counted=counted) as bridge, short_pauses():
        yield bridge


@asynccontextmanager
async def _open_with_metrics(settings: Settings, *, host: str, port: int) -> AsyncIterator[Bridge]:
    await asyncio.to_thread(import_module, "http_sidecar.process.metrics_port")
    from http_sidecar.process.metrics_port import serving_metrics

    async with open_in_background(settings, counted=True) as bridge:
        assert bridge.metrics is not None  # counted
        async with serving_metrics(bridge.metrics, host=host, port=port):
            yield bridge


async def serve(
    settings: Settings,
    output: Output,
    *,
    host: str | None,
    port: int | None,
    insecure: bool,
    also_stdio: bool,
) -> ExitCode:
    """The HTTP sidecar until a signal. Its URL is the first line on stdout, but where that is MCP's."""
    import_lean("mcp")
    from http_sidecar.process.serve import serve as serve_http

    def ready(url: str) -> None:
        if not also_stdio:
            output.result({"url": url, "pid": os.getpid()}, [url])
        output.note(f"serving at {url}; docs at {url}/docs, MCP at {url}/mcp; Ctrl-C stops it")

    await serve_http(settings, host=host, port=port, insecure=insecure, also_stdio=also_stdio, ready=ready)
    return ExitCode.OK


async def engine(
    settings: Settings,
    output: Output,
    *,
    host: str,
    port: int,
    base_directory: Path | None,
    object_info: str | None = None,
) -> ExitCode:
    """The embedded engine until SIGINT or SIGTERM; its URL is the first line on stdout."""
    from comfy_mcp.cli.files import read_node_list
    from comfy_mcp.embedded import EngineConfig, serve
    from comfy_mcp.operations.checking import node_list

    base = base_directory or settings.state_dir / "embedded-engine"
    recorded = None if object_info is None else node_list(read_node_list(object_info))
    config = EngineConfig(base_directory=base, host=host, port=port, object_info=recorded)

    def ready(url: str) -> None:
        output.result({"url": url, "pid": os.getpid(), "baseDirectory": str(base), "isComfyui": False}, [url])
        output.note(f"the embedded engine (not ComfyUI) runs at {url}; files are in {base}; Ctrl-C stops it")

    try:
        await serve(config, ready=ready)
    except OSError as error:
        raise InvalidInput(
            f"The engine can't listen on {host}:{port} with its files in {str(base)!r}: "
            f"{error.strerror or type(error).__name__}.",
            next_step="Use another --port (0 = any free port) or another --base-directory.",
        ) from None
    return ExitCode.OK
