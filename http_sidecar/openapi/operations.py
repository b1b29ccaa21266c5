"""The part of the document that derives from the registry and http_sidecar/routes.py."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from comfy_mcp.domain.errors import ErrorCode
from comfy_mcp.operations.registry import BY_NAME, Operation
from comfy_mcp.operations.shapes import Result, WorkflowResult
from http_sidecar.openapi import examples
from http_sidecar.openapi.parts import (
    ALWAYS,
    KEYED,
    OF_A_BODY,
    OF_AN_ENGINE,
    Failure,
    bytes_response,
    empty_response,
    error_responses,
    failures,
    header_parameter,
    json_response,
    path_parameter,
    query_parameter,
)
from http_sidecar.openapi.schemas import (
    Json,
    argument_schemas,
    given,
    reference,
    required_arguments,
    result_schemas,
)
from http_sidecar.routes import ROUTES, UPLOAD, Route

NOT_ON_THE_WIRE = frozenset({"path", "idempotencyKey"})
"""Arguments that are none here: a path of this machine is refused, and a key has a header for it."""


def operation_object(route: Route) -> Json:
    """The Operation Object (OpenAPI 3.1, 4.8.10) of one route."""
    operation = route.of
    document: Json = {
        "operationId": operation.name,
        "summary": operation.title,
        "description": operation.description,
        "tags": [_tag_of(route)],
        "security": KEYED,
        "parameters": _parameters(route),
        "responses": _successes(route) | error_responses(_failures_of(route)),
    }
    if route.body:
        document["requestBody"] = _request_body(operation)
    return document


def registry_schemas() -> dict[str, Json]:
    """components/schemas of every JSON result."""
    return result_schemas({route.of.result for route in (*ROUTES, UPLOAD) if not route.binary})


def _tag_of(route: Route) -> str:
    for word, tag in _TAGS:
        if word in route.operation:
            return tag
    return "Workflows"


_TAGS = (("model", "Models"), ("output", "Outputs"), ("system", "System"), ("gpu", "System"))

_OF_A_SUBMIT = (
    ErrorCode.GRAPH_UI_FORMAT,
    ErrorCode.GRAPH_INVALID,
    ErrorCode.TOO_LARGE,
    ErrorCode.PATH_NOT_ALLOWED,
    ErrorCode.LANE_UNAVAILABLE,
    ErrorCode.QUEUE_FULL,
    ErrorCode.IDEMPOTENCY_MISMATCH,
)

_OF_AN_OUTPUT = (
    ErrorCode.NOT_FOUND,
    ErrorCode.OUTPUT_GONE,
    ErrorCode.TOO_LARGE,
    ErrorCode.OUTPUT_UNREADABLE,
)

FAILURES: Mapping[str, tuple[ErrorCode, ...]] = {
    "submit_workflow": _OF_A_SUBMIT,
    "workflow_status": (ErrorCode.WORKFLOW_NOT_FOUND,),
    "wait_for_workflow": (ErrorCode.WORKFLOW_NOT_FOUND,),
    "cancel_workflow": (ErrorCode.WORKFLOW_NOT_FOUND, ErrorCode.NOT_CANCELLABLE),
    "retry_workflow": (ErrorCode.WORKFLOW_NOT_FOUND, ErrorCode.NOT_RETRYABLE, *_OF_A_SUBMIT),
    "list_workflows": (),
    "queue": (),
    "list_models": (),
    "list_outputs": (),
    "view_output": _OF_AN_OUTPUT,
    "read_output": _OF_AN_OUTPUT,  # with ?preview it is the same
    "system_status": (),
    "gpu_status": (),
}
"""What each raises beside what any request can meet. A test holds it complete over the routes."""

_ASK_ENGINES = frozenset({"list_models", "view_output", "read_output"})


def _failures_of(route: Route) -> Iterable[Failure]:
    yield from ALWAYS
    yield from failures(*FAILURES.get(route.operation, ()))
    if route.body:
        yield from OF_A_BODY
    if route.operation in _ASK_ENGINES:
        yield from OF_AN_ENGINE
    if route.binary:
        yield HTTPStatus.PRECONDITION_FAILED, "precondition_failed"
        yield HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "range_not_satisfiable"


# ------------------------------------------------------------------------------------ what goes in


def _parameters(route: Route) -> list[Json]:
    arguments, required = argument_schemas(route.of.params), required_arguments(route.of.params)
    found: list[Json] = []
    for name, schema in arguments.items():
        if name in NOT_ON_THE_WIRE:
            continue
        said = schema.get("description") or _SAID.get(name, "")
        if f"{{{name}}}" in route.path:
            found.append(path_parameter(name, said, given(schema)))
        elif not route.body:
            shown = _limit_of(route, schema) if name == "limit" else given(schema)
            found.append(query_parameter(name, said, shown, required=name in required))
    return [*found, *_MORE_PARAMETERS.get(route.operation, ())]


def _limit_of(route: Route, schema: Json) -> Json:
    if not route.whole:
        return schema
    own = {"default": int(route.defaults["limit"])} if "limit" in route.defaults else {}
    return {"type": "integer", "minimum": schema["minimum"], **own}


_SAID = {
    "workflowId": "Only of this workflow.",
    "limit": "Entries at most. Where there is no default: without it and `cursor` all.",
    "cursor": "`nextCursor` of the page before.",
    "type": "Only of this type.",
    "status": "Only in this state.",
    "retried": "Only what another workflow retries, or only what none does.",
    "client": "Only of this client; without the right `admin` it is always one's own.",
    "reason": "Why; it is kept with the workflow.",
}


_OF_BYTES = (
    header_parameter("Range", "One range of bytes, e.g. `bytes=0-1023`; several get the whole."),
    header_parameter("If-None-Match", "ETags that the client has: then the answer is 304."),
    header_parameter("If-Range", "ETag of the part that the client has: of other bytes it gets the whole."),
    header_parameter("If-Match", "ETags of which the output must have one: otherwise the answer is 412."),
)

_OF_SUBMITS = (
    header_parameter(
        "Prefer", "`wait=N`: answer when the workflow has ended, or after N seconds (RFC 7240)."
    ),
    header_parameter(
        "Idempotency-Key",
        "Equal keys are one submit for 24 hours: the same request, the first answer again.",
        pattern='^("[ -~]{1,255}"|[ -~]{1,255})$',
    ),
)

_MORE_PARAMETERS: Mapping[str, tuple[Json, ...]] = {
    "submit_workflow": _OF_SUBMITS,
    "retry_workflow": _OF_SUBMITS,
    "view_output": _OF_BYTES,
    "read_output": (
        *_OF_BYTES,
        query_parameter(
            "preview",
            "`WIDTHxHEIGHT`, or one number for both: an image that fits into this box instead of the file.",
            {"type": "string", "pattern": "^[1-9][0-9]{0,2}(x[1-9][0-9]{0,2})?$"},
        ),
    ),
}


def _request_body(operation: Operation[Any, Any]) -> Json:
    needed = required_arguments(operation.params) | _NEEDED.get(operation.name, frozenset())
    properties = {
        name: given(schema) if name in needed else schema
        for name, schema in argument_schemas(operation.params).items()
        if name not in NOT_ON_THE_WIRE
    }
    return {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "object", "properties": properties, "required": sorted(needed)},
                "example": examples.SUBMIT,
            }
        },
    }


_NEEDED: Mapping[str, frozenset[str]] = {"submit_workflow": frozenset({"workflow"})}
"""Arguments that have another way in on other surfaces, but not on this one."""


# ------------------------------------------------------------------------------------ what comes out


def _successes(route: Route) -> dict[str, Json]:
    if route.binary:
        return _BINARY[route.operation]
    operation = route.of
    schema, example = reference(operation.result), example_of(operation.name)
    match operation.name:
        case "submit_workflow" | "retry_workflow":
            return _submit_successes(schema, example)
        case "cancel_workflow":
            return {
                "200": json_response(
                    "It is cancelled; saying so again is no error.", schema, example=example
                ),
                "202": json_response(
                    "The engine has been asked, and stops at its next node or step.",
                    schema,
                    example=(example_of("cancel_workflow") or {})
                    | {"status": "running", "cancelRequested": True},
                ),
            }
        case _:
            links = _LINKS_TO_OUTPUTS if "outputs" in operation.result.model_fields else None
            return {str(route.success): json_response(operation.title, schema, example=example, links=links)}


def example_of(operation: str) -> Json | None:
    """An answer with every member. None where examples.py has none."""
    if (answer := examples.ANSWERS.get(operation)) is None:
        return None
    result: Result = BY_NAME[operation].result.model_validate(answer)
    return result.model_dump(mode="json")


def _submit_successes(schema: Json, example: Any) -> dict[str, Json]:
    state = reference(WorkflowResult)
    headers = ("Location", "Preference-Applied")
    return {
        "200": json_response(
            "With `Prefer: wait=N`: it has ended, this is its state.",
            state,
            example=example_of("workflow_status"),
            headers=headers,
        ),
        "202": json_response(
            "It is queued and durable. With `Prefer: wait=N`: it has not ended yet, this is its state.",
            {"anyOf": [schema, state]},
            example=example,
            headers=headers,
            links=_LINKS_TO_WORKFLOW,
        ),
    }


_LINKS_TO_WORKFLOW: Json = {
    name: {"operationId": name, "parameters": {"workflowId": "$response.body#/workflowId"}}
    for name in ("workflow_status", "wait_for_workflow", "cancel_workflow", "workflow_events")
}
_LINKS_TO_OUTPUTS: Json = {
    name: {"operationId": name, "parameters": {"outputId": "$response.body#/outputs/0/outputId"}}
    for name in ("read_output", "view_output")
}


def _bytes_successes(whole: str, content: Json) -> dict[str, Json]:
    return {
        "200": bytes_response(whole, content),
        "206": bytes_response("The part that was asked for.", content, headers=("Content-Range",)),
        "304": empty_response("What the client has is still right.", headers=("ETag",)),
    }


_BINARY: Mapping[str, dict[str, Json]] = {
    "view_output": _bytes_successes("A small picture of an image.", {"image/*": {}}),
    "read_output": _bytes_successes("The whole, streamed.", {"*/*": {}}),
}
