"""The WebSocket /v1/comfyui/stream: the contract's messages, filtered by subscription and by rights.

The task of the request reads commands; events are written by the one task of `live.py`. Nothing waits for a
slow client: when too much is unread it is closed (4008), and resumes by `since`.
"""

import asyncio
import struct
from collections.abc import Sequence
from enum import IntEnum
from http import HTTPStatus
from time import monotonic
from typing import assert_never

import structlog
from aiohttp import WSCloseCode, WSMsgType, web

from comfy_mcp.domain.errors import BridgeError, Denied, ErrorCode, LimitExceeded, NotFound, StoreFault
from comfy_mcp.domain.events import StoredEvent
from comfy_mcp.domain.ids import JobId
from http_sidecar.app_state import BRIDGE, SETTINGS
from http_sidecar.bounds import BOUNDS, Bounds
from http_sidecar.door.hosts import origin_allowed
from http_sidecar.door.open_streams import OPEN_STREAMS
from http_sidecar.door.problems import problem
from http_sidecar.door.rate_limit import BUCKET, RATE_LIMITS
from http_sidecar.routes import V1
from http_sidecar.streams.live import End, News
from http_sidecar.streams.messages import (
    EVERY,
    Ping,
    Pong,
    StreamError,
    Subscribe,
    Unsubscribe,
    parse_command,
    wire_text,
)
from http_sidecar.streams.stream import Ended, Stream, require_reader
from http_sidecar.streams.tickets import spoken_protocols

log = structlog.get_logger(__name__)

PATH = f"{V1}/stream"


class CloseCode(IntEnum):
    """Why the server closes a socket. 1009 (a message is too large) comes from aiohttp."""

    GOING_AWAY = 1001
    POLICY = 1008
    INTERNAL = 1011
    TRY_AGAIN_LATER = 1013
    SLOW = 4008


async def stream(request: web.Request) -> web.StreamResponse:
    """Raises Denied, LimitExceeded; a request that is no WebSocket handshake gets 426."""
    app = request.app
    streams = app[OPEN_STREAMS]
    if request.headers.get("Upgrade", "").lower() != "websocket":
        return _upgrade_required(request)
    require_known_origin(request)
    require_reader(request)
    with streams.entered(request, "websocket"):
        ws = _WebSocket(request, app[BOUNDS])
        await ws.prepare(request)
        try:
            await _Socket(request, ws).serve()
        finally:
            ws.leave()
    return ws


def require_known_origin(request: web.Request) -> None:
    """Raises Denied. Browsers let any page open a WebSocket anywhere: CORS does not cover it."""
    origin, host = request.headers.get("Origin"), request.headers.get("Host")
    if not origin_allowed(origin, host, request.app[SETTINGS].cors_origins):
        raise Denied(
            "Web pages of this origin may not open a stream.",
            next_step="Add the origin to COMFY_BRIDGE_CORS_ORIGINS.",
        )


class _WebSocket(web.WebSocketResponse):
    """A close takes a bounded time. aiohttp's own, which it uses itself when a message is too large, waits
    until the client has read all that was written, and some clients read nothing."""

    def __init__(self, request: web.Request, bounds: Bounds) -> None:
        super().__init__(
            protocols=spoken_protocols(request.headers),
            heartbeat=bounds.stream_heartbeat_s,
            max_msg_size=bounds.message_bytes,
            timeout=bounds.stream_send_timeout_s,
            autoping=False,  # aiohttp would answer any number, and wait for as long as the client reads none
            compress=False,  # a compressor for each socket costs more memory than all that waits there
        )
        self._limit_s = bounds.stream_send_timeout_s
        self._wire = request.transport

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = False) -> bool:
        try:
            async with asyncio.timeout(self._limit_s):
                return await super().close(code=code, message=message, drain=False)
        except TimeoutError:
            self.leave()
            return True

    def leave(self) -> None:
        """Abort the connection if the client has not read everything."""
        if self._wire is not None and self._wire.get_write_buffer_size():
            self._wire.abort()


CLOSES = {
    End.REVOKED: (CloseCode.POLICY, "unauthenticated: the key has been revoked"),
    End.SHUTTING_DOWN: (CloseCode.GOING_AWAY, "shutting_down: connect again and resume with since"),
    End.STORE_FAULT: (CloseCode.TRY_AGAIN_LATER, "store_unavailable: resume with since"),
    End.INTERNAL: (CloseCode.INTERNAL, "internal: resume with since"),
    End.MISUSED: (CloseCode.POLICY, "too many invalid messages or pings"),
    End.SLOW: (CloseCode.SLOW, "slow_consumer: resume with since"),
}


def frame_of(_stored: StoredEvent, text: str) -> bytes:
    """A text message in one frame, as servers send it: without a mask (RFC 6455, 5.2)."""
    size = len(text)
    if size < 126:
        head = struct.pack("!BB", 0x81, size)
    elif size < 2**16:
        head = struct.pack("!BBH", 0x81, 126, size)
    else:
        head = struct.pack("!BBQ", 0x81, 127, size)
    return head + text.encode("ascii")


