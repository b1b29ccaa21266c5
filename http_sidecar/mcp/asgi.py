"""An ASGI application behind an aiohttp handler.

It needs AppRunner(handler_cancellation=True): a client's disconnect reaches the application as
`http.disconnect`, and an application that does not end then is cancelled. The answer is written at the
client's pace; the connection is aborted when the client reads nothing for too long.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import aiohttp
import structlog
from aiohttp import web
from aiohttp.web_protocol import RequestPayloadError

from http_sidecar.door.slow_clients import ClientTooSlow, write_now, write_within

log = structlog.get_logger(__name__)

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding"})
"""Headers of the connection, which is aiohttp's (RFC 9110, 7.6.1)."""

UNREAD_BYTES = 256 * 1024
"""Frames for one client that wait in this process, a thousand or so; what the kernel holds is not counted."""

GRACE_S = 1.0
"""For the application to end by itself after `http.disconnect`; then it is cancelled."""


class AsgiBridge:
    """Runs one application; any number of requests at once."""

    def __init__(
        self, app: AsgiApp, *, body_timeout_s: float, send_timeout_s: float, grace_s: float = GRACE_S
    ) -> None:
        self._app = app
        self._grace_s = grace_s
        self._body_timeout_s = body_timeout_s
        self._send_timeout_s = send_timeout_s
        self._open: set[_Exchange] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    async def wait_idle(self) -> None:
        """Until no request is open."""
        await self._idle.wait()

    async def handle(
        self, request: web.Request, *, state: Mapping[str, Any], user: object = None, revoked: asyncio.Event
    ) -> web.StreamResponse:
        """Answer one request. `state` and `user` go into the scope as they are; its `answer` accepts
        Server-Sent Events that the application need not carry. Once `revoked` is set, the
        application gets `http.disconnect`, and the connection is aborted.

        Raises what the application raises, as long as no answer has begun.
        """
        exchange = _Exchange(
            request, body_timeout_s=self._body_timeout_s, send_timeout_s=self._send_timeout_s
        )
        scope = _scope(request, state, user)
        scope["answer"] = exchange
        self._open.add(exchange)
        self._idle.clear()
        try:
            await self._run(exchange, scope, revoked)
        finally:
            self._open.discard(exchange)
            if not self._open:
                self._idle.set()
        return exchange.result()

    async def drain(self, limit_s: float) -> None:
        """End streams that only listen (GET), wait up to `limit_s` for the others, then end those too."""
        for exchange in list(self._open):
            if exchange.listens:
                exchange.disconnect()
        try:
            async with asyncio.timeout(limit_s):
                await self.wait_idle()
        except TimeoutError:
            log.info("streams_cut", count=len(self._open))
            for exchange in list(self._open):
                exchange.disconnect()

    async def _run(self, exchange: "_Exchange", scope: Scope, revoked: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(exchange.run(self._app, scope))
            cutting = tasks.create_task(revoked.wait())
            try:
                await asyncio.wait({running, cutting}, return_when=asyncio.FIRST_COMPLETED)
                if not running.done():
                    exchange.disconnect()
                    await asyncio.wait({running}, timeout=self._grace_s)
            except asyncio.CancelledError:
                exchange.disconnect()
                await asyncio.wait({running}, timeout=self._grace_s)
                raise  # the group cancels what has not ended
            finally:
                running.cancel()
                cutting.cancel()


class _Exchange:
    """One request and its answer."""

    def __init__(self, request: web.Request, *, body_timeout_s: float, send_timeout_s: float) -> None:
        self._request = request
        self._body_limit = asyncio.get_running_loop().time() + body_timeout_s
        self._send_timeout_s = send_timeout_s
        self._body_read = False
        self._gone = asyncio.Event()
        self._response: web.StreamResponse | None = None
        self._error: Exception | None = None
        self._refusal: web.HTTPException | None = None
        self._begun = asyncio.Event()
        self._ended = False

    @property
    def listens(self) -> bool:
        return self._request.method == "GET"

    async def run(self, app: AsgiApp, scope: Scope) -> None:
        try:
            await app(scope, self._receive, self._send)
        except Exception as error:  # noqa: BLE001 - raised again by result(), outside the task group
            self._error = error

    def disconnect(self) -> None:
        """From now on the application gets `http.disconnect`, and nothing more is written."""
        self._gone.set()

    @property
    def is_chunked(self) -> bool:
        """As every stream of HTTP/1.1 is."""
        return self._request.version >= aiohttp.HttpVersion11

    async def begun(self) -> None:
        """Wait until some of the body has been written."""
        await self._begun.wait()

    def frame(self, message: bytes) -> bytes:
        """A Server-Sent Event as one chunk of the body."""
        event = b"event: message\r\ndata: %b\r\n\r\n" % message
        return b"%x\r\n%b\r\n" % (len(event), event)

    def write(self, frame: bytes) -> None:
        """Write a `frame` past the application; a client that leaves too many unread is cut off.

        aiohttp writes whole chunks too, so that neither lands inside the other's.
        """
        if self._gone.is_set() or self._ended:
            return
        try:
            write_now(self._request.transport, frame, UNREAD_BYTES)
        except ClientTooSlow:
            log.info("slow_client_cut")
            self._cut()
            self.disconnect()

    def result(self) -> web.StreamResponse:
        """The answer, once the application has ended."""
        if self._response is None:
            if self._refusal is not None:
                raise self._refusal
            if self._gone.is_set():
                return web.Response(status=400)  # nobody is there to read it
            raise self._error or RuntimeError("the ASGI application sent no answer")
        if not self._ended:
            if self._error is not None and not self._gone.is_set():
                log.error("stream_broke", path=self._request.path, exc_info=self._error)
            self._cut()  # no end of the body: the client must not take it for whole
        return self._response

    async def _receive(self) -> Message:
        if not self._body_read and not self._gone.is_set():
            return await self._next_of_body()
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _next_of_body(self) -> Message:
        content = self._request.content
        try:
            async with asyncio.timeout_at(self._body_limit):
                chunk = await content.readany()
        except TimeoutError:
            return self._refuse(web.HTTPRequestTimeout())
        except RequestPayloadError:
            return self._refuse(web.HTTPBadRequest())
        except (ConnectionError, aiohttp.ClientError):
            self.disconnect()
            return {"type": "http.disconnect"}
        self._body_read = content.at_eof()
        return {"type": "http.request", "body": chunk, "more_body": not self._body_read}

    def _refuse(self, refusal: web.HTTPException) -> Message:
        """The body does not come, or is broken: to the application the client has gone."""
        self._refusal = refusal
        self.disconnect()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._gone.is_set():
            return
        try:
            await write_within(self._send_timeout_s, self._pass_on(message), cut=self._request.transport)
        except (ClientTooSlow, ConnectionError):
            self.disconnect()

    async def _pass_on(self, message: Message) -> None:
        match message["type"]:
            case "http.response.start":
                self._response = web.StreamResponse(status=message["status"], headers=_headers(message))
                await self._response.prepare(self._request)
            case "http.response.body":
                assert self._response is not None, "http.response.start comes first (ASGI)"
                if body := message.get("body"):
                    await self._response.write(body)
                    self._begun.set()
                if not message.get("more_body", False):
                    await self._response.write_eof()
                    self._ended = True
            case _:  # extensions that the scope does not offer
                pass

    def _cut(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()


def _scope(request: web.Request, state: Mapping[str, Any], user: object) -> Scope:
    transport = request.transport
    peer = transport.get_extra_info("peername") if transport is not None else None
    own = transport.get_extra_info("sockname") if transport is not None else None
    scope: Scope = {
        "type": "http",
        # From 2.4 on Starlette waits for no http.disconnect and expects send() to raise instead.
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": f"{request.version.major}.{request.version.minor}",
        "method": request.method,
        "scheme": request.scheme,
        "path": request.path,
        "raw_path": request.rel_url.raw_path.encode("ascii", "surrogateescape"),
        "query_string": request.rel_url.raw_query_string.encode("ascii", "surrogateescape"),
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.raw_headers],
        "client": tuple(peer[:2]) if isinstance(peer, tuple) else None,
        "server": tuple(own[:2]) if isinstance(own, tuple) else None,
        "state": dict(state),
    }
    if user is not None:
        scope["user"] = user
    return scope


def _headers(message: Message) -> list[tuple[str, str]]:
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message.get("headers", ())]
    return [(name, value) for name, value in pairs if name.lower() not in HOP_BY_HOP]
