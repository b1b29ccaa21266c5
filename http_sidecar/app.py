"""The application: middlewares, routes and features, over services that somebody else opened."""

from collections.abc import Callable

from aiohttp import web

from comfy_mcp.operations.context import Services
from comfy_mcp.settings import Settings
from http_sidecar import (
    access,
    admission,
    cors,
    docs_page,
    hashing,
    health,
    mcp_mount,
    metrics,
    openapi,
    page,
    revocation,
    streams,
    v1,
)
from http_sidecar.admission import Admission
from http_sidecar.auth import KeyRing
from http_sidecar.errors import errors
from http_sidecar.keys import DRAIN, IDENTIFIERS, KEY_RING, SERVICES, SETTINGS, Drain

Setup = Callable[[web.Application], None]

FEATURES: tuple[Setup, ...] = (
    metrics.setup,
    hashing.setup,
    health.setup,
    revocation.setup,
    v1.setup,
    streams.setup,
    mcp_mount.setup,
    openapi.setup,
    docs_page.setup,
    page.setup,
)
"""Each adds its routes; it finds what it needs in the application's typed state (http_sidecar/keys.py)."""


def build_app(
    services: Services, settings: Settings, *, keys: KeyRing, drain: Drain | None = None
) -> web.Application:
    """An application for one AppRunner (`handler_cancellation=True`: a client that goes ends its request)."""
    app = web.Application(
        # The first is the outermost: what a later one answers passes through those before it.
        middlewares=[access.access, cors.preflight, errors, Admission(settings, keys).middleware],
        client_max_size=settings.http_max_body_bytes,
    )
    app[SERVICES] = services
    app[SETTINGS] = settings
    app[DRAIN] = drain or Drain()
    app[KEY_RING] = keys
    app[IDENTIFIERS] = []
    for add_headers in (access.add_headers, admission.add_headers, cors.add_headers):
        app.on_response_prepare.append(add_headers)
    for setup in FEATURES:
        setup(app)
    return app
