"""Which web pages may call. Keys travel in headers and never in cookies, so no credentials are allowed.

Own code and not aiohttp-cors: see docs/decisions/0006-http-middlewares.md.
"""

from collections.abc import Mapping
from functools import lru_cache

from aiohttp import hdrs, web

from http_sidecar.door.hosts import foreign_page
from http_sidecar.door.problems import problem_of

REQUEST_HEADERS = (
    "Accept, Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, If-Range, Last-Event-ID, "
    "Mcp-Method, Mcp-Name, Mcp-Protocol-Version, Mcp-Session-Id, Prefer, Range, X-API-Key, X-Request-ID"
)
RESPONSE_HEADERS = (
    "Content-Disposition, Content-Range, ETag, Location, Mcp-Session-Id, Preference-Applied, RateLimit, "
    "RateLimit-Policy, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, X-Request-ID"
)
METHODS = "DELETE, GET, HEAD, OPTIONS, POST"
MAX_AGE_S = 600


def preflight(request: web.Request, origins: tuple[str, ...]) -> web.Response | None:
    """The answer to a browser's question before a call, which comes without a key."""
    if hdrs.ACCESS_CONTROL_REQUEST_METHOD not in request.headers:
        return None
    if not _is_allowed(request.headers.get("Origin"), origins):
        return problem_of(foreign_page(), request.path)
    return web.Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": REQUEST_HEADERS,
            "Access-Control-Max-Age": str(MAX_AGE_S),
        },
    )


@lru_cache(maxsize=256)
def headers_for(origin: str | None, origins: tuple[str, ...]) -> Mapping[str, str]:
    """Those of every answer to a page of `origin`; `origins` may call."""
    any_origin = "*" in origins
    policy = {"Cross-Origin-Resource-Policy": "cross-origin" if any_origin else "same-origin"}
    vary = {"Vary": "Origin"} if origins and not any_origin else {}  # without one, too: caches
    if not _is_allowed(origin, origins):
        return policy | vary
    return {
        **policy,
        **vary,
        "Access-Control-Allow-Origin": "*" if any_origin else str(origin),
        "Access-Control-Expose-Headers": RESPONSE_HEADERS,
    }


def _is_allowed(origin: str | None, origins: tuple[str, ...]) -> bool:
    return origin is not None and ("*" in origins or origin in origins)
