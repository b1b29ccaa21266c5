"""Start, signal, and wait for the processes of a fault trial."""

import asyncio
import json
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.warm_python import WARM_PYTHON

LIMIT_S = 60.0
"""Ends a wait for a process that hangs."""


@dataclass(eq=False, slots=True)
class Spawned:
    """A running process; `log` is its stderr."""

    process: Process
    log: Path
    paused: bool = False

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it lives."""
        return self.process.returncode

    @property
    def alive(self) -> bool:
        return self.status is None

    @property
    def stopped(self) -> bool:
        """By SIGSTOP, whoever sent it; as far as the system tells."""
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return self.paused
        return state.rpartition(")")[2].split()[0] == "T"

    @property
    def stdin(self) -> asyncio.StreamWriter:
        assert self.process.stdin is not None
        return self.process.stdin

    def signal(self, number: signal.Signals) -> None:
        """Nothing happens to a process that has ended.

        Not sent with asyncio's send_signal: before Python 3.12.8 it may take the exit status that asyncio
        itself waits for.
        """
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def pause(self) -> None:
        self.paused = True
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.paused = False
        self.signal(signal.SIGCONT)

    async def wait(self, limit_s: float = LIMIT_S) -> int:
        """Raises TimeoutError."""
        async with asyncio.timeout(limit_s):
            return await self.process.wait()

    async def line(self, limit_s: float = LIMIT_S) -> str:
        """The next line on stdout; "" when it has ended. Raises TimeoutError."""
        assert self.process.stdout is not None
        async with asyncio.timeout(limit_s):
            return (await self.process.stdout.readline()).decode()


async def spawn(
    module: str,
    *arguments: str,
    folder: Path,
    log: Path,
    env: Mapping[str, str] | None = None,
    chaos: Mapping[str, Any] | None = None,
) -> Spawned:
    """`python -m MODULE` with the faults of `chaos` (chaos.py). Only `env`, and what any program needs, is in
    its environment."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *(WARM_PYTHON, "-m", "tests.support.chaos", json.dumps(chaos or {}), module, *arguments),
            stdin=PIPE,
            stdout=PIPE,
            stderr=errors,
            env=kept | dict(env or {}),
            cwd=folder,
            limit=16 * 2**20,
        )
    return Spawned(process=process, log=log)
