"""Rate limit: a number of requests in a window that begins with the first of them.

Own code and not the library `limits`: see docs/decisions/0006-http-middlewares.md.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from comfy_mcp.domain.bounded import Bounded

WINDOW_S = 60
BUCKETS = 10_000
"""Callers remembered at once. Beyond that the one longest without a request is forgotten: a flood from
many addresses costs memory for this many and no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`reset_s`: whole seconds, rounded up, until the window ends; at least 1."""

    allowed: bool
    limit: int
    remaining: int
    reset_s: int

    def headers(self) -> dict[str, str]:
        """Both families: the v1 contract's, and draft-ietf-httpapi-ratelimit-headers."""
        headers = {
            "x-ratelimit-limit": str(self.limit),
            "x-ratelimit-remaining": str(self.remaining),
            "x-ratelimit-reset": str(self.reset_s),
            "RateLimit-Policy": f'"default";q={self.limit};w={WINDOW_S}',
            "RateLimit": f'"default";r={self.remaining};t={self.reset_s}',
        }
        return headers if self.allowed else headers | {"Retry-After": str(self.reset_s)}


class RateLimits:
    """What one client may ask in a minute: `requests`, and `messages`, of which one task has many: those to
    /mcp, files of the pages, and subscriptions on a WebSocket."""

    def __init__(self, requests_per_minute: int, messages_each: int, *, now: Callable[[], float]) -> None:
        self.requests = Limiter(requests_per_minute, now=now)
        self.messages = Limiter(requests_per_minute * messages_each, now=now)


RATE_LIMITS = web.AppKey("rate_limits", RateLimits)

BUCKET = web.RequestKey("rate_bucket", str)
"""For whom a request was counted: a client with a key, else an address."""


class Limiter:
    """`limit` requests a minute for each bucket; 0 = no limit. `now` gives monotonic seconds."""

    def __init__(self, limit: int, *, now: Callable[[], float], buckets: int = BUCKETS) -> None:
        self._limit = limit
        self._now = now
        self._windows: Bounded[str, tuple[float, int]] = Bounded(buckets)

    def hit(self, bucket: str) -> Verdict | None:
        """Count one request; None without a limit. A refused one is not counted."""
        if not self._limit:
            return None
        now = self._now()
        begun, used = self._windows.pop(bucket, (now, 0))
        if now - begun >= WINDOW_S:
            begun, used = now, 0
        allowed = used < self._limit
        used += allowed
        self._windows[bucket] = (begun, used)
        return Verdict(
            allowed=allowed,
            limit=self._limit,
            remaining=self._limit - used,
            reset_s=max(1, math.ceil(begun + WINDOW_S - now)),
        )
