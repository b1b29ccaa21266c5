"""What the operations of the document share: answers, errors, headers, parameters, security."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Annotated, Any

from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from comfy_mcp.domain.errors import ErrorCode
from comfy_mcp.operations.shapes import ProblemItem
from http_sidecar.door.problems import CONTENT_TYPE, STATUS_OF, TYPE_PREFIX, phrase_of
from http_sidecar.openapi.schemas import SCHEMAS, Json

Failure = ErrorCode | tuple[HTTPStatus, str]
"""A code of the domain, or one that only HTTP has, with its status."""

KEYED: list[Json] = [{"apiKey": []}, {"bearer": []}]
"""Either header will do."""

OPEN: list[Json] = []

ALWAYS: tuple[Failure, ...] = (
    ErrorCode.INVALID_ARGUMENT,
    ErrorCode.UNAUTHENTICATED,
    ErrorCode.FORBIDDEN,
    ErrorCode.RATE_LIMITED,
    ErrorCode.STORE_UNAVAILABLE,
    ErrorCode.STORE_CORRUPT,
    ErrorCode.SHUTTING_DOWN,
    ErrorCode.INTERNAL,
    (HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "header_too_large"),
)
"""What any request with a key can meet."""

BODY_TOO_SLOW: Failure = (HTTPStatus.REQUEST_TIMEOUT, "body_too_slow")

TEXT: Json = {"type": "string"}


def operation(
    name: str,
    summary: str,
    tag: str,
    answers: Json,
    *,
    failures: Iterable[Failure] = (),
    security: list[Json] = KEYED,
    **more: Any,
) -> Json:
    """An Operation Object (OpenAPI 3.1, 4.8.10). `failures`: beside ALWAYS where a key is needed."""
    known = failures if security is OPEN else (*ALWAYS, *failures)
    return {
        "operationId": name,
        "summary": summary,
        "tags": [tag],
        "security": security,
        "responses": answers | _error_responses(known),
        **more,
    }


def response(
    description: str, content: Json | None = None, *, headers: Iterable[str] = (), links: Json | None = None
) -> Json:
    """`content` by media type (RFC 9110 ranges allowed)."""
    answer: Json = {
        "description": description,
        "headers": {name: _header(name) for name in (*_COMMON_HEADERS, *headers)},
    }
    return answer | ({"content": content} if content else {}) | ({"links": links} if links else {})


def in_json(schema: Json, example: Any = None) -> Json:
    return {"application/json": {"schema": schema} | ({} if example is None else {"example": example})}


def in_text(*media_types: str) -> Json:
    return {media_type: {"schema": TEXT} for media_type in media_types}


EVENT_STREAM: Json = {"text/event-stream": {}}
"""Without a schema: OpenAPI 3.1 has no words for one event of many (3.2 does)."""


def parameter(place: str, name: str, description: str, schema: Json = TEXT, **more: Any) -> Json:
    """An empty value in a query counts as none, as the v1 contract's `?workflowId=&limit=50` has it."""
    plain = {key: value for key, value in schema.items() if key != "description"}
    found: Json = {"name": name, "in": place, "description": description, "schema": plain} | more
    if place == "path":
        found["required"] = True
    elif place == "query":
        found |= {"required": more.get("required", False), "allowEmptyValue": not more.get("required")}
    return found


