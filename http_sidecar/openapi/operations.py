"""The part of the document that derives from the registry and http_sidecar/routes.py."""

from http import HTTPStatus

from comfy_mcp.operations.registry import BY_NAME
from comfy_mcp.operations.shapes import DryRunResult, Result, WorkflowResult
from http_sidecar.door.next_steps import IN_URLS
from http_sidecar.openapi.parts import BODY_TOO_SLOW, TEXT, Failure, in_json, operation, parameter, response
from http_sidecar.openapi.schemas import (
    Json,
    argument_schemas,
    brief_schema,
    given,
    reference,
    required_arguments,
    result_schemas,
)
from http_sidecar.routes import ROUTES, UPLOAD, Route

NOT_ON_THE_WIRE = frozenset({"path", "saveTo", "idempotencyKey", "filename"})
"""Paths of this machine are refused, a key has a header for it, and a file has its name in its form."""


def operation_object(route: Route) -> Json:
    """The Operation Object of one route."""
    of = route.of
    return operation(
        of.name,
        of.title,
        route.tag,
        _successes(route),
        failures=(*of.raises, *_failures_of(route)),
        description=of.description,
        parameters=[*_parameters(route), *_headers_in(route)],
        **_request_body(route),
    )


def registry_schemas() -> Json:
    """components/schemas of every JSON result."""
    results = {route.of.result for route in (*ROUTES, UPLOAD) if not route.binary}
    return result_schemas({*results, DryRunResult})


