"""What several operations of the document share: the error body, headers, security, answers."""

from collections import defaultdict
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from comfy_mcp.domain.errors import ErrorCode
from http_sidecar.door.problems import CONTENT_TYPE, STATUS_OF, TYPE_PREFIX, phrase_of
from http_sidecar.openapi.schemas import SCHEMAS, Json

Failure = tuple[HTTPStatus, str]
"""A status, and the stable code in the body."""

KEYED: list[Json] = [{"apiKey": []}, {"bearer": []}]
"""Either header will do."""

OPEN: list[Json] = []


def failures(*codes: ErrorCode) -> list[Failure]:
    return [(STATUS_OF[code], code.value) for code in codes]


ALWAYS: list[Failure] = [
    *failures(
        ErrorCode.INVALID_ARGUMENT,
        ErrorCode.UNAUTHENTICATED,
        ErrorCode.FORBIDDEN,
        ErrorCode.RATE_LIMITED,
        ErrorCode.STORE_UNAVAILABLE,
        ErrorCode.STORE_CORRUPT,
        ErrorCode.SHUTTING_DOWN,
        ErrorCode.INTERNAL,
    ),
    (HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "header_too_large"),
]
"""What any request with a key can meet."""

OF_ANY_SERVER: list[Failure] = failures(ErrorCode.INTERNAL)
"""What even a probe can meet."""

OF_AN_OPEN_PAGE: list[Failure] = failures(ErrorCode.FORBIDDEN, ErrorCode.RATE_LIMITED, ErrorCode.INTERNAL)
"""Forbidden: with no keys configured, to web pages of other origins and under foreign host names."""

OF_A_BODY: list[Failure] = [
    (HTTPStatus.REQUEST_TIMEOUT, "body_too_slow"),
    (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_too_large"),
]

OF_AN_ENGINE: list[Failure] = failures(ErrorCode.ENGINE_UNREACHABLE, ErrorCode.ENGINE_BAD_ANSWER)


def error_responses(known: Iterable[Failure]) -> dict[str, Json]:
    """One answer per status; its description lists the codes."""
    return {
        str(status.value): {"$ref": f"#/components/responses/{_name(status)}"}
        if codes == _SHARED.get(status)
        else _error(status, codes)
        for status, codes in _by_status(known).items()
    }


def _by_status(known: Iterable[Failure]) -> dict[HTTPStatus, list[str]]:
    codes: defaultdict[HTTPStatus, set[str]] = defaultdict(set)
    for status, code in known:
        codes[status].add(code)
    return {status: sorted(codes[status]) for status in sorted(codes)}


def _name(status: HTTPStatus) -> str:
    return phrase_of(status).replace(" ", "")


def _error(status: HTTPStatus, codes: list[str]) -> Json:
    listed = ", ".join(f"`{code}`" for code in codes)
    return {
        "description": f"{phrase_of(status)}. Codes: {listed}.",
        "headers": {name: header(name) for name in (*COMMON_HEADERS, *_OWN_HEADERS.get(status, ()))},
        "content": {CONTENT_TYPE: {"schema": {"$ref": f"{SCHEMAS}Problem"}}},
    }


def header(name: str) -> Json:
    return {"$ref": f"#/components/headers/{name}"}


def header_parameter(name: str, description: str, *, example: str | None = None, **schema: Any) -> Json:
    shown = {} if example is None else {"example": example}
    return _parameter(name, "header", description, {"type": "string", **schema}) | shown


def path_parameter(name: str, description: str, schema: Json) -> Json:
    return _parameter(name, "path", description, schema) | {"required": True}


def query_parameter(name: str, description: str, schema: Json, *, required: bool = False) -> Json:
    """An empty value counts as none, as the v1 contract's `?workflowId=&limit=50` has it."""
    return _parameter(name, "query", description, schema) | {
        "required": required,
        "allowEmptyValue": not required,
    }


def _parameter(name: str, place: str, description: str, schema: Json) -> Json:
    plain = {key: value for key, value in schema.items() if key != "description"}
    return {"name": name, "in": place, "description": description, "schema": plain}


def json_response(
    description: str,
    schema: Json,
    *,
    example: Any = None,
    headers: Iterable[str] = (),
    links: Json | None = None,
) -> Json:
    content: Json = {"schema": schema}
    if example is not None:
        content["example"] = example
    response: Json = {
        "description": description,
        "headers": {name: header(name) for name in (*COMMON_HEADERS, *headers)},
        "content": {"application/json": content},
    }
    if links:
        response["links"] = links
    return response


def bytes_response(description: str, content: Json, *, headers: Iterable[str] = ()) -> Json:
    """`content` by media type (RFC 9110 ranges allowed)."""
    named = (*COMMON_HEADERS, *_OF_BYTES, *headers)
    return {
        "description": description,
        "headers": {name: header(name) for name in named},
        "content": content,
    }


def empty_response(description: str, *, headers: Iterable[str] = ()) -> Json:
    return {
        "description": description,
        "headers": {name: header(name) for name in (*COMMON_HEADERS, *headers)},
    }


def text_response(description: str, *media_types: str) -> Json:
    content = {media_type: {"schema": {"type": "string"}} for media_type in media_types}
    return {**empty_response(description), "content": content}


def event_stream(description: str) -> Json:
    """Without a schema: OpenAPI 3.1 has no words for one event of many (3.2 does)."""
    return {**empty_response(description), "content": {"text/event-stream": {}}}


def unkeyed(
    name: str,
    summary: str,
    tag: str,
    responses: Json,
    *,
    known: Iterable[Failure] = OF_ANY_SERVER,
    **more: Any,
) -> Json:
    """The Operation Object of an endpoint that is open to everybody and has no operation behind it."""
    return {
        "operationId": name,
        "summary": summary,
        "tags": [tag],
        "security": OPEN,
        "responses": responses | error_responses(known),
        **more,
    }


def keyed(
    name: str, summary: str, tag: str, responses: Json, *, known: Iterable[Failure], **more: Any
) -> Json:
    """The same for one that needs a key."""
    return unkeyed(name, summary, tag, responses, known=known, **more) | {"security": KEYED}


def exactly(**properties: Json) -> Json:
    """The schema of an object that has all of these."""
    return {"type": "object", "properties": properties, "required": list(properties)}


_OF_BYTES = ("ETag", "Accept-Ranges", "Content-Length", "Content-Disposition")

COMMON_HEADERS = (
    "X-Request-ID",
    "RateLimit",
    "RateLimit-Policy",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
)


_OWN_HEADERS: dict[HTTPStatus, tuple[str, ...]] = {
    HTTPStatus.UNAUTHORIZED: ("WWW-Authenticate",),
    HTTPStatus.TOO_MANY_REQUESTS: ("Retry-After",),
    HTTPStatus.SERVICE_UNAVAILABLE: ("Retry-After",),
}

_TEXT: Json = {"type": "string"}
_COUNT: Json = {"type": "string", "pattern": "^[0-9]+$"}

HEADERS: dict[str, Json] = {
    "X-Request-ID": {"description": "The request's own, or one that the server chose.", "schema": _TEXT},
    "RateLimit": {
        "description": 'What is left and when it is refilled, e.g. `"default";r=99;t=60`.',
        "schema": _TEXT,
    },
    "RateLimit-Policy": {"description": 'The limit, e.g. `"default";q=100;w=60`.', "schema": _TEXT},
    "X-RateLimit-Limit": {"description": "Requests a minute.", "schema": _COUNT},
    "X-RateLimit-Remaining": {"description": "Requests left in this minute.", "schema": _COUNT},
    "X-RateLimit-Reset": {"description": "Seconds until the limit is refilled.", "schema": _COUNT},
    "Retry-After": {"description": "Seconds to wait before the next try.", "schema": _COUNT},
    "WWW-Authenticate": {"description": "How to authenticate.", "schema": _TEXT},
    "Location": {"description": "Where the workflow's state is.", "schema": _TEXT},
    "Preference-Applied": {"description": "`wait=N`: how long was waited at most.", "schema": _TEXT},
    "ETag": {"description": "Strong; changes with the bytes.", "schema": _TEXT},
    "Content-Range": {"description": "Which bytes these are, e.g. `bytes 0-99/1234`.", "schema": _TEXT},
    "Accept-Ranges": {"description": "`bytes`: parts can be asked for.", "schema": _TEXT},
    "Content-Length": {"description": "Bytes of the body.", "schema": _COUNT},
    "Content-Disposition": {"description": "The file's name.", "schema": _TEXT},
}

SECURITY_SCHEMES: dict[str, Json] = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
    "bearer": {"type": "http", "scheme": "bearer", "description": "The same key as a Bearer token."},
}

