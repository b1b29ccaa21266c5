"""MCP over Streamable HTTP at /mcp, on the sidecar's port, for both protocol eras."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from aiohttp import web
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.context import ServerRequestContext
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from comfy_mcp.domain.errors import ShuttingDown
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.operations.context import Caller
from comfy_mcp.server import Answer, ReadyBridge, ResourceBus, build_server, open_bus, publish_events
from comfy_mcp.server.app import BridgeServer
from comfy_mcp.server.sdk import SESSION_HEADER, may_open_session, open_sessions
from http_sidecar.api_keys import unauthenticated
from http_sidecar.app_state import BRIDGE, CALLER, DRAIN, SETTINGS
from http_sidecar.bounds import BOUNDS
from http_sidecar.door.hosts import foreign_page, host_allowed, origin_allowed
from http_sidecar.door.rate_limit import BUCKET
from http_sidecar.door.revocation import REVOCATIONS
from http_sidecar.door.tickets import UPLOADS
from http_sidecar.mcp.asgi import AsgiBridge
from http_sidecar.mcp.request_bodies import with_bodies_read
from http_sidecar.mcp.sessions import Sessions
from http_sidecar.routes import MCP_PATH, UPLOAD

SURFACE = "mcp-http"

SESSION_IDLE_S = 1_800.0
"""A session without a request or an open stream is closed: its agent left half an hour ago."""

Extend = Callable[[BridgeServer, ResourceBus], None]
"""Adds handlers to a server before it is served; the conformance fixtures do."""

ASGI = web.AppKey("mcp_asgi", AsgiBridge)
SESSIONS = web.AppKey("mcp_sessions", Sessions)


def setup(app: web.Application, *, extend: Extend | None = None) -> None:
    """The route and the tasks behind it. Reads BRIDGE, SETTINGS and DRAIN of `app`, CALLER of requests.

    Nothing is served under /.well-known: a client that looks for an authorization server there gets a 404,
    and uses the key that it was given.
    """
    app.router.add_route("*", MCP_PATH, _answer)
    logging.getLogger("mcp.server.streamable_http").addFilter(_is_no_departure)

    async def running(app: web.Application) -> AsyncIterator[None]:
        # In a task of its own: the SDK's scopes must be left by the task that entered them, and aiohttp may
        # start and stop an application in two.
        ready, stop = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(_serve(app, extend, ready, stop), name="mcp-http")
            serving.add_done_callback(lambda _task: ready.set())
            await ready.wait()
            yield
            stop.set()

    app.cleanup_ctx.append(running)


async def _serve(
    app: web.Application, extend: Extend | None, ready: asyncio.Event, stop: asyncio.Event
) -> None:
    bridge, settings, bounds = app[BRIDGE], app[SETTINGS], app[BOUNDS]
    own = Caller(client=ClientId(settings.client_name), surface=SURFACE)
    async with open_bus(max_streams=bounds.mcp_streams, client_of=_client_of, answer_of=_answer_of) as bus:
        server = build_server(
            ReadyBridge(bridge), settings, bus=bus, caller_of=_caller_of, leaving=app[DRAIN]
        )
        if extend is not None:
            extend(server, bus)
        manager = StreamableHTTPSessionManager(
            server,
            max_request_body_size=bounds.body_bytes,
            session_idle_timeout=SESSION_IDLE_S,
            max_sessions=bounds.mcp_sessions,
        )
        app[SESSIONS] = Sessions(bounds.mcp_sessions, lambda: open_sessions(manager))
        app[ASGI] = AsgiBridge(
            with_bodies_read(manager.handle_request, bounds.body_bytes),
            body_timeout_s=bounds.body_timeout_s,
            send_timeout_s=bounds.send_timeout_s,
        )
        async with manager.run(), asyncio.TaskGroup() as tasks:
            publishing = tasks.create_task(publish_events(bridge, own, bus), name="mcp-http-events")
            draining = tasks.create_task(_drain(app, bus), name="mcp-http-drain")
            ready.set()
            await stop.wait()
            publishing.cancel()
            draining.cancel()


async def _drain(app: web.Application, bus: ResourceBus) -> None:
    """Listen streams end with their last frame; what else is open has a while to end."""
    await app[DRAIN].wait()
    bus.close()
    await app[ASGI].drain(app[SETTINGS].drain_timeout_s / 2)


def _is_no_departure(record: logging.LogRecord) -> bool:
    """The SDK logs a disconnect within a request as an error with a traceback; it is none."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or kind.__name__ != "ClientDisconnect"


async def _answer(request: web.Request) -> web.StreamResponse:
    _refuse_unfit(request)
    caller = request[CALLER]
    # A session answers only to the client that opened it: the SDK compares what it finds here.
    own = replace(caller, surface=SURFACE, upload_url=lambda: _upload_url(request, caller))
    token = AccessToken(token="", client_id=caller.client, scopes=sorted(caller.rights))
    with request.app[REVOCATIONS].watched(caller) as revoked, _opening(request) as opened:
        answer = await request.app[ASGI].handle(
            request,
            state={"caller": own, "client": request[BUCKET]},
            user=AuthenticatedUser(token),
            revoked=revoked,
        )
        if (session := answer.headers.get(SESSION_HEADER)) is not None:
            opened.append(session)
    if revoked.is_set() and not answer.prepared:
        raise unauthenticated()
    return answer


def _opening(request: web.Request) -> AbstractContextManager[list[str]]:
    """Where the id of the session is put that the request opens. Raises LimitExceeded."""
    if not may_open_session(request.headers):
        return nullcontext([])
    return request.app[SESSIONS].opening(request[BUCKET])


def _upload_url(request: web.Request, caller: Caller) -> str:
    """Where the client reaches this process, as far as is known, with a ticket."""
    public = request.app[SETTINGS].public_url
    ticket = request.app[UPLOADS].issue(caller)
    return f"{public or f'{request.scheme}://{request.host}'}{UPLOAD.path}?ticket={ticket}"


def _caller_of(ctx: ServerRequestContext[Any, Any]) -> Caller:
    """Whom the auth middleware found; every message over HTTP has a request of its own."""
    assert ctx.request is not None
    caller: Caller = ctx.request.state.caller
    return caller


def _client_of(ctx: ServerRequestContext[Any, Any]) -> str:
    """Whose share of what clients share the request takes."""
    assert ctx.request is not None
    client: str = ctx.request.state.client
    return client


def _answer_of(ctx: ServerRequestContext[Any, Any]) -> Answer | None:
    """Where the frames of a listen stream may be written."""
    assert ctx.request is not None
    exchange = ctx.request.scope["answer"]
    return exchange if exchange.is_chunked else None


def _refuse_unfit(request: web.Request) -> None:
    """Raises ShuttingDown, and Denied for a web page that is not allowed.

    MCP wants every Origin checked (2025-11-25 and 2026-07-28, "Streamable HTTP", security), with a key or
    without. A page that pointed a name of its own at this machine has that name as its Host, too.
    """
    if request.app[DRAIN].begun:
        raise ShuttingDown("The service is shutting down.", next_step="Connect again in a few seconds.")
    settings = request.app[SETTINGS]
    host = request.headers.get("Host")
    own = host if host_allowed(host, settings.allowed_hosts) else None
    if not origin_allowed(request.headers.get("Origin"), own, settings.cors_origins):
        raise foreign_page()
