"""The commands that stay: the MCP server on stdio, and the embedded engine."""

import os
from pathlib import Path
from typing import Literal

from comfy_mcp.cli.exits import ExitCode
from comfy_mcp.cli.output import Output
from comfy_mcp.domain.errors import InvalidInput
from comfy_mcp.settings import Settings


async def mcp(settings: Settings, *, protocol: Literal["auto", "legacy"]) -> ExitCode:
    """MCP on stdin and stdout until the client goes."""
    from comfy_mcp.server.stdio import serve_stdio

    await serve_stdio(settings, protocol=protocol)
    return ExitCode.OK


async def engine(
    settings: Settings, output: Output, *, host: str, port: int, base_directory: Path | None
) -> ExitCode:
    """The embedded engine until SIGINT or SIGTERM; its URL is the first line on stdout."""
    from comfy_mcp.embedded import EngineConfig, serve

    base = base_directory or settings.state_dir / "embedded-engine"
    config = EngineConfig(base_directory=base, host=host, port=port)

    def ready(url: str) -> None:
        output.result({"url": url, "pid": os.getpid(), "baseDirectory": str(base), "isComfyui": False}, [url])
        output.note(
            f"the embedded engine (not ComfyUI) answers at {url}; files are in {base}; Ctrl-C stops it"
        )

    try:
        await serve(config, ready=ready)
    except OSError as error:
        raise InvalidInput(
            f"The engine can't listen on {host}:{port} with its files in {str(base)!r}: "
            f"{error.strerror or type(error).__name__}.",
            next_step="Give another --port (0 takes a free one), or another --base-directory.",
        ) from None
    return ExitCode.OK
