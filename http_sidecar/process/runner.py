"""aiohttp's server with what it lacks: the one error body where HTTP itself is broken, bounds on how long a
client may take over a first request and over an answer, and on how many connections there are; and addresses
that may end with a slash.

What aiohttp keeps private is touched here and nowhere else; tests fail when an upgrade changes it.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from time import thread_time
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler, _ErrInfo
from aiohttp.web_request import BaseRequest

from comfy_mcp.logs import Repeats
from http_sidecar.door.bodies import IN_CRUMBS
from http_sidecar.door.problems import problem
from http_sidecar.door.request_log import SERVER
from http_sidecar.door.slow_clients import ClientTooSlow, write_within
from http_sidecar.process.connections import Connections, raise_file_limit
from http_sidecar.process.turns_to_parse import TurnsToParse

log = structlog.get_logger(__name__)

KEEPALIVE_S = 75.0
"""A connection is closed after this long without a request: proxies keep theirs for 60 seconds by default."""

FIRST_HEADERS_S = 10.0
"""A new connection has sent the headers of its first request by then, or it is closed."""

FIRST_READ, MOST_READ = 1024, 64 * 1024
"""Bytes that are parsed in one step, of a new connection and of one whose steps are quick: others have their
turn in between."""

STEP_S, QUICK_S = 0.000_25, 0.000_06
"""A step that took longer than STEP_S has many chunks or headers in few bytes. The next ones are small again,
and each waits for its turn (turns_to_parse.py), until one is quick."""

SHORT = 512
"""Bytes that never take that time, whatever is in them. To read the clock of a thread costs as much as to
parse a request."""

LINGER_S = 1.0
"""How long the rest of a body is read and dropped after an early answer: closing at once may lose the answer
on its way to a client that is still sending."""

CUT_S = 1.0
"""What is still open when the drain has run out of time is cancelled, and cut off after this time."""


class Runner(web.AppRunner):
    """An AppRunner for `app` that answers broken HTTP, and drops clients that are deaf or too many."""

    def __init__(
        self, app: web.Application, *, send_timeout_s: float, connections: Connections | None = None
    ) -> None:
        """Without `connections` their bounds follow from this process's limit of open files."""
        super().__init__(
            app,
            handler_cancellation=True,
            keepalive_timeout=KEEPALIVE_S,
            shutdown_timeout=CUT_S,
            access_log=None,  # http_sidecar/door/request_log.py writes one
            lingering_time=LINGER_S,
            auto_decompress=False,  # one megabyte may inflate to a gigabyte, before anybody looks at the key
        )
        self._send_timeout_s = send_timeout_s
        self._connections = Connections.within(raise_file_limit()) if connections is None else connections

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            made.request_handler,
            request_factory=partial(_begin_request, made.request_factory),
            handler_cancellation=made.handler_cancellation,
            send_timeout_s=self._send_timeout_s,
            connections=self._connections,
            **made._kwargs,  # noqa: SLF001
        )


def _begin_request(
    make: Callable[..., BaseRequest],
    message: RawRequestMessage,
    payload: Any,
    protocol: "_Protocol",
    *rest: Any,
) -> BaseRequest:
    """What aiohttp asks for once it has read a request; its connection is idle no longer.

    `/mcp/` is `/mcp`, for every route: a redirect would cost clients the body of their POST.
    """
    protocol.open_connections.busy(protocol)
    protocol.body = payload
    path = message.url.raw_path
    if len(path) > 1 and path.endswith("/"):
        url = message.url.with_path(path.rstrip("/") or "/", encoded=True, keep_query=True)
        message = message._replace(path=url.raw_path_qs, url=url)
    return make(message, payload, protocol, *rest)


class _Server(web.Server):
    def __init__(
        self, handler: Any, *, send_timeout_s: float, connections: Connections, **kwargs: Any
    ) -> None:
        super().__init__(handler, **kwargs)
        self.send_timeout_s = send_timeout_s
        self.open_connections = connections
        self.turns_to_parse = TurnsToParse(self._loop)

    def __call__(self) -> RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)


