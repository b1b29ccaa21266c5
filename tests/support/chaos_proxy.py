"""A TCP proxy between a bridge and an engine that misbehaves on command.

It copies bytes and knows just enough HTTP to tell a WebSocket from the rest and to see a `POST /prompt`.
Nothing is rewritten: what arrives is what the engine sent, or a lie that was asked for.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from enum import StrEnum

CHUNK = 64 * 1024
_METHODS = (b"GET ", b"POST ", b"HEAD ", b"DELETE ", b"PUT ")


class Mode(StrEnum):
    PASS = "pass"
    REFUSE = "refuse"  # connections are closed at once
    SILENT = "silent"  # connections stay open and nothing comes through until the mode changes
    ERROR_500 = "error_500"
    HTML = "html"
    HALF = "half"  # an answer that ends half-way


LIES = {
    Mode.ERROR_500: b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 25\r\nConnection: close\r\n\r\n500 Internal Server Error",
    Mode.HTML: b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 35\r\n"
    b"Connection: close\r\n\r\n<html><body>Please log in</body></ht",
    Mode.HALF: b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    b'Content-Length: 1000\r\n\r\n{"queue_run',
}

PostHook = Callable[[], Awaitable[bool]]
"""Awaited at a POST. False: what was about to be passed on is dropped, with the connection."""


class ChaosProxy:
    """Set the attributes at any time; they count for what comes next."""

    def __init__(self, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self.port = 0
        self.delay_s = 0.0
        self.socket_silent = False
        self.deaf = False
        """WebSockets answer pings and tell nothing; what they would have told is lost."""
        self.requests: Counter[str] = Counter()
        """How often each `METHOD /path` was asked for."""
        self.before_post: PostHook | None = None
        self.before_post_answer: PostHook | None = None
        self.during_upload: PostHook | None = None
        """Awaited at each piece of a `POST /upload/…`, its first one included."""
        self.upload_lie: bytes | None = None
        """What such a POST is answered instead."""
        self._mode = Mode.PASS
        self._may_pass = asyncio.Event()
        self._may_pass.set()
        self._cut_after: int | None = None
        self._cut_half = False
        self._socket_may_pass = asyncio.Event()
        self._connections: set[_Connection] = set()

    @property
    def sockets(self) -> int:
        """WebSockets that are open through it."""
        return sum(connection.is_socket for connection in self._connections)

    @property
    def mode(self) -> Mode:
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._mode = mode
        if mode is Mode.SILENT:
            self._may_pass.clear()
        else:
            self._may_pass.set()

    def heal(self) -> None:
        self.mode = Mode.PASS
        self.delay_s = 0.0
        self.deaf = False
        self.silence_sockets(False)
        self.before_post = self.before_post_answer = self.during_upload = self.upload_lie = None
        self._cut_after = None

    def cut(self, *, sockets_only: bool = False) -> None:
        """Break what is open now."""
        for connection in list(self._connections):
            if connection.is_socket or not sockets_only:
                connection.abort()

    def cut_socket_after(self, chunks: int, *, half: bool = False) -> None:
        """Break the WebSocket at the n-th piece that the engine sends from now on, or in the middle of it."""
        self._cut_after, self._cut_half = chunks, half

    def silence_sockets(self, silent: bool) -> None:
        """WebSockets stay open and say nothing; HTTP goes on. Later the events come all the same."""
        self.socket_silent = silent
        if silent:
            self._socket_may_pass.clear()
        else:
            self._socket_may_pass.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode is Mode.REFUSE:
            writer.transport.abort()
            return
        connection = _Connection(self, reader, writer)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    async def gate(self, *, is_socket: bool) -> None:
        await self._may_pass.wait()
        if is_socket and self.socket_silent:
            await self._socket_may_pass.wait()
        if self.delay_s:
            await asyncio.sleep(self.delay_s)

    def cuts_now(self) -> bool:
        """Counts one piece of a WebSocket."""
        if self._cut_after is None:
            return False
        self._cut_after -= 1
        if self._cut_after > 0:
            return False
        self._cut_after = None
        return True

    @property
    def cuts_half(self) -> bool:
        return self._cut_half


class _Connection:
    def __init__(self, proxy: ChaosProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.is_socket = False
        self._proxy = proxy
        self._client = (reader, writer)
        self._engine: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._posting = False
        self._uploading = False
        self._frames = _Frames()

    def abort(self) -> None:
        self._client[1].transport.abort()
        if self._engine is not None:
            self._engine[1].transport.abort()

    async def run(self) -> None:
        try:
            self._engine = await asyncio.open_connection("127.0.0.1", self._proxy.upstream_port)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._from_client(*self._client, self._engine[1]))
                tasks.create_task(self._from_engine(self._engine[0], self._client[1]))
        except* (OSError, _Broken):
            pass
        finally:
            self.abort()

    async def _from_client(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, engine: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(CHUNK):
            if b"upgrade: websocket" in data.lower():
                self.is_socket = True
            is_request = data.startswith(_METHODS)
            if is_request and not self.is_socket and (lie := LIES.get(self._proxy.mode)):
                writer.write(lie)
                await writer.drain()
                raise _Broken
            await self._proxy.gate(is_socket=self.is_socket)
            if is_request:
                method, path = data.split(b" ", 2)[:2]
                self._proxy.requests[f"{method.decode()} {path.partition(b'?')[0].decode()}"] += 1
                self._posting = data.startswith((b"POST /prompt ", b"POST /api/prompt "))
                self._uploading = data.startswith((b"POST /upload/", b"POST /api/upload/"))
            if is_request and self._posting:
                await _ask(self._proxy.before_post)
            if self._uploading:
                if self._proxy.upload_lie is not None:
                    writer.write(self._proxy.upload_lie)
                    await writer.drain()
                    raise _Broken
                await _ask(self._proxy.during_upload)
            engine.write(data)
            await engine.drain()
        # Closed, not reset: what was passed on arrives, as after any proxy, though nobody waits for it.
        engine.close()

    async def _from_engine(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            await self._proxy.gate(is_socket=self.is_socket)
            if self.is_socket:
                data = self._frames.pass_on(data, deaf=self._proxy.deaf)
            if self._posting:
                self._posting = False
                await _ask(self._proxy.before_post_answer)
            if self.is_socket and self._proxy.cuts_now():
                if self._proxy.cuts_half:
                    client.write(data[: len(data) // 2])
                    with suppress(OSError):
                        await client.drain()
                raise _Broken
            client.write(data)
            await client.drain()
        raise _Broken


class _Frames:
    """The engine's side of a WebSocket, cut into whole frames (RFC 6455, 5.2; a server's are not masked)."""

    def __init__(self) -> None:
        self._buffer = b""
        self._open = False

    def pass_on(self, data: bytes, *, deaf: bool) -> bytes:
        """The whole frames that are there now; only pings, pongs and closes when `deaf`."""
        self._buffer += data
        if not self._open:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return b""
            self._open, self._buffer = True, rest
            return head + end + self.pass_on(b"", deaf=deaf)
        passed = b""
        while (length := self._length()) is not None:
            frame, self._buffer = self._buffer[:length], self._buffer[length:]
            if not deaf or frame[0] & 0x08:
                passed += frame
        return passed

    def _length(self) -> int | None:
        """Of the first frame, header included; None while it is not all there."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        short = buffer[1] & 0x7F
        extra = {126: 2, 127: 8}.get(short, 0)
        if len(buffer) < 2 + extra:
            return None
        payload = int.from_bytes(buffer[2 : 2 + extra]) if extra else short
        length = 2 + extra + payload
        return length if len(buffer) >= length else None


class _Broken(Exception):
    """This connection is over."""


async def _ask(hook: PostHook | None) -> None:
    if hook is not None and not await hook():
        raise _Broken


@asynccontextmanager
async def open_proxy(upstream_port: int) -> AsyncIterator[ChaosProxy]:
    proxy = ChaosProxy(upstream_port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.heal()
        proxy.cut()
