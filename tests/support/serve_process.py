"""`python -m http_sidecar` in a process of its own, on a free port."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.warm_python import WARM_PYTHON

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 60.0


def environment(folder: Path, engine_url: str, **settings: object) -> dict[str, str]:
    """Nothing of the tester's own settings; `settings` by their name without the prefix."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("COMFY", "MANAGEMENT_", "CORS_", "SALAD_"))
    }
    own = {
        "ENGINE_URLS": engine_url,
        "STATE_DIR": folder / "state",
        "HTTP_PORT": 0,
        "LOG_FORMAT": "json",
        "RATE_LIMIT_PER_MINUTE": 0,
        **settings,
    }
    return kept | {f"COMFY_BRIDGE_{name}": str(value) for name, value in own.items()}


@dataclass(kw_only=True)
class Served:
    """`log`: what it has written to stderr so far, line by line."""

    process: asyncio.subprocess.Process
    url: str = ""
    log: list[dict[str, Any]] = field(default_factory=list)
    silent: asyncio.Event = field(default_factory=asyncio.Event)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def ended(self) -> int:
        """Its exit code, once its last line has been read."""
        async with asyncio.timeout(LIMIT_S):
            await self.silent.wait()
            return await self.process.wait()

    def logged(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.log if line.get("event") == event]

    def peak_bytes(self) -> int:
        """The most memory that it has had resident so far. Linux only."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024


@asynccontextmanager
async def serve_process(
    folder: Path, engine_url: str, *command: str, **settings: object
) -> AsyncIterator[Served]:
    """Once it answers."""
    process = await asyncio.create_subprocess_exec(
        *(command or (WARM_PYTHON, "-m", "http_sidecar")),
        cwd=ROOT,
        env=environment(folder, engine_url, **settings),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    served = Served(process=process)
    listening = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(_read(served, listening))
        try:
            async with asyncio.timeout(LIMIT_S):
                await listening.wait()
            yield served
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            await reading


async def _read(served: Served, listening: asyncio.Event) -> None:
    assert served.process.stderr is not None
    async for raw in served.process.stderr:
        try:
            line = json.loads(raw)
        except ValueError:
            line = {"text": raw.decode(errors="replace")}
        served.log.append(line)
        if line.get("event") == "http_serves":
            served.url = line["url"]
            listening.set()
    served.silent.set()
    listening.set()
