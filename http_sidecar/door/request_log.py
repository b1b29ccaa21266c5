"""A request's id, in and out, and one log line when it has been answered."""

import logging
import re
from collections.abc import MutableMapping
from contextvars import ContextVar
from random import getrandbits

import structlog
from aiohttp import web

from comfy_mcp.logs import Facts, Repeats, routine
from http_sidecar.app_state import CALLER, REQUEST_ID
from http_sidecar.door.bodies import IN_CRUMBS
from http_sidecar.door.probes import is_probe

log = structlog.get_logger(__name__)

SERVER = "comfy-bridge"
"""What every answer says, instead of which library in which version."""

_REFUSED = Repeats(log, "request", burst=100, level=logging.INFO)
"""Requests of strangers, and of who means harm: without a bound they write the log as fast as they ask."""

_BOUND = ContextVar[str](f"{structlog.contextvars.STRUCTLOG_KEY_PREFIX}request_id")
"""What structlog's `bind_contextvars` would set."""

_ACCEPTABLE = re.compile(r"[\x21-\x7e]{1,128}")


def name(request: web.Request) -> None:
    """Give it an id. aiohttp runs every request in a task of its own, so what is bound here stays with it."""
    request_id = request.headers.get("X-Request-ID")
    if request_id is None or not _ACCEPTABLE.fullmatch(request_id):
        request_id = f"{getrandbits(128):032x}"
    request[REQUEST_ID] = request_id
    _BOUND.set(request_id)


def write(request: web.Request, route: str, status: int | None, seconds: float) -> None:
    """No `status`: the client went before the answer."""
    facts = _facts(request, route)
    facts["status"], facts["duration_ms"] = status, round(seconds * 1000, 1)
    if status is not None and status >= 400 and (CALLER not in request or IN_CRUMBS in request):
        _REFUSED.happened(request_id=request[REQUEST_ID], **facts)
    else:
        routine(logging.DEBUG if is_probe(request.path) else logging.INFO, "request", facts)


def add_headers(request: web.Request, headers: MutableMapping[str, str]) -> None:
    if (shown := request.get(REQUEST_ID)) is not None:
        headers["X-Request-ID"] = shown


def _facts(request: web.Request, route: str) -> Facts:
    """The route's template, never the path or query: those may hold a ticket."""
    facts: Facts = {"method": request.method, "route": route}
    if (caller := request.get(CALLER)) is not None:
        facts["client"] = caller.client
    if (job_id := request.match_info.get("workflowId")) is not None:
        facts["job_id"] = job_id[:64]
    return facts
