"""Typed state: what the application and each request carry."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.operations.context import Caller
from comfy_mcp.settings import Settings
from http_sidecar.api_keys import KeyRing
from http_sidecar.drain import Drain

BRIDGE = web.AppKey("bridge", Bridge)
SETTINGS = web.AppKey("settings", Settings)
DRAIN = web.AppKey("drain", Drain)
KEY_RING = web.AppKey("key_ring", KeyRing)

IDENTIFIERS = web.AppKey("identifiers", list[Callable[[web.Request], Awaitable[Caller | None]]])
"""Other ways than a key in a header to show who calls (a ticket, a WebSocket subprotocol): asked in order
where a key is required and no header has one. None: not shown here. A feature's `setup` may append."""

CALLER = web.RequestKey("caller", Caller)
"""Who calls; set by the gatekeeper on every request that gets as far as a handler."""

REQUEST_ID = web.RequestKey("request_id", str)
"""Printable ASCII, at most 128 characters: the client's X-Request-ID, or one of ours."""
