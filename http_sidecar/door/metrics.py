"""`GET /metrics`, and what is counted of each request."""

from aiohttp import web

from comfy_mcp.metrics import Metrics, negotiate
from http_sidecar.app_state import BRIDGE
from http_sidecar.door.errors import errors

METRICS = web.AppKey("metrics", Metrics)

CLIENT_CLOSED = 499
"""No whole answer: the client went, or the answer was cut after it had begun. Never on the wire."""

BEGAN = web.RequestKey("began", float)
COUNTED = web.RequestKey("counted", bool)
"""Of a stream: it was counted when it began."""


def setup(app: web.Application) -> None:
    """For the sidecar's application."""
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


def is_stream(response: web.StreamResponse) -> bool:
    is_events = response.headers.get("Content-Type", "").startswith("text/event-stream")
    return is_events or isinstance(response, web.WebSocketResponse)


def count(
    metrics: Metrics, method: str, route: str, status: int, error_code: str | None, seconds: float
) -> None:
    metrics.http_request(method=method, route=route, status=status, seconds=seconds)
    if status >= 400:
        metrics.http_error(error_type=error_code or f"http_{status}", route=route)


def _serve(app: web.Application, metrics: Metrics) -> None:
    app[METRICS] = metrics
    app.router.add_get("/metrics", scrape)
    metrics.watch()
