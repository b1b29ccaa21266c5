"""Errors on the wire: one body, with the v1 contract's members and those of RFC 9457.

`error`, `message` and `statusCode` are what clients of the earlier service read; `type`, `title`, `status`,
`detail` and `instance` are RFC 9457's; `code` and `retryable` are the same on every surface, and so is
`nextStep`, said in URLs.
"""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from aiohttp import web

from comfy_mcp.domain.errors import BridgeError, ErrorCode, InvalidGraph
from comfy_mcp.operations.shapes import ProblemItem
from http_sidecar.door.next_steps import in_urls

CONTENT_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:comfy-bridge:problem:"

ERROR_CODE = web.ResponseKey("error_code", str)
"""The `code` of an error answer, for whoever handles the response on its way out."""

ADVICE = web.ResponseKey("advice", str)
"""The next step as the operation said it, for who says it in other requests than those of v1."""

STATUS_OF: Mapping[ErrorCode, HTTPStatus] = MappingProxyType(
    {
        ErrorCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
        ErrorCode.GRAPH_UI_FORMAT: HTTPStatus.BAD_REQUEST,
        ErrorCode.GRAPH_INVALID: HTTPStatus.BAD_REQUEST,
        ErrorCode.PATH_NOT_ALLOWED: HTTPStatus.BAD_REQUEST,
        ErrorCode.PATH_UNREADABLE: HTTPStatus.BAD_REQUEST,
        ErrorCode.WORKFLOW_NOT_FOUND: HTTPStatus.NOT_FOUND,
        ErrorCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
        ErrorCode.OUTPUT_GONE: HTTPStatus.GONE,
        ErrorCode.OUTPUT_UNREADABLE: HTTPStatus.UNPROCESSABLE_ENTITY,
        ErrorCode.NOT_CANCELLABLE: HTTPStatus.CONFLICT,
        ErrorCode.NOT_RETRYABLE: HTTPStatus.CONFLICT,
        ErrorCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
        ErrorCode.FORBIDDEN: HTTPStatus.FORBIDDEN,
        ErrorCode.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
        ErrorCode.IDEMPOTENCY_MISMATCH: HTTPStatus.UNPROCESSABLE_ENTITY,
        ErrorCode.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        ErrorCode.TOO_MANY_STREAMS: HTTPStatus.SERVICE_UNAVAILABLE,
        ErrorCode.QUEUE_FULL: HTTPStatus.SERVICE_UNAVAILABLE,
        ErrorCode.LANE_UNAVAILABLE: HTTPStatus.BAD_REQUEST,
        ErrorCode.BUDGET_SPENT: HTTPStatus.PAYMENT_REQUIRED,
        ErrorCode.ENGINE_UNREACHABLE: HTTPStatus.SERVICE_UNAVAILABLE,
        ErrorCode.ENGINE_BAD_ANSWER: HTTPStatus.BAD_GATEWAY,
        ErrorCode.STORE_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
        ErrorCode.STORE_CORRUPT: HTTPStatus.SERVICE_UNAVAILABLE,
        ErrorCode.STORE_SCHEMA_NEWER: HTTPStatus.SERVICE_UNAVAILABLE,
        ErrorCode.SHUTTING_DOWN: HTTPStatus.SERVICE_UNAVAILABLE,
        ErrorCode.CONFIGURATION: HTTPStatus.INTERNAL_SERVER_ERROR,
        ErrorCode.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
    }
)
"""Complete over ErrorCode: a test holds it so."""


_PHRASES: Mapping[HTTPStatus, str] = MappingProxyType(
    {
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Content Too Large",
        HTTPStatus.REQUEST_URI_TOO_LONG: "URI Too Long",
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: "Range Not Satisfiable",
        HTTPStatus.UNPROCESSABLE_ENTITY: "Unprocessable Content",
    }
)
"""RFC 9110, 15.5. Pythons before 3.13 have older names, and an answer must not depend on that."""


def phrase_of(status: HTTPStatus) -> str:
    """The status in words, the same on every Python."""
    return _PHRASES.get(status, status.phrase)


def problem_of(error: BridgeError, instance: str) -> web.Response:
    """The answer to a BridgeError. `instance` is the request's path."""
    extra = dict(error.details)
    if isinstance(error, InvalidGraph):
        extra["problems"] = [ProblemItem.of(each).model_dump(mode="json") for each in error.problems]
    status = STATUS_OF[error.code]
    answer = problem(
        status,
        _v1_message(error),
        code=error.code.value,
        next_step=in_urls(error.next_step),
        retryable=error.retryable,
        instance=instance,
        extra=extra,
        warned=error.warned,
        headers=_HEADERS.get(status),
    )
    answer[ADVICE] = error.next_step
    return answer


_HEADERS: Mapping[HTTPStatus, Mapping[str, str]] = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": 'Bearer realm="comfy-bridge"'},
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": "5"},
}


def _v1_message(error: BridgeError) -> str:
    """Two messages are part of the v1 contract to the letter."""
    match error.code:
        case ErrorCode.WORKFLOW_NOT_FOUND:
            return error.message.removesuffix(".")
        case ErrorCode.NOT_CANCELLABLE:
            return "Workflow cannot be cancelled"
        case _:
            return error.message


def problem(
    status: HTTPStatus,
    message: str,
    *,
    code: str,
    next_step: str,
    instance: str,
    retryable: bool = False,
    extra: Mapping[str, object] = MappingProxyType({}),
    warned: str = "",
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Any error answer; `extra` members come first and never replace one of the body's own."""
    body: dict[str, Any] = {
        **extra,
        "error": phrase_of(status),
        "message": message,
        "statusCode": status.value,
        "type": f"{TYPE_PREFIX}{code}",
        "title": phrase_of(status),
        "status": status.value,
        "detail": " ".join(filter(None, [f"{message.rstrip('.')}.", warned, next_step])),
        "instance": instance,
        "code": code,
        "nextStep": next_step,
        "retryable": retryable,
    }
    answer = web.json_response(body, status=status.value, content_type=CONTENT_TYPE, headers=headers)
    answer[ERROR_CODE] = code
    return answer