def exactly(**properties: Json) -> Json:
    """The schema of an object that has all of these."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def _error_responses(known: Iterable[Failure]) -> Json:
    """One answer per status; its description lists the codes."""
    return {
        str(status.value): {"$ref": f"#/components/responses/{_name(status)}"}
        if codes == _SHARED.get(status)
        else _error(status, codes)
        for status, codes in _by_status(known).items()
    }


def _by_status(known: Iterable[Failure]) -> dict[HTTPStatus, list[str]]:
    codes: defaultdict[HTTPStatus, set[str]] = defaultdict(set)
    for failure in known:
        status, code = (STATUS_OF[failure], failure.value) if isinstance(failure, ErrorCode) else failure
        codes[status].add(code)
    return {status: sorted(codes[status]) for status in sorted(codes)}


def _name(status: HTTPStatus) -> str:
    return phrase_of(status).replace(" ", "")


def _error(status: HTTPStatus, codes: list[str]) -> Json:
    listed = ", ".join(f"`{code}`" for code in codes)
    content = {CONTENT_TYPE: {"schema": {"$ref": f"{SCHEMAS}Problem"}}}
    return response(
        f"{phrase_of(status)}. Codes: {listed}.", content, headers=_HEADERS_OF_ERRORS.get(status, ())
    )


def _header(name: str) -> Json:
    return {"$ref": f"#/components/headers/{name}"}


_COMMON_HEADERS = (
    "X-Request-ID",
    "RateLimit",
    "RateLimit-Policy",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
)
_HEADERS_OF_ERRORS: Mapping[HTTPStatus, tuple[str, ...]] = {
    HTTPStatus.UNAUTHORIZED: ("WWW-Authenticate",),
    HTTPStatus.TOO_MANY_REQUESTS: ("Retry-After",),
    HTTPStatus.SERVICE_UNAVAILABLE: ("Retry-After",),
}
_COUNTS = {
    "X-RateLimit-Limit": "Requests a minute.",
    "X-RateLimit-Remaining": "Requests left in this minute.",
    "X-RateLimit-Reset": "Seconds until the limit resets.",
    "Retry-After": "Seconds to wait before the next request.",
    "Content-Length": "Bytes of the body.",
}
_TEXTS = {
    "X-Request-ID": "The request's own, or one that the server chose.",
    "RateLimit": 'Requests left and seconds until the reset, e.g. `"default";r=99;t=60`.',
    "RateLimit-Policy": 'The limit, e.g. `"default";q=100;w=60`.',
    "WWW-Authenticate": "How to authenticate.",
    "Location": "URL of the workflow's state.",
    "Preference-Applied": "`wait=N`: the wait that the server applied.",
    "ETag": "A strong ETag: it changes with the bytes.",
    "Content-Range": "Which bytes these are, e.g. `bytes 0-99/1234`.",
    "Accept-Ranges": "`bytes`: range requests are possible.",
    "Content-Disposition": "The file's name.",
}
HEADERS: Json = {name: {"description": text, "schema": TEXT} for name, text in _TEXTS.items()} | {
    name: {"description": text, "schema": {**TEXT, "pattern": "^[0-9]+$"}} for name, text in _COUNTS.items()
}

SECURITY_SCHEMES: Json = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
    "bearer": {"type": "http", "scheme": "bearer", "description": "The same key as a Bearer token."},
}

_Status = Annotated[int, Field(ge=400, le=599)]


class Problem(BaseModel):
    """Every error: the members of the v1 contract (`error`, `message`, `statusCode`), those of RFC 9457
    (`type`, `title`, `status`, `detail`, `instance`), a stable `code` and what to do next."""

    error: str = Field(description="The status in words.")
    message: str = Field(description="What is wrong.", examples=["Workflow 123 not found"])
    statusCode: _Status  # noqa: N815  # the contract's name
    type: str = Field(pattern=f"^{TYPE_PREFIX}[a-z_]+$", examples=[f"{TYPE_PREFIX}workflow_not_found"])
    title: str
    status: _Status
    detail: str = Field(description="What is wrong, and what to do next.")
    instance: str = Field(description="The path of the request.", examples=["/v1/comfyui/workflow/123"])
    code: str = Field(description="Stable: it never changes its meaning.", examples=["workflow_not_found"])
    nextStep: str = Field(  # noqa: N815
        description="What to do next, e.g. a request to send.",
        examples=["GET /v1/comfyui/workflows for existing ids."],
    )
    retryable: bool = Field(description="Whether the same request may succeed later.")
    problems: list[ProblemItem] | SkipJsonSchema[None] = Field(
        None, description="With `graph_invalid`: what is wrong where."
    )
    warnings: list[str] | SkipJsonSchema[None] = Field(
        None,
        description="What was found before the error: arguments and values that were read in another way.",
    )
    currentStatus: str | SkipJsonSchema[None] = Field(  # noqa: N815
        None, description="With `not_cancellable`: the workflow's state."
    )
    errorId: str | SkipJsonSchema[None] = Field(  # noqa: N815
        None, description="With `internal`: find this id in the server's log."
    )


_SHARED = _by_status(ALWAYS)

SHARED_RESPONSES: Json = {_name(status): _error(status, codes) for status, codes in _SHARED.items()}
