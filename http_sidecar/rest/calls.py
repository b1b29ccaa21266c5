"""REST over the operations: path, query and JSON body together are an operation's arguments."""

import json
from collections.abc import AsyncIterable, Mapping
from typing import Any

from aiohttp import web

from comfy_mcp.domain.errors import InvalidInput
from comfy_mcp.operations.brief import brief
from comfy_mcp.operations.shapes import CancelResult, Result
from http_sidecar.api_keys import SURFACE
from http_sidecar.app_state import BRIDGE, CALLER, DRAIN
from http_sidecar.door.bodies import read_json_object
from http_sidecar.door.next_steps import IN_URLS
from http_sidecar.routes import Route


async def call(
    request: web.Request,
    operation: str,
    arguments: Mapping[str, Any],
    *,
    content: AsyncIterable[bytes] | None = None,
) -> Any:
    """The operation's Result. Raises BridgeError."""
    app = request.app
    return await app[BRIDGE].call(
        operation, arguments, caller=request[CALLER], content=content, leaving=app[DRAIN]
    )


async def arguments_of(request: web.Request, route: Route) -> dict[str, Any]:
    """The path wins over the query, the query over the body, the body over the route's defaults.

    Raises InvalidInput.
    """
    body = await read_json_object(request) if route.body else {}
    return {**route.defaults, **body, **query_of(request), **request.match_info}


def query_of(request: web.Request) -> dict[str, str]:
    """An empty value is none at all. Raises InvalidInput for a name that comes twice."""
    if not request.query_string:
        return {}
    twice = {name for name in request.query if len(request.query.getall(name)) > 1}
    if twice:
        raise InvalidInput(
            f"The query contains {', '.join(sorted(twice))[:200]} more than once.",
            next_step="Give each once.",
        )
    return {name: value for name, value in request.query.items() if value}


def answer(
    route: Route, result: Result, *, headers: Mapping[str, str] | None = None, status: int | None = None
) -> web.Response:
    """The result with next steps in URLs. `status`: another than the route's own."""
    return web.Response(
        body=result.rendered(SURFACE, _json),
        status=status or _status(route, result),
        content_type="application/json",
        headers=headers,
    )


def _json(result: Result) -> bytes:
    if result.fields == "brief":
        return json.dumps(brief(result, IN_URLS), ensure_ascii=False, separators=(",", ":")).encode()
    return result.model_dump_json(context=IN_URLS).encode()


def _status(route: Route, result: Result) -> int:
    if type(result) is CancelResult and result.status != "cancelled":
        return 202  # the engine has been asked; it stops at its next node or step
    return route.success
