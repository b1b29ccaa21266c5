"""The application: middlewares, routes and features, over services that somebody else opened."""

from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler

from comfy_mcp.domain.ids import ClientId
from comfy_mcp.operations.context import Caller, Services
from comfy_mcp.settings import Settings
from http_sidecar import health, mcp_mount, metrics, rest
from http_sidecar.auth import KeyRing
from http_sidecar.errors import errors
from http_sidecar.keys import CALLER, DRAIN, SERVICES, SETTINGS, Drain

Setup = Callable[[web.Application], None]

FEATURES: tuple[Setup, ...] = (
    metrics.setup,
    health.setup,
    rest.setup,
    mcp_mount.setup,
)
"""Each adds its routes; it finds what it needs in the application's typed state (http_sidecar/keys.py)."""


def build_app(
    services: Services, settings: Settings, *, keys: KeyRing, drain: Drain | None = None
) -> web.Application:
    """An application for one AppRunner (`handler_cancellation=True`: a client that goes ends its request)."""
    app = web.Application(middlewares=[errors, _local_caller], client_max_size=settings.http_max_body_bytes)
    app[SERVICES] = services
    app[SETTINGS] = settings
    app[DRAIN] = drain or Drain()
    for setup in FEATURES:
        setup(app)
    return app


@web.middleware
async def _local_caller(request: web.Request, handler: Handler) -> web.StreamResponse:
    client = ClientId(request.app[SETTINGS].client_name)
    request[CALLER] = Caller(client=client, surface="http", may_read_files=False)
    return await handler(request)
