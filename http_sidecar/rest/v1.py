"""The v1 routes: most are their operation and nothing else; a few have more to do, as the contract has it."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Handler

from http_sidecar.app_state import BRIDGE, IDENTIFIERS
from http_sidecar.door.tickets import UPLOAD_TTL_S, UPLOADS, Tickets
from http_sidecar.rest import uploads
from http_sidecar.rest.calls import answer, arguments_of, call
from http_sidecar.rest.lists import whole_list
from http_sidecar.rest.output_bytes import identify, live_preview, output_bytes, preview_bytes
from http_sidecar.rest.submit import submit
from http_sidecar.routes import ROUTES, UPLOAD, Route

_PARAMETER = re.compile(r"\{(\w+)\}")

RouteHandler = Callable[..., Awaitable[web.StreamResponse]]
"""It is called with the request and `route`."""


def setup(app: web.Application) -> None:
    """Every route of the table. What can be fetched can also be asked for by HEAD."""
    for route in ROUTES:
        handler = _handler_of(route)
        path = _PARAMETER.sub(r"{\1:[^/]+}", route.path)  # aiohttp's own pattern takes no braces in a name
        if route.method == "GET":
            app.router.add_get(path, handler)
        else:
            app.router.add_route(route.method, path, handler)

    app.router.add_route(UPLOAD.method, UPLOAD.path, uploads.upload)
    app[UPLOADS] = Tickets(ttl_s=UPLOAD_TTL_S, clock=time.monotonic)
    app[IDENTIFIERS] += [identify, uploads.identify]
    app.cleanup_ctx.append(_hashes_kept)


async def _hashes_kept(app: web.Application) -> AsyncIterator[None]:
    """While it runs, the hashes of outputs that were served are written down."""
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(app[BRIDGE].outputs.run(), name="output-hashes")
        yield
        writing.cancel()


def _handler_of(route: Route) -> Handler:
    return partial(_OWN.get(route.operation, _call_and_answer), route=route)


async def _call_and_answer(request: web.Request, route: Route) -> web.Response:
    return answer(route, await call(request, route.operation, await arguments_of(request, route)))


_OWN: Mapping[str, RouteHandler] = {
    "submit_workflow": submit,
    "retry_workflow": submit,
    "list_models": whole_list,
    "list_outputs": whole_list,
    "read_output": output_bytes,
    "view_output": preview_bytes,
    "workflow_preview": live_preview,
}