class _Protocol(RequestHandler):
    __slots__ = (
        "_drops",
        "_held",
        "_is_slow",
        "_read_bytes",
        "_send_timeout_s",
        "_turns",
        "body",
        "open_connections",
    )

    def __init__(self, manager: _Server, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self._send_timeout_s = manager.send_timeout_s
        self.open_connections = manager.open_connections
        self._turns = manager.turns_to_parse
        self._drops = self._is_slow = False
        self._held = b""
        self.body: StreamReader | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        if not self.open_connections.opened(self, peer[0] if isinstance(peer, tuple) else "unknown"):
            assert isinstance(transport, asyncio.WriteTransport)
            transport.abort()
            return
        super().connection_made(transport)
        self._read_next(FIRST_READ)
        # aiohttp's timer, set earlier for the first request; after that aiohttp sets it itself.
        if self._keepalive_handle is not None:
            self._keepalive_handle.cancel()
        self._next_keepalive_close_time = self._loop.time() + FIRST_HEADERS_S
        self._keepalive_handle = self._loop.call_at(self._next_keepalive_close_time, self._process_keepalive)

    def data_received(self, data: bytes) -> None:
        if self._drops:
            return
        if not data:  # aiohttp itself goes on with what it has
            super().data_received(data)
        elif self._is_slow:
            if not self._held:
                self._turns.wait(self._parse_held)
            self._held += data
            self._pause_transport_reading()
        else:
            self._parse(data)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """aiohttp calls it for each piece of a body that is read, also where nothing is paused."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def _parse_held(self) -> None:
        held, self._held = self._held, b""
        if not held or self.transport is None:
            return
        self._parse(held)
        if not self._reading_paused and not self._buffer_paused:
            self._resume_transport_reading()

    def _parse(self, data: bytes) -> None:
        if len(data) <= SHORT and not self._is_slow:
            self._parse_at_once(data)
            return
        began = thread_time()
        self._parse_at_once(data)
        self._is_slow = thread_time() - began > (QUICK_S if self._is_slow else STEP_S)
        if self._is_slow:
            self._read_next(FIRST_READ)
        elif len(data) >= self._read_bytes:
            self._read_next(min(2 * self._read_bytes, MOST_READ))

    def _parse_at_once(self, data: bytes) -> None:
        """A body that breaks off says so to who reads it: aiohttp keeps the error for after the answer."""
        super().data_received(data)
        if self._messages and isinstance(self._messages[-1][0], _ErrInfo):
            body = self._messages[-2][1] if len(self._messages) > 1 else self.body
            if body is not None and not body.is_eof():
                body.set_exception(web.RequestPayloadError("broken"))

    def _read_next(self, most: int) -> None:
        """asyncio reads as much as its transport says."""
        self._read_bytes = most
        if self.transport is not None:
            self.transport.max_size = most  # type: ignore[attr-defined]

    def connection_lost(self, exc: BaseException | None) -> None:
        self.open_connections.closed(self)
        super().connection_lost(exc)

    async def finish_response(
        self, request: BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Sends what a handler returned. A stream has sent itself by now, under limits of its own.

        A request that is refused before its body has come ends its connection: nobody reads the rest. Chunks,
        which may be tiny, are not even parsed any more.
        """
        if resp.status >= 400 and not request.content.is_eof():
            resp.force_close()
            self._drops = "Transfer-Encoding" in request.headers
        try:
            sending = super().finish_response(request, resp, start_time)
            return await write_within(self._send_timeout_s, sending, cut=self.transport)
        except ClientTooSlow:
            return resp, True
        finally:
            self.open_connections.idle(self)
            if resp.status >= 400 and IN_CRUMBS in request:
                self.force_close()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What never reached the application: a broken request line, header, or encoding of the body."""
        if request.writer.output_size > 0 or self.transport is None:
            raise ConnectionResetError("the answer was cut")
        answer = _answer(status, exc)
        _BROKEN.happened(status=answer.status, cause=type(exc).__name__)
        answer.headers["Server"] = SERVER
        answer.force_close()
        return answer


_BROKEN = Repeats(log, "broken_request", burst=30)


def _answer(status: int, exc: BaseException | None) -> web.Response:
    if isinstance(exc, LineTooLong):
        return problem(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            "The request line or a header is too long.",
            code="header_too_large",
            next_step="Shorten it; send arguments in the body.",
            instance="/",
        )
    if 400 <= status < 500:
        return problem(
            HTTPStatus(status),
            "The request is not valid HTTP.",
            code="bad_http",
            next_step="Correct the client, or the proxy between it and this server.",
            instance="/",
        )
    log.error("unexpected_error", where="http", exc_info=exc)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "An unexpected error occurred.",
        code="internal",
        next_step="Try again. If it happens again, find the cause in the server's log.",
        instance="/",
    )
