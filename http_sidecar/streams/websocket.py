"""The WebSocket /v1/comfyui/stream: the contract's messages, filtered by subscription and by rights.

Two tasks serve a socket: one reads commands, one follows the log. `_order` lets one of them tell events at a
time, so a replay ends exactly where the news go on. Nothing waits for a slow client: what the hub holds for
it is bounded, and when that overflows while a send is waiting the client is closed (4008) and resumes by
`since`. When it overflows because this side was slow, the rest is read from the log.
"""

import asyncio
from collections.abc import Callable, Coroutine
from enum import IntEnum
from functools import partial
from http import HTTPStatus
from typing import assert_never

import structlog
from aiohttp import WSCloseCode, WSMsgType, web

from comfy_mcp.domain.errors import BridgeError, ErrorCode, LimitExceeded, NotFound, StoreFault
from comfy_mcp.domain.events import StoredEvent
from comfy_mcp.domain.ids import JobId
from comfy_mcp.operations.context import Caller
from comfy_mcp.operations.feed import Reader
from http_sidecar.app_state import BRIDGE, CALLER, DRAIN, SETTINGS
from http_sidecar.bounds import BOUNDS, Bounds
from http_sidecar.door.problems import problem
from http_sidecar.door.rate_limit import BUCKET, RATE_LIMITS, RateLimits
from http_sidecar.door.revocation import REVOCATIONS
from http_sidecar.door.slow_clients import ClientTooSlow, write_within
from http_sidecar.drain import Drain
from http_sidecar.routes import V1
from http_sidecar.streams.event_texts import EventTexts
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
from http_sidecar.streams.open_streams import OPEN_STREAMS, require_known_origin, require_reader
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
    with (
        streams.entered("websocket"),
        app[BRIDGE].feed.follow(request[CALLER], buffer=app[BOUNDS].stream_events) as reader,
        app[REVOCATIONS].watched(request[CALLER]) as revoked,
    ):
        ws = _WebSocket(request, app[SETTINGS].stream_heartbeat_s, app[BOUNDS])
        await ws.prepare(request)
        try:
            count = partial(_count, app[RATE_LIMITS], request[BUCKET])
            socket = _Socket(ws, request[CALLER], reader, streams.texts, app[BOUNDS], count)
            await socket.serve(app[DRAIN], revoked)
            if socket.was_slow:
                streams.was_slow("websocket")
        finally:
            ws.leave()
    return ws


