"""Which web pages may call. Keys travel in headers and never in cookies, so no credentials are allowed.

Own code and not aiohttp-cors: see docs/decisions/0006-http-middlewares.md.
"""

from collections.abc import Mapping, MutableMapping

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from comfy_mcp.settings import HttpGroup
from http_sidecar.app_state import SETTINGS
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


@web.middleware
async def preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers a browser's question before a call; it comes without a key."""
    if request.method != "OPTIONS" or hdrs.ACCESS_CONTROL_REQUEST_METHOD not in request.headers:
        return await handler(request)
    if not _allowed(request):
        return problem_of(foreign_page(), request.path)
    return web.Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": REQUEST_HEADERS,
            "Access-Control-Max-Age": str(MAX_AGE_S),
        },
    )


def add_headers(request: web.Request, headers: MutableMapping[str, str]) -> None:
    origins = request.app[SETTINGS].cors_origins
    headers["Cross-Origin-Resource-Policy"] = "cross-origin" if "*" in origins else "same-origin"
    if not origins:
        return
    headers.update(_headers(request, origins))


def is_allowed(origin: str, settings: HttpGroup) -> bool:
    return "*" in settings.cors_origins or origin in settings.cors_origins


def _headers(request: web.Request, origins: tuple[str, ...]) -> Mapping[str, str]:
    any_origin = "*" in origins
    vary = {} if any_origin else {"Vary": "Origin"}  # also without one: a cache must not mix them up
    if not _allowed(request):
        return vary
    return vary | {
        "Access-Control-Allow-Origin": "*" if any_origin else request.headers["Origin"],
        "Access-Control-Expose-Headers": RESPONSE_HEADERS,
    }


def _allowed(request: web.Request) -> bool:
    origin = request.headers.get("Origin")
    return origin is not None and is_allowed(origin, request.app[SETTINGS])