class _Socket(Stream):
    """One client."""

    def __init__(self, request: web.Request, ws: web.WebSocketResponse) -> None:
        super().__init__(request, "websocket", frame_of)
        self._ws = ws
        self._feed = request.app[BRIDGE].feed
        self._limits = request.app[RATE_LIMITS]
        self._bucket = request[BUCKET]
        self._faults = 0
        self._signs = self._minute = 0

    async def serve(self) -> None:
        """Until the client disconnects, misbehaves or is slow, its key is revoked, or this process drains."""
        try:
            async with self.attached():
                await self._read()
        except Exception:
            log.exception("stream_failed", client=self.caller.client)
            self.end(End.INTERNAL)
        if self.ended is not None:
            code, reason = CLOSES[self.ended]
            where = f" {self.position}" if self.ended is End.SLOW else ""
            # Nobody reads any more: only then does aiohttp wait for the client's side of the close.
            await self._ws.close(code=code, message=f"{reason}{where}".encode())

    def offer(self, news: News) -> None:
        if not self._ws.closed:  # nothing may come after a close frame
            super().offer(news)

    async def _send(self, _stored: StoredEvent, text: str) -> None:
        await self._say(text)

    def _workflow_ended(self, job_id: JobId) -> None:
        self._unfollow(job_id)

    # ------------------------------------------------------------------ the client

    async def _read(self) -> None:
        async for message in self._ws:
            match message.type:
                case WSMsgType.TEXT:
                    await self._take(message.data)
                case WSMsgType.PING:
                    self._count_sign()
                    await self._drained(self._ws.pong(message.data))
                case WSMsgType.PONG:
                    self._count_sign()
                case WSMsgType.ERROR:  # too large, or no WebSocket any more: aiohttp has closed it
                    return
                case _:
                    await self._blame("Send JSON in text messages.")

    def _count_sign(self) -> None:
        """A ping or a pong. Too many end the stream."""
        minute = int(monotonic()) // 60
        self._signs = self._signs + 1 if minute == self._minute else 1
        self._minute = minute
        if self._signs > self._bounds.signs:
            self.end(End.MISUSED)
            raise Ended

    async def _take(self, text: str) -> None:
        try:
            command = parse_command(text)
        except BridgeError as error:
            await self._blame(str(error))
            return
        try:
            await self._obey(command)
        except (NotFound, LimitExceeded, StoreFault) as error:
            await self._complain(error.code.value, str(error))

    async def _obey(self, command: Ping | Subscribe | Unsubscribe) -> None:
        if not self._allowed(command):
            await self._blame(
                "Rate limit exceeded: send fewer commands, or subscribe to * once.", ErrorCode.RATE_LIMITED
            )
            return
        match command:
            case Ping():
                await self._say(wire_text(Pong(seq=self.position)))
            case Subscribe():
                await self._subscribe(command)
            case Unsubscribe():
                for each in await self._meant(command.workflow_id):
                    self._unfollow(each)
            case _:
                assert_never(command)

    async def _subscribe(self, command: Subscribe) -> None:
        """A replay ends before the next command is read: a socket has one at a time."""
        wanted, since = await self._meant(command.workflow_id), command.since
        if not wanted:
            raise NotFound(
                f"Workflow {command.workflow_id} not found.",
                next_step="Subscribe with an id that a submit returned.",
            )
        limit = self._bounds.subscriptions
        if len(self._floors.keys() | set(wanted)) > max(limit, len(self._floors)):
            raise LimitExceeded(
                f"A stream can follow {limit} workflows.",
                next_step="Unsubscribe from some, or subscribe to *.",
                code=ErrorCode.TOO_MANY_STREAMS,
            )
        if since is None:
            async with self._following(wanted, None) as position:
                for each in wanted:
                    await self._send_end(each, position)
            return
        # A position that the log does not know must not keep a client waiting for ever.
        floor = since if await self._live.log.known(since) else None
        async with self._following(wanted, floor) as position:
            await self._replay(wanted, since, position)

    async def _meant(self, given: str) -> Sequence[str]:
        """What the client can follow by this id: a workflow, all of a batch, or EVERY."""
        return (EVERY,) if given == EVERY else await self._feed.jobs_of(given, self.caller)

    def _allowed(self, command: Ping | Subscribe | Unsubscribe) -> bool:
        """Whether the rate limit allows it. A replay of everything costs as much as any request."""
        is_large = (
            isinstance(command, Subscribe) and command.workflow_id == EVERY and command.since is not None
        )
        verdict = (self._limits.requests if is_large else self._limits.messages).hit(self._bucket)
        return verdict is None or verdict.allowed

    async def _send_end(self, wanted: str, until: int) -> None:
        """If the job has ended before now, say so: nothing else is going to come of it."""
        last = None
        if wanted != EVERY:
            async for stored in self._past(wanted, 0, until):
                last = stored
        if last is not None and last.is_final:
            await self._send_past(last)

    async def _blame(self, message: str, code: ErrorCode = ErrorCode.INVALID_ARGUMENT) -> None:
        """An error of the client's own; too many of them end the stream."""
        self._faults += 1
        await self._complain(code.value, message)
        if self._faults >= self._bounds.invalid_messages:
            self.end(End.MISUSED)
            raise Ended

    async def _complain(self, code: str, message: str) -> None:
        await self._say(wire_text(StreamError(seq=self.position, code=code, message=message)))

    async def _say(self, text: str) -> None:
        await self._drained(self._ws.send_str(text))


def _upgrade_required(request: web.Request) -> web.Response:
    return problem(
        HTTPStatus.UPGRADE_REQUIRED,
        "This URL is a WebSocket.",
        code="upgrade_required",
        next_step="Connect with a WebSocket client; docs/streams.md describes the messages.",
        instance=request.path,
        headers={"Upgrade": "websocket", "Connection": "Upgrade"},
    )
