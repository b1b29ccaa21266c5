"""The stdio server in a process of its own, spoken to line by line."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcp.client.stdio import StdioServerParameters

import tests.support.ready_client  # noqa: F401 - no event loop stands still for its import
from tests.support.mcp_surface import LIMIT_S
from tests.support.warm_python import WARM_PYTHON

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("mcp_stdio.py")
HANDSHAKES = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")


def environment(folder: Path, engine_url: str, **settings: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {
        "PYTHONPATH": str(ROOT),
        "COMFYUI_URL": engine_url,
        "COMFY_BRIDGE_STATE_DIR": str(folder / "state"),
        **{f"COMFY_BRIDGE_{name}": value for name, value in settings.items()},
    }


def parameters(folder: Path, engine_url: str, *modes: str, **settings: str) -> StdioServerParameters:
    """For the SDK's own client."""
    return StdioServerParameters(
        command=WARM_PYTHON,
        args=[str(SCRIPT), *modes],
        env=environment(folder, engine_url, **settings),
    )


@dataclass(slots=True)
class ServerProcess:
    process: asyncio.subprocess.Process
    lines: list[dict[str, Any]] = field(default_factory=list)
    """Everything that was on stdout, in order. A line that is no JSON fails where it is read."""

    _next_id: int = 0

    async def send(self, method: str, params: dict[str, Any] | None = None, **more: Any) -> None:
        message = {"jsonrpc": "2.0", "method": method, **({"params": params} if params else {}), **more}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        await self.process.stdin.drain()

    async def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            raw = await self.process.stdout.readline()
        assert raw, "stdout is closed"
        message = json.loads(raw)
        assert message["jsonrpc"] == "2.0"
        self.lines.append(message)
        return dict(message)

    async def request(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer's message, with `result` or `error`."""
        self._next_id += 1
        await self.send(method, params, id=self._next_id)
        while (message := await self.line()).get("id") != self._next_id:
            pass
        return message

    async def initialize(self, version: str = "2025-11-25") -> dict[str, Any]:
        client = {"name": "test", "version": "1"}
        params = {"protocolVersion": version, "capabilities": {}, "clientInfo": client}
        result = (await self.request("initialize", params))["result"]
        await self.send("notifications/initialized")
        return dict(result)

    async def tool(self, name: str, **arguments: Any) -> dict[str, Any]:
        answer = await self.request("tools/call", {"name": name, "arguments": arguments})
        return dict(answer["result"])

    async def end(self) -> tuple[int, str]:
        """Close stdin; the exit code and stderr."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return await self.ended()

    async def ended(self) -> tuple[int, str]:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        async with asyncio.timeout(LIMIT_S):
            while raw := await self.process.stdout.readline():
                self.lines.append(json.loads(raw))
            errors = await self.process.stderr.read()
            code = await self.process.wait()
        return code, errors.decode()


@asynccontextmanager
async def server_process(
    folder: Path, engine_url: str, *modes: str, **settings: str
) -> AsyncIterator[ServerProcess]:
    process = await asyncio.create_subprocess_exec(
        WARM_PYTHON,
        str(SCRIPT),
        *modes,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(folder, engine_url, **settings),
        limit=16 * 2**20,
    )
    try:
        yield ServerProcess(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
