"""The v1 routes: most are their operation and nothing else; a few have more to do, as the contract has it."""

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web
from aiohttp.typedefs import Handler

from comfy_mcp.operations.models import ModelsResult, WaitParams
from http_sidecar.outputs import output_bytes, preview_bytes
from http_sidecar.rest import answer, arguments_of, call
from http_sidecar.routes import ROUTES, Route
from http_sidecar.submit import submit
from http_sidecar.waiting import state_at_end

RouteHandler = Callable[[web.Request, Route], Awaitable[web.StreamResponse]]

MODELS_PAGE = "200"


def setup(app: web.Application) -> None:
    """Every route of the table. What can be fetched can also be asked for by HEAD."""
    for route in ROUTES:
        handler = _handler_of(route)
        if route.method == "GET":
            app.router.add_get(route.path, handler)
        else:
            app.router.add_route(route.method, route.path, handler)


def _handler_of(route: Route) -> Handler:
    handle_route = _OWN.get(route.operation, _call_and_answer)

    async def handle(request: web.Request) -> web.StreamResponse:
        return await handle_route(request, route)

    return handle


async def _call_and_answer(request: web.Request, route: Route) -> web.Response:
    return answer(route, await call(request, route, await arguments_of(request, route)))


async def _models(request: web.Request, route: Route) -> web.Response:
    """v1 clients know no pages: without `limit` and `cursor` they get all models."""
    arguments = await arguments_of(request, route)
    if "limit" in arguments or "cursor" in arguments:
        return answer(route, await call(request, route, arguments))
    page: ModelsResult = await call(request, route, {**arguments, "limit": MODELS_PAGE})
    models = list(page.models)
    while page.next_cursor is not None:
        more = {**arguments, "limit": MODELS_PAGE, "cursor": page.next_cursor}
        page = await call(request, route, more)
        models += page.models
    return answer(route, page.model_copy(update={"models": models}))


async def _wait(request: web.Request, route: Route) -> web.Response:
    arguments = await arguments_of(request, route)
    params: WaitParams = route.of.parse(arguments)
    cancel = params.cancel_on_disconnect
    state = await state_at_end(request, params.model_dump(), cancel_on_disconnect=cancel)
    return answer(route, state)


_OWN: Mapping[str, RouteHandler] = {
    "submit_workflow": submit,
    "wait_for_workflow": _wait,
    "list_models": _models,
    "read_output": output_bytes,
    "view_output": preview_bytes,
}
