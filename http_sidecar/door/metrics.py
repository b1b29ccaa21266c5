"""`GET /metrics`, and the middleware that counts requests."""

import asyncio
from time import perf_counter

from aiohttp import web
from aiohttp.typedefs import Handler

from comfy_mcp.metrics import Metrics, negotiate
from http_sidecar.app_state import BRIDGE
from http_sidecar.door.errors import errors, route_of
from http_sidecar.door.problems import ERROR_CODE

METRICS = web.AppKey("metrics", Metrics)

CLIENT_CLOSED = 499
"""No whole answer: the client went, or the answer was cut after it had begun. Never on the wire."""

_STARTED = web.RequestKey("metrics_started", float)


def setup(app: web.Application) -> None:
    """For the sidecar's application: counts every request, those that other middlewares answer too."""
    app.middlewares.insert(0, count_requests)
    app.on_response_prepare.append(_count_stream)
    metrics = app[BRIDGE].metrics
    assert metrics is not None, "open the sidecar's bridge with metrics"
    _serve(app, metrics)


def metrics_app(metrics: Metrics) -> web.Application:
    """/metrics and nothing else. Has no access control: for loopback or a trusted network."""
    app = web.Application(middlewares=[errors])
    _serve(app, metrics)
    return app


async def scrape(request: web.Request) -> web.Response:
    """Reads memory only. OpenMetrics where the Accept header asks for it."""
    body, content_type = request.app[METRICS].render(negotiate(request.headers.get("Accept", "")))
    return web.Response(body=body, headers={"Content-Type": content_type})


@web.middleware
async def count_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    request[_STARTED] = perf_counter()
    try:
        response = await handler(request)
    except web.HTTPException as raised:
        _count(request, raised.status, None)
        raise
    except (asyncio.CancelledError, ConnectionError):
        _count(request, CLIENT_CLOSED, None)
        raise
    except Exception:
        _count(request, 500, None)
        raise
    _count(request, response.status, response.get(ERROR_CODE) if response.status >= 400 else None)
    return response


async def _count_stream(request: web.Request, response: web.StreamResponse) -> None:
    """A stream counts when it begins: how long it then lasts is no latency."""
    if type(response) is web.Response:  # the usual case
        return
    is_events = response.headers.get("Content-Type", "").startswith("text/event-stream")
    if is_events or isinstance(response, web.WebSocketResponse):
        _count(request, response.status, None)


def _count(request: web.Request, status: int, error_code: str | None) -> None:
    started = request.pop(_STARTED, None)
    if started is None:
        return  # it is counted
    metrics, route = request.app[METRICS], route_of(request)
    metrics.http_request(method=request.method, route=route, status=status, seconds=perf_counter() - started)
    if status >= 400:
        metrics.http_error(error_type=error_code or f"http_{status}", route=route)


def _serve(app: web.Application, metrics: Metrics) -> None:
    app[METRICS] = metrics
    app.router.add_get("/metrics", scrape)
    metrics.watch()
