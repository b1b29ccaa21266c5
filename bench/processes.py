"""The processes of a run: engines, servers and clients, each on its own, and the CPU that each has used."""

import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.support import processes
from tests.support.real_comfyui import RealComfyUI

NOOP = (sys.executable, "-m", "bench.noop_server")
BRIDGE = (sys.executable, "-m", "comfy_mcp", "mcp")
REPOSITORY = Path(__file__).resolve().parents[1]
python_process = partial(processes.python_process, python=sys.executable)
"""A fresh interpreter, as users have one: what a fork of a warm one shares has another speed."""

NOBODY = "http://127.0.0.1:9"
"""An engine that is not there: what is submitted stays queued."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of the bench: where it may write, how much it does, and on which engines."""

    folder: Path
    engines: tuple[str, ...] = ("comfyui", "embedded")
    quick: bool = False

    def times(self, full: int, quick: int = 1) -> int:
        return quick if self.quick else full

    def fresh(self, name: str) -> Path:
        """A folder that this run has not used yet."""
        path = self.folder / f"{len(list(self.folder.iterdir()))}-{name}"
        path.mkdir()
        return path


def cpu_ms(pid: int) -> float:
    """CPU time of a process, with its ended threads. Linux derives the id of that clock from the pid."""
    return time.clock_gettime((~pid << 3) | 2) * 1000


def environment(url: str, folder: Path) -> Mapping[str, str]:
    """Our own settings and nobody else's; the log level stays the default. Bytecode is kept, as in an
    installed package."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("COMFY")}
    clean.pop("PYTHONDONTWRITEBYTECODE", None)
    return clean | {
        "PYTHONPATH": str(REPOSITORY),
        "COMFYUI_URL": url,
        "COMFY_BRIDGE_STATE_DIR": str(folder),
    }


@asynccontextmanager
async def engine(kind: str, folder: Path) -> AsyncIterator[tuple[str, int]]:
    """The URL and pid of an `embedded` engine or a real `comfyui`, whose base directory is `folder`."""
    if kind == "embedded":
        async with processes.embedded_engine(folder, python=sys.executable) as (process, url):
            yield url, process.pid
        return
    comfyui = await asyncio.to_thread(RealComfyUI, folder)
    try:
        await asyncio.to_thread(comfyui.start)
        yield comfyui.url, comfyui.pid
    finally:
        await asyncio.to_thread(comfyui.stop)


@asynccontextmanager
async def sidecar(folder: Path, engine_url: str, **settings: str) -> AsyncIterator[tuple[str, int]]:
    """`comfy-bridge serve` without a rate limit: its URL and pid."""
    env = {
        "COMFYUI_URL": engine_url,
        "COMFY_BRIDGE_STATE_DIR": str(folder / "state"),
        "COMFY_BRIDGE_RATE_LIMIT_PER_MINUTE": "0",
        "COMFY_BRIDGE_MAX_QUEUED": "1000000",
        **{f"COMFY_BRIDGE_{name}": value for name, value in settings.items()},
    }
    command = ("-m", "comfy_mcp", "serve", "--port", "0")
    async with python_process(*command, env=env, log=folder / "serve.log") as (process, line):
        yield line, process.pid


@asynccontextmanager
async def bare_server(folder: Path) -> AsyncIterator[tuple[str, int]]:
    command = ("-m", "bench.bare_server")
    async with python_process(*command, env={}, log=folder / "bare.log") as (process, line):
        yield line, process.pid


class Worker:
    """A process that runs jobs as one kind of client (bench/clients.py)."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def block(self, **order: Any) -> tuple[list[float], float]:
        """Milliseconds of each job, or of all together where they are queued at once; and of the whole."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        line = await self._process.stdout.readline()
        assert line, "the client process has ended; its log is in the run's folder"
        answer = json.loads(line)
        return answer["times"], answer["whole"]


@asynccontextmanager
async def worker(kind: str, url: str, folder: Path) -> AsyncIterator[Worker]:
    command = ("-m", "bench.clients", kind, url, str(folder / kind))
    async with python_process(*command, env={}, log=folder / f"{kind}.log") as (process, line):
        assert line == "ready"
        yield Worker(process)