PROBLEM: Json = {
    "type": "object",
    "description": "Every error: the members of the v1 contract (`error`, `message`, `statusCode`), those of "
    "RFC 9457 (`type`, `title`, `status`, `detail`, `instance`), a stable `code` and what to do next.",
    "properties": {
        "error": {"type": "string", "description": "The status in words."},
        "message": {"type": "string", "description": "What is wrong."},
        "statusCode": {"type": "integer", "minimum": 400, "maximum": 599},
        "type": {"type": "string", "pattern": f"^{TYPE_PREFIX}[a-z_]+$"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What is wrong, and what to do next."},
        "instance": {"type": "string", "description": "The path of the request."},
        "code": {"type": "string", "description": "Stable: it never changes its meaning."},
        "nextStep": {"type": "string", "description": "What to do next, e.g. a request to send."},
        "retryable": {"type": "boolean", "description": "Whether the same request may succeed later."},
        "problems": {
            "type": "array",
            "description": "With `graph_invalid`: what is wrong where.",
            "items": {
                "type": "object",
                "properties": {
                    "kind": {"type": "string"},
                    "message": {"type": "string"},
                    "node_id": {"type": ["string", "null"]},
                    "class_type": {"type": ["string", "null"]},
                    "input_name": {"type": ["string", "null"]},
                    "suggestions": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["kind", "message"],
            },
        },
        "currentStatus": {"type": "string", "description": "With `not_cancellable`: the workflow's state."},
        "errorId": {"type": "string", "description": "With `internal`: where to look in the server's log."},
    },
    "required": [
        "error", "message", "statusCode", "type", "title", "status", "detail", "instance", "code", "nextStep",
        "retryable",
    ],
    "examples": [
        {
            "error": "Not Found",
            "message": "Workflow 123 not found",
            "statusCode": 404,
            "type": f"{TYPE_PREFIX}workflow_not_found",
            "title": "Not Found",
            "status": 404,
            "detail": "Workflow 123 not found. GET /v1/comfyui/workflows for the ids that exist.",
            "instance": "/v1/comfyui/workflow/123",
            "code": "workflow_not_found",
            "nextStep": "GET /v1/comfyui/workflows for the ids that exist.",
            "retryable": False,
        }
    ],
}  # fmt: skip

_SHARED = _by_status(ALWAYS)

SHARED_RESPONSES: dict[str, Json] = {
    _name(status): _error(status, codes) for status, codes in _SHARED.items()
}
