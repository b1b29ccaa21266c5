"""A request's id, in and out, and one log line when it has been answered."""

import logging
import re
from collections.abc import MutableMapping
from random import getrandbits
from time import monotonic

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from comfy_mcp.logs import Facts, Repeats, routine
from http_sidecar.app_state import CALLER, DRAIN, REQUEST_ID
from http_sidecar.door.bodies import IN_CRUMBS
from http_sidecar.door.errors import route_of
from http_sidecar.door.probes import is_probe

log = structlog.get_logger(__name__)

SERVER = "comfy-bridge"
"""What every answer says, instead of which library in which version."""

_REFUSED = Repeats(log, "request", burst=100, level=logging.INFO)
"""Requests of strangers, and of who means harm: without a bound they write the log as fast as they ask."""

_ACCEPTABLE = re.compile(r"[\x21-\x7e]{1,128}")


@web.middleware
async def log_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost. aiohttp runs every request in a task of its own, so what is bound here stays with it."""
    shown = request.headers.get("X-Request-ID", "")
    request_id = request[REQUEST_ID] = shown if _ACCEPTABLE.fullmatch(shown) else f"{getrandbits(128):032x}"
    structlog.contextvars.bind_contextvars(request_id=request_id)
    began, drain = monotonic(), request.app[DRAIN]
    status: int | None = None
    drain.enter()
    try:
        response = await handler(request)
        status = response.status
        return response
    finally:
        drain.leave()
        # No status: the client went before the answer.
        level = logging.DEBUG if is_probe(request.path) else logging.INFO
        facts = _facts(request)
        facts["status"], facts["duration_ms"] = status, round((monotonic() - began) * 1000, 1)
        if status is not None and status >= 400 and (CALLER not in request or IN_CRUMBS in request):
            _REFUSED.happened(request_id=request_id, **facts)
        else:
            routine(level, "request", facts)


def add_headers(request: web.Request, headers: MutableMapping[str, str]) -> None:
    if (shown := request.get(REQUEST_ID)) is not None:
        headers["X-Request-ID"] = shown
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers["Server"] = SERVER


def _facts(request: web.Request) -> Facts:
    """The route's template, never the path or query: those may hold a ticket."""
    facts: Facts = {"method": request.method, "route": route_of(request)}
    if (caller := request.get(CALLER)) is not None:
        facts["client"] = caller.client
    if (job_id := request.match_info.get("workflowId")) is not None:
        facts["job_id"] = job_id[:64]
    return facts