def _failures_of(route: Route) -> tuple[Failure, ...]:
    if route is UPLOAD:
        return (BODY_TOO_SLOW,)
    if route.body:
        too_large = (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_too_large")
        return (BODY_TOO_SLOW, too_large)
    if route.binary:
        return (
            (HTTPStatus.PRECONDITION_FAILED, "precondition_failed"),
            (HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "range_not_satisfiable"),
        )
    return ()


# ------------------------------------------------------------------------------------ what goes in


def _parameters(route: Route) -> list[Json]:
    required = required_arguments(route.of.params)
    found: list[Json] = []
    for name, schema in argument_schemas(route.of.params).items():
        words = schema.get("description", "")
        if f"{{{name}}}" in route.path:
            found.append(parameter("path", name, words, given(schema)))
        elif not route.body and name not in NOT_ON_THE_WIRE:
            shown = _limit_of(route, schema) if name == "limit" else given(schema)
            found.append(parameter("query", name, words, shown, required=name in required))
    return found


def _limit_of(route: Route, schema: Json) -> Json:
    if not route.whole:
        return schema
    own = {"default": int(route.defaults["limit"])} if "limit" in route.defaults else {}
    return {"type": "integer", "minimum": schema["minimum"], **own}


def _headers_in(route: Route) -> list[Json]:
    if route.binary:
        return [*_OF_BYTES, *([_PREVIEW] if route.preview else [])]
    return _OF_SUBMITS if route.success == HTTPStatus.ACCEPTED else []


_OF_BYTES = [
    parameter(
        "header", "Range", "One range of bytes, e.g. `bytes=0-1023`; several ranges return the whole file."
    ),
    parameter("header", "If-None-Match", "ETags of the client's copies; if one matches, the answer is 304."),
    parameter(
        "header", "If-Range", "ETag of the client's part; if it does not match, the answer is the whole file."
    ),
    parameter("header", "If-Match", "Accepted ETags; if none matches, the answer is 412."),
]
_PREVIEW = parameter(
    "query",
    "preview",
    "`WIDTHxHEIGHT`, or one number for both: a smaller image of at most this size instead of the file.",
    {**TEXT, "pattern": "^[1-9][0-9]{0,2}(x[1-9][0-9]{0,2})?$"},
)
_OF_SUBMITS = [
    parameter(
        "header", "Prefer", "`wait=N`: answer when the workflow has ended, or after N seconds (RFC 7240)."
    ),
    parameter(
        "header",
        "Idempotency-Key",
        "For 24 hours a request with the same key returns the first answer instead of submitting again.",
        {**TEXT, "pattern": '^("[ -~]{1,255}"|[ -~]{1,255})$'},
    ),
]


def _request_body(route: Route) -> Json:
    if route is UPLOAD:
        file = {
            **TEXT,
            "contentMediaType": "application/octet-stream",
            "description": "The file, with its name.",
        }
        schema = {"type": "object", "properties": {"image": file}, "required": ["image"]}
        return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
    if not route.body:
        return {}
    content = in_json(_body_schema(route), route.of.example_call) | dict.fromkeys(_FILE_TYPES, _FILE)
    return {"requestBody": {"required": True, "description": _BODY, "content": content}}


_FILE_TYPES = ("application/octet-stream", "image/*", "video/*", "audio/*")
_FILE: Json = {"schema": {}}
_BODY = (
    "The arguments as a JSON object. Or the workflow's file as it is (JSON, or a picture, video or sound of "
    "ComfyUI); its other arguments are in the query then."
)


def _body_schema(route: Route) -> Json:
    needed = required_arguments(route.of.params) | route.needs
    properties = {
        name: given(schema) if name in needed else schema
        for name, schema in argument_schemas(route.of.params).items()
        if name not in NOT_ON_THE_WIRE
    }
    return {"type": "object", "properties": properties, "required": sorted(needed)}


# ------------------------------------------------------------------------------------ what comes out


def example_of(name: str) -> Json | None:
    """An answer with every member, and next steps in URLs. None where it is bytes."""
    of = BY_NAME[name]
    if of.example is None:
        return None
    result: Result = of.result.model_validate(of.example)
    return result.model_dump(mode="json", context=IN_URLS)


def _successes(route: Route) -> Json:
    if route.binary:
        return _bytes(route)
    schema, example = reference(route.of.result), example_of(route.operation)
    if route.success == HTTPStatus.ACCEPTED:
        return _submitted(schema, example)
    words = route.answer or route.of.title
    if "fields" in route.of.params.model_fields:
        schema = {"anyOf": [schema, brief_schema(route.of.result)]}
    links = _LINKS_TO_OUTPUTS if "outputs" in route.of.result.model_fields else None
    found = {str(route.success): response(words, in_json(schema, example), links=links)}
    if route.ongoing is not None:
        running = {**(example or {}), "status": "running"}
        found["202"] = response(route.ongoing, in_json(schema, running))
    return found


def _submitted(schema: Json, example: Json | None) -> Json:
    state, headers = reference(WorkflowResult), ("Location", "Preference-Applied")
    return {
        "200": response(
            "With `Prefer: wait=N`: the workflow has ended; this is its state. "
            "With `dryRun`: it would run; nothing was queued.",
            in_json({"anyOf": [state, reference(DryRunResult)]}, example_of("workflow_status")),
            headers=headers,
        ),
        "202": response(
            "The workflow is queued and durable. With `Prefer: wait=N`: not ended yet; this is its state.",
            in_json({"anyOf": [schema, state]}, example),
            headers=headers,
            links=_LINKS_TO_WORKFLOW,
        ),
    }


def _bytes(route: Route) -> Json:
    content: Json = {str(route.media_type): {}}
    headers = ("ETag", "Accept-Ranges", "Content-Length", "Content-Disposition")
    return {
        "200": response(str(route.answer), content, headers=headers),
        "206": response("The requested part.", content, headers=(*headers, "Content-Range")),
        "304": response("The client's copy is still valid.", headers=("ETag",)),
    }


def _links(argument: str, value: str, *operations: str) -> Json:
    return {name: {"operationId": name, "parameters": {argument: value}} for name in operations}


_LINKS_TO_WORKFLOW = _links(
    "workflowId",
    "$response.body#/workflowId",
    *("workflow_status", "wait_for_workflow", "cancel_workflow", "workflow_events"),
)
_LINKS_TO_OUTPUTS = _links("outputId", "$response.body#/outputs/0/outputId", "read_output", "view_output")