class _WebSocket(web.WebSocketResponse):
    """A close takes a bounded time. aiohttp's own, which it uses itself when a message is too large, waits
    until the client has taken all that was written, and one that reads nothing never does."""

    def __init__(self, request: web.Request, heartbeat_s: float, bounds: Bounds) -> None:
        super().__init__(
            protocols=spoken_protocols(request.headers),
            heartbeat=heartbeat_s,
            max_msg_size=bounds.message_bytes,
            timeout=bounds.stream_send_timeout_s,
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
        """What the client has not taken by now it won't get."""
        if self._wire is not None and self._wire.get_write_buffer_size():
            self._wire.abort()


class _Over(Exception):
    """The socket is to be closed by us; without a code the client has gone."""

    def __init__(self, code: CloseCode | None = None, reason: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class _Socket:
    """One client. `_floors`: what it follows → the `seq` up to which it has that already."""

    def __init__(
        self,
        ws: web.WebSocketResponse,
        caller: Caller,
        reader: Reader,
        texts: EventTexts,
        bounds: Bounds,
        count: Callable[[Subscribe], bool],
    ) -> None:
        """`count` says whether the client may have this subscription now."""
        self._ws = ws
        self._count = count
        self._caller = caller
        self._reader = reader
        self._texts = texts
        self._bounds = bounds
        self._floors: dict[str, int] = {}
        self._order = asyncio.Lock()
        self._faults = 0
        self.was_slow = False

    async def serve(self, drain: Drain, revoked: asyncio.Event) -> None:
        """Until the client goes, misbehaves or is slow, its key is `revoked`, or this process drains."""
        over = await self._run(drain, revoked)
        if over.code is CloseCode.SLOW:
            self.was_slow = True
            log.info("stream_closed", reason="slow_consumer", client=self._caller.client)
        if over.code is not None:
            # Nobody reads any more: only then does aiohttp wait for the client's side of the close.
            await self._ws.close(code=over.code, message=over.reason.encode())

    async def _run(self, drain: Drain, revoked: asyncio.Event) -> _Over:
        """All tasks, until one is over."""
        async with asyncio.TaskGroup() as tasks:
            draining = tasks.create_task(self._end_with(drain))
            following = tasks.create_task(self._end_of(self._follow()))
            reading = tasks.create_task(self._end_of(self._read()))
            admitted = tasks.create_task(self._end_of(self._until(revoked)))
            ending = (admitted, following, reading)
            await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
            for task in (draining, *ending):
                task.cancel()
        ends = [task.result() for task in ending if not task.cancelled()]
        return next((over for over in ends if over.code is not None), ends[0])

    async def _end_of(self, work: Coroutine[None, None, None]) -> _Over:
        """How `work` ended, and what the client is to hear of it."""
        try:
            await work
        except _Over as over:
            return over
        except StoreFault as fault:
            log.warning("stream_failed", code=fault.code.value, client=self._caller.client)
            return _Over(CloseCode.TRY_AGAIN_LATER, f"{fault.code.value}: resume with since")
        except Exception:
            log.exception("stream_failed", client=self._caller.client)
            return _Over(CloseCode.INTERNAL, "internal: resume with since")
        return _Over()

    async def _until(self, revoked: asyncio.Event) -> None:
        await revoked.wait()
        raise _Over(CloseCode.POLICY, "unauthenticated: the key has been revoked")

    async def _end_with(self, drain: Drain) -> None:
        await drain.wait()
        self._reader.end()

    # ------------------------------------------------------------------ the log

    async def _follow(self) -> None:
        while True:
            news = await self._reader.news()
            async with self._order:
                for stored in news:
                    await self._tell(stored)
                    self._reader.passed(stored)
            if self._reader.ended and not news:
                raise _Over(CloseCode.GOING_AWAY, "shutting_down: connect again and resume with since")

    async def _tell(self, stored: StoredEvent) -> None:
        job_id = stored.event.job_id
        floors = [self._floors[key] for key in (job_id, EVERY) if key in self._floors]
        if not floors or (min(floors) >= stored.seq and not stored.volatile):
            return
        text = await self._texts.text(stored)
        if text is not None:
            await self._send(text)
        if stored.is_final:
            self._floors.pop(job_id, None)

    async def _replay(self, since: int, job_id: JobId | None) -> bool:
        """What came after `since` and has been passed, then how far it is now. True if a single job's end
        was among it."""
        ended = False
        while page := await self._reader.past(since, job_id):
            for stored in page:
                await self._tell_past(stored)
                ended = job_id is not None and stored.is_final
            since = page[-1].seq
        for stored in await self._reader.steps(job_id):
            await self._tell_past(stored)
        return ended

    async def _tell_past(self, stored: StoredEvent) -> None:
        text = await self._texts.past_text(stored)
        if text is not None:
            await self._send(text)

    # ------------------------------------------------------------------ the client

    async def _read(self) -> None:
        async for message in self._ws:
            match message.type:
                case WSMsgType.TEXT:
                    await self._take(message.data)
                case WSMsgType.ERROR:  # too large, or no WebSocket any more: aiohttp has closed it
                    return
                case _:
                    await self._blame("Send JSON in text messages.")

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
        match command:
            case Ping():
                await self._send(wire_text(Pong(seq=self._reader.cursor)))
            case Subscribe():
                await self._subscribe(command)
            case Unsubscribe():
                self._floors.pop(command.workflow_id, None)
            case _:
                assert_never(command)

    async def _subscribe(self, command: Subscribe) -> None:
        """A replay ends before the next command is read: a socket has one at a time."""
        if not self._count(command):
            await self._blame(
                "Rate limit exceeded: subscribe again later, or to * once.", ErrorCode.RATE_LIMITED
            )
            return
        wanted, since = command.workflow_id, command.since
        limit = self._bounds.subscriptions
        if wanted not in self._floors and len(self._floors) >= limit:
            raise LimitExceeded(
                f"A stream can follow {limit} workflows.",
                next_step="Unsubscribe from some, or subscribe to *.",
                code=ErrorCode.TOO_MANY_STREAMS,
            )
        job_id = None if wanted == EVERY else JobId(wanted)
        if job_id is not None and not await self._reader.may_follow(job_id):
            raise NotFound(
                f"Workflow {job_id} not found.", next_step="Subscribe with an id that a submit returned."
            )
        async with self._order:
            if since is None:
                ended = job_id is not None and await self._told_end(job_id)
                self._floors.setdefault(wanted, 0)
            else:
                ended = await self._replay(since, job_id)
                # A place that the log does not know must not keep a client waiting for ever.
                self._floors[wanted] = since if await self._reader.known(since) else self._reader.cursor
            if ended:
                del self._floors[wanted]

    async def _told_end(self, job_id: JobId) -> bool:
        """If the job has ended before now, say so: nothing else is going to come of it."""
        past = await self._reader.past(0, job_id)
        if not past or not past[-1].is_final:
            return False
        await self._tell_past(past[-1])
        return True

    async def _blame(self, message: str, code: ErrorCode = ErrorCode.INVALID_ARGUMENT) -> None:
        """An error of the client's own; too many of them end the stream."""
        self._faults += 1
        await self._complain(code.value, message)
        if self._faults >= self._bounds.invalid_messages:
            raise _Over(CloseCode.POLICY, "too many invalid messages")

    async def _complain(self, code: str, message: str) -> None:
        error = StreamError(seq=self._reader.cursor, code=code, message=message)
        await self._send(wire_text(error))

    async def _send(self, text: str) -> None:
        """Raises _Over when the client is gone, or takes too little."""
        fell_behind = self._reader.overflowed
        try:
            await write_within(self._bounds.stream_send_timeout_s, self._ws.send_str(text))
        except ClientTooSlow:
            raise self._slow() from None
        except ConnectionError:
            raise _Over from None
        if self._reader.overflowed and not fell_behind:
            raise self._slow()

    def _slow(self) -> _Over:
        return _Over(CloseCode.SLOW, f"slow_consumer: resume with since {self._reader.cursor}")


def _count(limits: RateLimits, bucket: str, command: Subscribe) -> bool:
    """Whether the rate limit allows it. A replay of everything costs as much as any request."""
    is_large = command.workflow_id == EVERY and command.since is not None
    verdict = (limits.requests if is_large else limits.messages).hit(bucket)
    return verdict is None or verdict.allowed


def _upgrade_required(request: web.Request) -> web.Response:
    return problem(
        HTTPStatus.UPGRADE_REQUIRED,
        "This URL is a WebSocket.",
        code="upgrade_required",
        next_step="Connect with a WebSocket client; docs/streams.md describes the messages.",
        instance=request.path,
        headers={"Upgrade": "websocket", "Connection": "Upgrade"},
    )
