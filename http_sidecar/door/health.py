"""Probes, and the index of endpoints: open without a key, and never waiting for an engine."""

from aiohttp import web

from comfy_mcp import __version__
from comfy_mcp.domain.errors import StoreFault
from http_sidecar.app_state import BRIDGE, DRAIN


def setup(app: web.Application) -> None:
    app.router.add_routes(
        [
            web.get("/health", health),
            web.get("/livez", health),
            web.get("/ready", ready),
            web.get("/readyz", ready),
        ]
    )


async def health(request: web.Request) -> web.Response:
    """The process lives and its loop turns."""
    return web.json_response({"status": "healthy", "timestamp": request.app[BRIDGE].now_ms()})


async def ready(request: web.Request) -> web.Response:
    """200 when a submit would be accepted and run; else 503 with the reason: the store can't be written, the
    process drains, or the engines that answer can't be used.

    `activeTasks` counts queued and running jobs. An engine that is down makes nothing unready: jobs wait.
    """
    bridge = request.app[BRIDGE]
    active: int | None = None
    try:
        active = await bridge.active_jobs()
    except StoreFault:
        reason: str | None = "the store does not answer"
    else:
        reason = "draining" if request.app[DRAIN].begun else await bridge.unready()
    body = {"ready": reason is None, "activeTasks": active, "timestamp": bridge.now_ms(), "reason": reason}
    return web.json_response(body, status=200 if reason is None else 503)


async def index(request: web.Request) -> web.Response:
    """What there is: every route with its methods."""
    endpoints: dict[str, set[str]] = {}
    for route in request.app.router.routes():
        if route.resource is not None and route.method != "*":
            endpoints.setdefault(route.resource.canonical, set()).add(route.method)
    listed = [{"path": path, "methods": sorted(methods)} for path, methods in sorted(endpoints.items())]
    return web.json_response({"name": "comfy-mcp-bridge", "version": __version__, "endpoints": listed})
