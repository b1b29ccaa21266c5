"""What one client may hold of this process, and for how long: constants, each with its reason.

They are not settings, because no installation needs other values. Tests pass smaller ones to `build_app`.
Where all clients together have a number of places, each gets its share of them (comfy_mcp/shares.py).
"""

from dataclasses import dataclass

from aiohttp import web


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    body_bytes: int = 8 * 2**20
    """Largest request body but for uploads; `build_app` allows twice the largest workflow at least, because
    a workflow may come as text in JSON, which escapes it."""

    body_timeout_s: float = 30.0
    """A request body has arrived by then; an upload never pauses for longer. 8 MiB need 2.2 Mbit/s."""

    upload_bytes_per_s: int = 4 * 2**10
    """An upload that is slower than this on the whole, after `body_timeout_s`, is ended: it holds an
    engine's connection. Any mobile network is faster."""

    transfers: int = 128
    """Uploads and large downloads together: each holds a connection to an engine, or a file."""

    send_timeout_s: float = 60.0
    """A response is aborted when the client reads nothing for this long: networks recover sooner."""

    prefer_wait_s: float = 60.0
    """Longest `Prefer: wait`: reverse proxies close a silent request after 60 seconds by default."""

    messages_per_request: int = 12
    """Requests to /mcp, and subscriptions on a WebSocket, that count as one of the rate limit: an agent
    sends each message as a request."""

    mcp_sessions: int = 1_000
    """Open MCP sessions (2025-11-25 and older): far more than agents of one team."""

    mcp_streams: int = 2_000
    """Open `subscriptions/listen` streams (2026-07-28)."""

    streams: int = 4_096
    """Open WebSocket and SSE streams together. `ulimit -n` may be lower."""

    stream_bytes: int = 2**20
    """Unread bytes of one WebSocket or SSE stream, some 5,000 events, beside what the kernel holds; a client
    that leaves more is disconnected and can resume without a loss."""

    stream_events: int = 4_096
    """Events that happen while a client's replay is sent; when more do, it is disconnected and resumes."""

    stream_send_timeout_s: float = 10.0
    """A stream is disconnected when its client reads nothing for this long; it can resume without a loss."""

    stream_heartbeat_s: float = 15.0
    """Pause between signs of life on a stream: proxies close a connection after 30 silent seconds or more."""

    subscriptions: int = 1_000
    """Workflows that one WebSocket follows one by one; `*` follows all."""

    message_bytes: int = 64 * 2**10
    """Largest WebSocket message from a client. The longest command has under 200 bytes."""

    signs: int = 240
    """WebSocket pings and pongs of one socket in a minute. Libraries send a few, at most one a second."""

    invalid_messages: int = 20
    """A WebSocket is closed after this many: a client that sends more does not read the errors."""


BOUNDS = web.AppKey("bounds", Bounds)
