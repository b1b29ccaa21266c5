"""The application's one middleware: what every request passes on its way in, and its answer on the way out.

The steps are functions of the modules beside this one; their order is here.
"""

from collections.abc import Callable
from time import perf_counter

from aiohttp import web
from aiohttp.typedefs import Handler

from comfy_mcp.metrics import Metrics
from http_sidecar.door import cors, gatekeeper, metrics, request_log
from http_sidecar.door.errors import answer_to, route_of
from http_sidecar.door.gatekeeper import Gatekeeper
from http_sidecar.door.problems import ERROR_CODE
from http_sidecar.drain import Drain

_ALWAYS = {"X-Content-Type-Options": "nosniff", "Server": request_log.SERVER}

Reshape = Callable[[web.Request, web.StreamResponse], web.StreamResponse]


class Door:
    """`reshape` gives an error the shape that its route's clients know."""

    def __init__(
        self, gate: Gatekeeper, *, drain: Drain, metrics: Metrics, origins: tuple[str, ...], reshape: Reshape
    ) -> None:
        self._gate = gate
        self._drain = drain
        self._metrics = metrics
        self._origins = origins
        self._reshape = reshape

    def setup(self, app: web.Application) -> None:
        app.middlewares.append(self.pass_through)
        app.on_response_prepare.append(self._prepare)

    @web.middleware
    async def pass_through(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every answer is counted and logged, also what could not be sent."""
        request[metrics.BEGAN] = perf_counter()
        request_log.name(request)
        self._drain.enter()
        response: web.StreamResponse | None = None
        status = metrics.CLIENT_CLOSED
        try:
            response = await self._answer(request, handler)
        except web.HTTPException as raised:
            status = raised.status
            raise
        except ConnectionError:
            raise
        except Exception:
            status = 500
            raise
        else:
            status = response.status
            return response
        finally:
            self._drain.leave()
            self._note(request, response, status)

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method == "OPTIONS" and (answer := cors.preflight(request, self._origins)) is not None:
            return answer
        try:
            response: web.StreamResponse | None = await self._gate.refusal(request)
            if response is None:
                response = await handler(request)
        except Exception as error:  # noqa: BLE001 - what is unexpected is logged there
            response = answer_to(error, request)
        return response if response.status < 400 else self._reshape(request, response)

    def _note(self, request: web.Request, response: web.StreamResponse | None, status: int) -> None:
        """No `response`: the client went before it, or it was cut."""
        route, seconds = route_of(request), perf_counter() - request[metrics.BEGAN]
        if type(response) is web.Response or metrics.COUNTED not in request:
            code = None if response is None or status < 400 else response.get(ERROR_CODE)
            metrics.count(self._metrics, request.method, route, status, code, seconds)
        request_log.write(request, route, None if response is None else status, seconds)

    async def _prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """A signal, so that errors and streams have the headers too."""
        headers = response.headers
        request_log.add_headers(request, headers)
        gatekeeper.add_headers(request, headers)
        headers.update(_ALWAYS)
        headers.update(cors.headers_for(request.headers.get("Origin"), self._origins))
        if type(response) is not web.Response and metrics.is_stream(response):
            # A stream counts when it begins: how long it then lasts is no latency.
            request[metrics.COUNTED] = True
            seconds = perf_counter() - request[metrics.BEGAN]
            metrics.count(self._metrics, request.method, route_of(request), response.status, None, seconds)
