"""Engines and bridges as real processes, each ended by its pid."""

import asyncio
import json
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.warm_python import WARM_PYTHON

REPOSITORY = Path(__file__).resolve().parents[2]
START_LIMIT_S = 60.0


@asynccontextmanager
async def python_process(
    *arguments: str, env: Mapping[str, str], log: Path, python: str = WARM_PYTHON
) -> AsyncIterator[tuple[Process, str]]:
    """`python ARGUMENTS` with only `env` of our own settings; yields it with its first line on stdout."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("COMFY")}
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            python,
            *arguments,
            stdin=PIPE,
            stdout=PIPE,
            stderr=errors,
            env={**clean, **env, "PYTHONPATH": str(REPOSITORY)},
            cwd=log.parent,
        )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_LIMIT_S):
            line = (await process.stdout.readline()).decode().strip()
        assert line, f"{arguments} said nothing; its log: {log.read_text()[-2000:]}"
        yield process, line
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def embedded_engine(
    folder: Path, *, port: int = 0, at: Mapping[str, Any] | None = None, python: str = WARM_PYTHON
) -> AsyncIterator[tuple[Process, str]]:
    """The embedded engine as its own process, with its URL. `at`: where it kills itself (chaos.py)."""
    folder.mkdir(parents=True, exist_ok=True)
    chaos = ("-m", "tests.support.chaos", json.dumps({"at": at})) if at else ("-m",)
    arguments = (*chaos, "comfy_mcp.embedded", "--port", str(port), "--base-directory", str(folder))
    log = folder / "engine.log"
    async with python_process(*arguments, env={}, log=log, python=python) as (process, line):
        yield process, line[line.index("http://") :].split()[0].rstrip(".")


@asynccontextmanager
async def bridge(folder: Path, env: Mapping[str, str], **constants: float) -> AsyncIterator[Process]:
    """A process that drives the engines of `env` whenever it can get their leases. `constants`: see there."""
    chaos = json.dumps({"constants": constants})
    arguments = ("-m", "tests.support.chaos", chaos, "tests.support.bridge_process")
    async with python_process(*arguments, env=env, log=folder / "bridge.log") as (process, line):
        assert line == "ready"
        yield process


def kill(process: Process) -> None:
    """kill -9, by pid."""
    os.kill(process.pid, signal.SIGKILL)


__all__ = ["bridge", "embedded_engine", "kill", "python_process"]
