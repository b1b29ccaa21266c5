"""One MCP server on its pipes with nothing in between: its start, its memory, its own time."""

import asyncio
import itertools
import json
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

LIMIT_S = 60.0
LINE_BYTES = 16 * 2**20


class Pipe:
    """JSON-RPC line by line. One request at a time; notifications are read over."""

    def __init__(self, process: Process, started: float) -> None:
        self._process = process
        self._ids = itertools.count(1)
        self.started = started

    async def handshake(self) -> None:
        """initialize, the handshake that every client of 2025 speaks."""
        info = {"name": "bench", "version": "1"}
        await self.ask("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=info)
        await self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The result, as it came."""
        number = next(self._ids)
        await self._send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        async with asyncio.timeout(LIMIT_S):
            while True:
                line = await self._line()
                answer = json.loads(line)
                if answer.get("id") == number:
                    result: dict[str, Any] = answer["result"]
                    return result

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The structured content of a tool's result."""
        result = await self.ask("tools/call", name=tool, arguments=arguments)
        assert not result.get("isError"), result["content"]
        content: dict[str, Any] = result.get("structuredContent") or {}
        return content

    def memory_mb(self, what: str = "VmRSS") -> float:
        """Now. VmRSS is resident memory with the pages of shared libraries, RssAnon its private part (Linux:
        /proc/PID/status)."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith(f"{what}:")]
        return int(line.split()[1]) / 1024

    async def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        await self._process.stdin.drain()

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise ConnectionError("the server ended")
        if not line.startswith(b"{"):
            raise ConnectionError(f"the server wrote what is no message: {line[:200]!r}")
        return line


@asynccontextmanager
async def server_on_pipe(command: tuple[str, ...], env: Mapping[str, str], log: Path) -> AsyncIterator[Pipe]:
    """Start the server; at the end close its stdin and wait."""
    with log.open("ab") as errors:
        started = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=errors, env=dict(env), limit=LINE_BYTES
        )
    try:
        yield Pipe(process, started)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(LIMIT_S):
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
