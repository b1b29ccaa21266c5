"""aiohttp's server with three things it lacks: the one error body where HTTP itself is broken, a bound on how
long a client may take over an answer, and addresses that may end with a slash.

What aiohttp keeps private is touched here and nowhere else; tests fail when an upgrade changes it.
"""

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from http_sidecar.door.problems import problem
from http_sidecar.door.request_log import SERVER
from http_sidecar.door.slow_clients import ClientTooSlow, write_within

log = structlog.get_logger(__name__)

KEEPALIVE_S = 75.0
"""An idle connection, or one whose request line and headers have not come, is closed after this time."""

CUT_S = 1.0
"""What is still open when the drain has run out of time is cancelled, and cut off after this time."""


class Runner(web.AppRunner):
    """An AppRunner for `app` that answers broken HTTP and drops deaf clients."""

    def __init__(self, app: web.Application, *, send_timeout_s: float) -> None:
        super().__init__(
            app,
            handler_cancellation=True,
            keepalive_timeout=KEEPALIVE_S,
            shutdown_timeout=CUT_S,
            access_log=None,  # http_sidecar/door/request_log.py writes one
        )
        self._send_timeout_s = send_timeout_s

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            made.request_handler,
            request_factory=partial(_without_final_slash, made.request_factory),
            handler_cancellation=made.handler_cancellation,
            send_timeout_s=self._send_timeout_s,
            **made._kwargs,  # noqa: SLF001
        )


def _without_final_slash(
    make: Callable[..., BaseRequest], message: RawRequestMessage, *rest: Any
) -> BaseRequest:
    """`/mcp/` is `/mcp`, for every route: a redirect would cost clients the body of their POST."""
    path = message.url.raw_path
    if len(path) > 1 and path.endswith("/"):
        url = message.url.with_path(path.rstrip("/") or "/", encoded=True, keep_query=True)
        message = message._replace(path=url.raw_path_qs, url=url)
    return make(message, *rest)


class _Server(web.Server):
    def __init__(self, handler: Any, *, send_timeout_s: float, **kwargs: Any) -> None:
        super().__init__(handler, **kwargs)
        self.send_timeout_s = send_timeout_s

    def __call__(self) -> RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)


class _Protocol(RequestHandler):
    __slots__ = ("_send_timeout_s",)

    def __init__(self, manager: _Server, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self._send_timeout_s = manager.send_timeout_s

    async def finish_response(
        self, request: BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Sends what a handler returned. A stream has sent itself by now, under limits of its own."""
        try:
            sending = super().finish_response(request, resp, start_time)
            return await write_within(self._send_timeout_s, sending, cut=self.transport)
        except ClientTooSlow:
            return resp, True

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
        log.info("broken_request", status=answer.status, cause=type(exc).__name__)
        answer.headers["Server"] = SERVER
        answer.force_close()
        return answer


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
