"""The sidecar and the bare server, each as a process of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.processes import python_process

NOBODY = "http://127.0.0.1:9"
"""An engine that is not there: what is submitted stays queued."""


@asynccontextmanager
async def sidecar(folder: Path, engine_url: str, **settings: str) -> AsyncIterator[tuple[str, int]]:
    """`comfy-bridge serve` without a rate limit: its URL and pid."""
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - before anything is measured
    env = {
        "COMFYUI_URL": engine_url,
        "COMFY_BRIDGE_STATE_DIR": str(folder / "state"),
        "COMFY_BRIDGE_LOG_LEVEL": "warning",
        "COMFY_BRIDGE_RATE_LIMIT_PER_MINUTE": "0",
        "COMFY_BRIDGE_MAX_QUEUED": "1000000",
        **{f"COMFY_BRIDGE_{name}": value for name, value in settings.items()},
    }
    command = ("-m", "comfy_mcp", "serve", "--port", "0")
    async with python_process(*command, env=env, log=folder / "serve.log") as (process, line):
        yield line, process.pid


@asynccontextmanager
async def bare_server(folder: Path) -> AsyncIterator[str]:
    async with python_process("-m", "bench.http_bare_server", env={}, log=folder / "bare.log") as (_, line):
        yield line
