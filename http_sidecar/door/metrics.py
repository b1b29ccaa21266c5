"""`GET /metrics`, and the middleware that counts requests; alone on a port of its own beside MCP on stdio."""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import perf_counter

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from comfy_mcp.metrics import Metrics, negotiate
from http_sidecar.app_state import BRIDGE
from http_sidecar.door.errors import errors, route_of
from http_sidecar.door.problems import ERROR_CODE

METRICS = web.AppKey("metrics", Metrics)

PORT_RETRY_S = 15.0
"""Pause before a port in use is tried again: its owner may exit."""

KEEPALIVE_S = 75.0
"""A connection to the port of its own is closed after this long without a request."""

CLIENT_CLOSED = 499
"""No whole answer: the client went, or the answer was cut after it had begun. Never on the wire."""

log = structlog.get_logger(__name__)

_STARTED = web.RequestKey("metrics_started", float)
_COUNTED = web.RequestKey("metrics_counted", bool)


def setup(app: web.Application) -> None:
    """For the sidecar's application: counts every request, those that other middlewares answer too."""
    app.middlewares.insert(0, count_requests)
    app.on_response_prepare.append(_count_stream)
    _serve(app, app[BRIDGE].metrics)


def metrics_app(metrics: Metrics) -> web.Application:
    """/metrics and nothing else. Has no access control: for loopback or a trusted network."""
    app = web.Application(middlewares=[errors])
    _serve(app, metrics)
    return app


@asynccontextmanager
async def serving_metrics(
    metrics: Metrics, *, host: str, port: int, ready: Callable[[str, int], None] = lambda _host, _port: None
) -> AsyncIterator[None]:
    """Serve /metrics while the context is open; `ready` is called with the address.

    Metrics never stop what they measure: an address that can't be bound is logged and tried again until it
    can. Of several bridges with the same settings the first has the port, and any of them will do
    (the jobs' counters come from the shared log).
    """
    failure: Exception | None = None
    async with asyncio.TaskGroup() as tasks:
        server = tasks.create_task(_keep_serving(metrics, host, port, ready), name="metrics")
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised below, outside the group, unwrapped
            failure = error
        finally:
            server.cancel()
    if failure is not None:
        raise failure


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
    _count(request, response.status, response.get(ERROR_CODE))
    return response


async def _count_stream(request: web.Request, response: web.StreamResponse) -> None:
    """A stream counts when it begins: how long it then lasts is no latency."""
    is_events = response.headers.get("Content-Type", "").startswith("text/event-stream")
    if is_events or isinstance(response, web.WebSocketResponse):
        _count(request, response.status, None)


def _count(request: web.Request, status: int, error_code: str | None) -> None:
    if request.get(_COUNTED, False):
        return
    request[_COUNTED] = True
    metrics, route = request.app[METRICS], route_of(request)
    metrics.http_request(
        method=request.method, route=route, status=status, seconds=perf_counter() - request[_STARTED]
    )
    if status >= 400:
        metrics.http_error(error_type=error_code or f"http_{status}", route=route)


def _serve(app: web.Application, metrics: Metrics) -> None:
    app[METRICS] = metrics
    app.router.add_get("/metrics", scrape)
    metrics.watch()


async def _keep_serving(metrics: Metrics, host: str, port: int, ready: Callable[[str, int], None]) -> None:
    runner = web.AppRunner(
        metrics_app(metrics),
        access_log=None,
        auto_decompress=False,
        keepalive_timeout=KEEPALIVE_S,
        lingering_time=0,
    )
    await runner.setup()
    try:
        address = await _listen(runner, host, port)
        log.info("metrics_served", host=address[0], port=address[1])
        ready(*address)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int) -> tuple[str, int]:
    told = False
    while True:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            if not told:
                reason = errno.errorcode.get(error.errno or 0, type(error).__name__)
                log.warning("metrics_not_served", host=host, port=port, reason=reason, retry_s=PORT_RETRY_S)
                told = True
            await asyncio.sleep(PORT_RETRY_S)
        else:
            name = runner.addresses[0]
            return str(name[0]), int(name[1])
