"""GET /docs: the interactive documentation. Everything it needs is in this package: it works offline.

The renderer is swagger-ui-dist, vendored unchanged under static/swagger-ui: see
docs/decisions/0002-dependencies.md.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

STATIC = Path(__file__).parent / "static"

FILES: Mapping[str, Path] = {
    path.name: path
    for path in (
        STATIC / "swagger-ui" / "swagger-ui.css",
        STATIC / "swagger-ui" / "swagger-ui-bundle.js",
        STATIC / "docs" / "page.css",
        STATIC / "docs" / "page.js",
    )
}
"""What the page may load, by name. A name that is not here does not exist, whatever it looks like."""

PAGE_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""No inline scripts or styles, nothing from elsewhere, no framing."""

FOREVER = "public, max-age=31536000, immutable"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".html": "text/html"}


def setup(app: web.Application) -> None:
    page = _Page()
    app.router.add_get("/docs", page.answer)
    app.router.add_get("/docs/{name}", page.file)


class _Page:
    """The page's text and its files' digests, read once."""

    def __init__(self) -> None:
        self._digests = {
            name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for name, path in FILES.items()
        }
        template = (STATIC / "docs" / "index.html").read_text("utf-8")
        self._text = re.sub(r"\{\{(.+?)\}\}", lambda found: self._address_of(found[1]), template)

    async def answer(self, request: web.Request) -> web.Response:
        return web.Response(
            text=self._text,
            content_type="text/html",
            headers={
                "Content-Security-Policy": PAGE_POLICY,
                "Cache-Control": "no-cache",
                "Referrer-Policy": "no-referrer",
            },
        )

    async def file(self, request: web.Request) -> web.FileResponse:
        """Kept for good under the address that the page gives it, which has its digest; else asked for again.

        Raises HTTPNotFound.
        """
        name = request.match_info["name"]
        path = FILES.get(name)
        if path is None:
            raise web.HTTPNotFound
        named_by_digest = request.query.get("v") == self._digests[name]
        headers = {
            "Content-Type": f"{_TYPES[path.suffix]}; charset=utf-8",
            "Cache-Control": FOREVER if named_by_digest else "no-cache",
        }
        return web.FileResponse(path, headers=headers)

    def _address_of(self, name: str) -> str:
        """Relative to /docs."""
        return f"docs/{name}?v={self._digests[name]}"
