"""Lists whose v1 contract knows no pages: the operation's pages put together, up to the limit asked for."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from comfy_mcp.operations.shapes import ModelsResult, OutputsResult
from http_sidecar.rest.calls import answer, arguments_of, call
from http_sidecar.routes import Route

PAGE = 200
"""What an operation gives at once at most."""

MOST = 10_000
"""Entries in one answer; `nextCursor` leads on."""

READ_DIGITS = 10
"""A number that has more is too many anyway; Python refuses to read those with thousands."""


async def whole_list(request: web.Request, route: Route) -> web.Response:
    """Without a `limit`, of the request or the route, everything is listed."""
    arguments = await arguments_of(request, route)
    wanted = _wanted(arguments)
    if wanted <= PAGE:
        return answer(route, await call(request, route.operation, arguments))
    page = await call(request, route.operation, {**arguments, "limit": str(PAGE)})
    entries = _entries(page)
    while page.next_cursor is not None and len(entries) < wanted:
        size = min(PAGE, wanted - len(entries))
        page = await call(
            request, route.operation, {**arguments, "limit": str(size), "cursor": page.next_cursor}
        )
        entries += _entries(page)
    return answer(route, page.model_copy(update={_member(page): entries}))


def _wanted(arguments: Mapping[str, str]) -> int:
    """0 for what the operation is to judge by itself: it names what is wrong."""
    limit = arguments.get("limit")
    if limit is None:
        return 0 if "cursor" in arguments else MOST
    if not (limit.isascii() and limit.isdigit()):
        return 0
    return min(MOST, int(limit[:READ_DIGITS]))


def _entries(page: ModelsResult | OutputsResult) -> list[Any]:
    return list(page.models if isinstance(page, ModelsResult) else page.outputs)


def _member(page: ModelsResult | OutputsResult) -> str:
    return "models" if isinstance(page, ModelsResult) else "outputs"
