"""GET / for people: a page of what is going on. Programs get the index of endpoints there, as before.

The page is ES modules without a build step. All its files lie under one address that has their digest, so
that a browser keeps them for good and never mixes two versions. Its data comes from the API like anybody's.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from aiohttp import hdrs, web

from comfy_mcp.domain.accept import preferred
from comfy_mcp.screen import asset
from http_sidecar.door.health import index

_FOLDER = Path(__file__).parent / "static" / "page"
_DOCUMENT = "index.html"

FILES: Mapping[str, str] = {
    **{name: asset(name) for name in ("elements.js", "screen.css")},
    **{path.name: path.read_text("utf-8") for path in sorted(_FOLDER.iterdir()) if path.name != _DOCUMENT},
}
"""What the page loads, by name."""

DIGEST = hashlib.sha256("\0".join(f"{name}\0{text}" for name, text in FILES.items()).encode()).hexdigest()[
    :16
]

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "media-src blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
"""Nothing inline, nothing from elsewhere, no framing, and no text that becomes markup. `blob:` is what the
page fetched itself, with the key in a header."""

FOREVER = "public, max-age=31536000, immutable"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def setup(app: web.Application) -> None:
    app.router.add_get("/", _root)
    app.router.add_get("/page/{digest}/{name}", _file)


def wants_page(accept: str) -> bool:
    """Whether an Accept header names HTML, and not less than JSON. `*/*` alone does not: programs send it."""
    return preferred(accept, ("text/html", "application/json")) == "text/html"


async def _root(request: web.Request) -> web.Response:
    accept = ",".join(request.headers.getall(hdrs.ACCEPT, ()))
    response = _page() if wants_page(accept) else await index(request)
    response.headers.add(hdrs.VARY, hdrs.ACCEPT)
    return response


def _page() -> web.Response:
    return web.Response(
        text=_TEXT,
        content_type="text/html",
        headers={
            "Content-Security-Policy": POLICY,
            "Cache-Control": "no-cache",
            "Referrer-Policy": "no-referrer",
        },
    )


async def _file(request: web.Request) -> web.Response:
    """Raises HTTPNotFound, also for a file of another version: its page has to be loaded anew."""
    name = request.match_info["name"]
    if request.match_info["digest"] != DIGEST or name not in FILES:
        raise web.HTTPNotFound
    return web.Response(
        text=FILES[name],
        content_type=_TYPES[Path(name).suffix],
        charset="utf-8",
        headers={"Cache-Control": FOREVER},
    )


_TEXT = re.sub(
    r"\{\{(.+?)\}\}", lambda found: f"page/{DIGEST}/{found[1]}", (_FOLDER / _DOCUMENT).read_text("utf-8")
)
"""Addresses are relative, so that the page also works behind a proxy that adds a prefix."""
