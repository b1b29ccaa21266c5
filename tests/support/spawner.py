"""The harness's side of the zygote: spawn, signal, and wait for processes."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT_S = 60.0
"""Ends a wait for a process that hangs."""


@dataclass(eq=False, slots=True)
class Spawned:
    """A running process. `status` is its exit status, negative for a signal; None while it lives."""

    pid: int
    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    log: Path
    status: int | None = None
    paused: bool = False
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

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

    def signal(self, number: signal.Signals) -> None:
        """Nothing happens to a process that has ended."""
        if self.status is None:
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

    def ended(self, status: int) -> None:
        self.status = status
        self.stdin.close()
        self._ended.set()

    async def wait(self, limit_s: float = LIMIT_S) -> int:
        """Raises TimeoutError."""
        async with asyncio.timeout(limit_s):
            await self._ended.wait()
        assert self.status is not None
        return self.status

    async def line(self, limit_s: float = LIMIT_S) -> str:
        """The next line on stdout; "" when it has ended. Raises TimeoutError."""
        async with asyncio.timeout(limit_s):
            return (await self.stdout.readline()).decode()


class Spawner:
    """One zygote. Used by one event loop."""

    def __init__(self, control: socket.socket, reader: asyncio.StreamReader) -> None:
        self._control = control
        self._reader = reader
        self._answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._alive: dict[int, Spawned] = {}
        self._early: dict[int, int] = {}
        self._turn = asyncio.Lock()

    async def spawn(
        self,
        kind: str,
        *arguments: str,
        folder: Path,
        log: Path,
        env: Mapping[str, str] | None = None,
        chaos: Mapping[str, Any] | None = None,
    ) -> Spawned:
        """Only `env`, and what any program needs, is in the child's environment."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        request = {
            "kind": kind,
            "arguments": arguments,
            "env": kept | dict(env or {}),
            "folder": str(folder),
            "chaos": dict(chaos or {}),
        }
        (child_in, ours_in), (ours_out, child_out) = os.pipe(), os.pipe()
        child_err = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        stdin, stdout = await _pipes(ours_in, ours_out)
        try:
            pid = await self._fork(json.dumps(request).encode(), [child_in, child_out, child_err])
        finally:
            for descriptor in (child_in, child_out, child_err):
                os.close(descriptor)
        process = Spawned(pid=pid, stdin=stdin, stdout=stdout, log=log)
        if pid in self._early:
            process.ended(self._early.pop(pid))
        else:
            self._alive[pid] = process
        return process

    async def _fork(self, request: bytes, descriptors: list[int]) -> int:
        async with self._turn:  # one at a time: a stream of bytes does not keep two requests apart
            self._answer = asyncio.get_running_loop().create_future()
            socket.send_fds(self._control, [request], descriptors)
            async with asyncio.timeout(LIMIT_S):
                return await self._answer

    async def listen(self) -> None:
        """Take in what the zygote reports, until it ends."""
        while line := await self._reader.readline():
            message = json.loads(line)
            if "pid" in message:
                self._answer.set_result(message["pid"])
            elif message["ended"] in self._alive:
                self._alive.pop(message["ended"]).ended(message["status"])
            else:
                self._early[message["ended"]] = message["status"]


@asynccontextmanager
async def open_spawner(log: Path) -> AsyncIterator[Spawner]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.support.zygote", str(theirs.fileno())),
            pass_fds=(theirs.fileno(),),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            cwd=REPOSITORY,
        )
    theirs.close()
    # A second descriptor, which the stream's transport owns and closes.
    reader, writer = await asyncio.open_unix_connection(sock=ours.dup())
    try:
        async with asyncio.timeout(LIMIT_S):
            ready = await reader.readline()
        assert ready, f"the zygote did not start: {log.read_text()[-2000:]}"
        spawner = Spawner(ours, reader)
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(spawner.listen())
            try:
                yield spawner
            finally:
                listening.cancel()
    finally:
        writer.close()
        ours.close()
        await process.wait()


async def _pipes(write_end: int, read_end: int) -> tuple[asyncio.StreamWriter, asyncio.StreamReader]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=16 * 2**20)
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", buffering=0)
    )
    transport, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(write_end, "wb", buffering=0)
    )
    return asyncio.StreamWriter(transport, protocol, None, loop), reader
