"""The outermost guard: whatever goes wrong leaves as the one error body, without an exception's text."""

import secrets
from http import HTTPStatus

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from comfy_mcp.domain.errors import BridgeError, ErrorCode, unexpected
from http_sidecar.door.problems import phrase_of, problem, problem_of

log = structlog.get_logger(__name__)


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors as answers."""
    try:
        return await handler(request)
    except Exception as error:  # noqa: BLE001 - what is unexpected is logged there
        return answer_to(error, request)


def answer_to(error: Exception, request: web.Request) -> web.Response:
    """Once a body has begun the connection is cut instead: the client must not take it for whole.

    Raises what is no error (a redirect), and ConnectionError where the client has gone or was cut off.
    """
    match error:
        case BridgeError():
            if _has_begun(request):
                log.warning("answer_cut", route=route_of(request), code=error.code.value, error=str(error))
                raise _cut(request) from None
            return problem_of(error, request.path)
        case web.HTTPException() if error.status >= 400:
            return _of_aiohttp(error, request.path)
        case web.HTTPException() | ConnectionError():
            raise error
        case web.RequestPayloadError():
            if _has_begun(request):
                raise _cut(request) from None
            return _broken_body(request.path)
        case _:
            return _unexpected(error, request)


def _unexpected(error: Exception, request: web.Request) -> web.Response:
    error_id, route = secrets.token_hex(4), route_of(request)
    log.error("unexpected_error", error_id=error_id, method=request.method, route=route, exc_info=error)
    if _has_begun(request):
        raise _cut(request) from None
    return problem_of(unexpected(error_id), request.path)


def route_of(request: web.Request) -> str:
    """The route's template, e.g. `/v1/comfyui/workflow/{workflowId}`; `unmatched` where there is none.

    Bounded, so it is fit for logs and metric labels.
    """
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unmatched"


def _broken_body(path: str) -> web.Response:
    return problem(
        HTTPStatus.BAD_REQUEST,
        "The body does not match its headers.",
        code="bad_http",
        next_step="Correct Content-Length or Transfer-Encoding.",
        instance=path,
    )


def _has_begun(request: web.Request) -> bool:
    return request.writer.output_size > 0


def _cut(request: web.Request) -> ConnectionError:
    if request.transport is not None:
        request.transport.abort()
    return ConnectionResetError("the answer was cut")


def _of_aiohttp(raised: web.HTTPException, path: str) -> web.Response:
    status = HTTPStatus(raised.status)
    message, code, next_step = _WORDS.get(
        status, (f"{phrase_of(status)}.", ErrorCode.INVALID_ARGUMENT.value, "Correct the request.")
    )
    kept = ("Allow", "WWW-Authenticate", "Retry-After", "Content-Range")
    headers = {name: raised.headers[name] for name in kept if name in raised.headers}
    return problem(status, message, code=code, next_step=next_step, instance=path, headers=headers)


_WORDS = {
    HTTPStatus.NOT_FOUND: ("No such route.", "route_not_found", "GET / lists the routes."),
    HTTPStatus.METHOD_NOT_ALLOWED: (
        "This route does not allow this method.",
        "method_not_allowed",
        "Use one of the methods in the Allow header.",
    ),
    HTTPStatus.REQUEST_TIMEOUT: (
        "The body did not arrive in time.",
        "body_too_slow",
        "Send the whole body at once.",
    ),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (
        "The body is too large.",
        "body_too_large",
        "Send a smaller body, or raise COMFY_BRIDGE_MAX_GRAPH_BYTES.",
    ),
}
