"""GET /openapi.json."""

import hashlib
import json
from collections.abc import Iterator

from aiohttp import ETag, web

from http_sidecar.app_state import SETTINGS
from http_sidecar.openapi.document import Endpoint, build

PATH = "/openapi.json"


def setup(app: web.Application) -> None:
    """Adds the route. The document is made at the first request, when all features have added theirs."""
    document = _Document()
    app.router.add_get(PATH, document.answer)


class _Document:
    def __init__(self) -> None:
        self._text = b""
        self._etag = ""

    async def answer(self, request: web.Request) -> web.Response:
        """It may be kept, and asked for again by ETag: it changes with the version and settings only."""
        if not self._text:
            self._make(request.app)
        known = request.if_none_match or ()
        unchanged = any(tag.value in {self._etag, "*"} for tag in known)
        response = (
            web.Response(status=304)
            if unchanged
            else web.Response(body=self._text, content_type="application/json")
        )
        response.etag = ETag(value=self._etag)
        response.headers["Cache-Control"] = "no-cache"
        return response

    def _make(self, app: web.Application) -> None:
        document = build(endpoints_of(app), metrics_public=app[SETTINGS].metrics_public)
        self._text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        self._etag = hashlib.sha256(self._text).hexdigest()[:32]


def endpoints_of(app: web.Application) -> Iterator[Endpoint]:
    """What is routed; HEAD apart, which goes with GET."""
    for route in app.router.routes():
        if route.resource is not None and route.method != "HEAD":
            yield route.method, route.resource.canonical
