"""What the answers with files have in common: outputs of engines and uploads of clients are strangers'."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import assert_never
from urllib.parse import quote

from aiohttp import web

from http_sidecar.door.conditions import NotModified, NotSatisfiable, PreconditionFailed
from http_sidecar.door.problems import problem

SAFE = {
    # What an engine wrote is a stranger's: it must not run as a page of this service.
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
}


def disposition(filename: str) -> str:
    """RFC 6266: a plain name that no parser trips over, and the real one percent-encoded."""
    plain = re.sub(r"[^A-Za-z0-9._ ()+=@,-]", "_", filename)
    if plain == filename:
        return f'inline; filename="{filename}"'
    return f"inline; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='', errors='replace')}"


def without_body(
    request: web.Request,
    decision: NotModified | PreconditionFailed | NotSatisfiable,
    headers: Mapping[str, str],
    size: int | None,
) -> web.Response:
    match decision:
        case NotModified():
            kept = ("ETag", "Cache-Control")
            return web.Response(status=304, headers={name: headers[name] for name in kept if name in headers})
        case PreconditionFailed():
            return problem(
                HTTPStatus.PRECONDITION_FAILED,
                "The file does not match If-Match.",
                code="precondition_failed",
                next_step="Omit If-Match.",
                instance=request.path,
            )
        case NotSatisfiable():
            return problem(
                HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
                f"The range is outside the file's {size} bytes.",
                code="range_not_satisfiable",
                next_step="Ask for a range inside it.",
                instance=request.path,
                headers={"Content-Range": f"bytes */{size}"},
            )
        case _:
            assert_never(decision)
