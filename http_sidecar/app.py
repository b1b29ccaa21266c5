"""The application: the door, routes and features, over a bridge that somebody else opened."""

import time
from collections.abc import Callable
from dataclasses import replace

from aiohttp import web

from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.settings import Settings
from http_sidecar import openapi
from http_sidecar.api_keys import KeyRing
from http_sidecar.app_state import BRIDGE, DRAIN, IDENTIFIERS, KEY_RING, SETTINGS
from http_sidecar.bounds import BOUNDS, Bounds
from http_sidecar.comfy_api import endpoints as comfy_api
from http_sidecar.comfy_api.envelope import in_envelope
from http_sidecar.door import health, metrics, revocation
from http_sidecar.door.door import Door
from http_sidecar.door.gatekeeper import Gatekeeper
from http_sidecar.door.rate_limit import RATE_LIMITS, RateLimits
from http_sidecar.door.transfers import TRANSFERS, places
from http_sidecar.drain import Drain
from http_sidecar.mcp import mount
from http_sidecar.pages import docs_page, status_page
from http_sidecar.rest import v1
from http_sidecar.streams import endpoints

Setup = Callable[[web.Application], None]

FEATURES: tuple[Setup, ...] = (
    metrics.setup,
    health.setup,
    revocation.setup,
    v1.setup,
    endpoints.setup,
    comfy_api.setup,
    mount.setup,
    openapi.setup,
    docs_page.setup,
    status_page.setup,
)
"""Each adds its routes; what it needs is in the application's typed state (http_sidecar/app_state.py)."""


def build_app(
    bridge: Bridge,
    settings: Settings,
    *,
    keys: KeyRing,
    drain: Drain | None = None,
    bounds: Bounds = Bounds(),  # noqa: B008 - frozen
) -> web.Application:
    """An application for one AppRunner (`handler_cancellation=True`: a disconnect ends the request)."""
    bounds = replace(bounds, body_bytes=max(bounds.body_bytes, 2 * settings.max_graph_bytes))
    limits = RateLimits(settings.rate_limit_per_minute, bounds.messages_per_request, now=time.monotonic)
    app = web.Application(client_max_size=bounds.body_bytes)
    app[BRIDGE] = bridge
    app[SETTINGS] = settings
    app[BOUNDS] = bounds
    app[RATE_LIMITS] = limits
    app[TRANSFERS] = places(bounds)
    app[DRAIN] = drain = drain or Drain()
    app[KEY_RING] = keys
    app[IDENTIFIERS] = []
    assert bridge.metrics is not None, "open the sidecar's bridge with metrics"
    Door(
        Gatekeeper(settings, keys, limits),
        drain=drain,
        metrics=bridge.metrics,
        origins=settings.cors_origins,
        reshape=in_envelope,
    ).setup(app)
    app.on_shutdown.append(_begin_drain)
    for setup in FEATURES:
        setup(app)
    return app


async def _begin_drain(app: web.Application) -> None:
    """Where nobody began it before: aiohttp's shutdown waits for handlers, and streams would never end."""
    app[DRAIN].begin()
