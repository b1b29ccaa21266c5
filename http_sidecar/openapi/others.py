"""The part of the document that no operation stands behind: probes, streams, uploads, MCP, documents."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from comfy_mcp.domain.errors import ErrorCode
from http_sidecar.openapi import examples
from http_sidecar.openapi.parts import (
    ALWAYS,
    KEYED,
    OF_AN_ENGINE,
    OPEN,
    Failure,
    empty_response,
    error_responses,
    failures,
    json_response,
)
from http_sidecar.openapi.schemas import Json
from http_sidecar.routes import V1

INTERNAL: list[Failure] = failures(ErrorCode.INTERNAL)
LIMITED: list[Failure] = failures(ErrorCode.RATE_LIMITED, ErrorCode.INTERNAL)


def _described(
    name: str,
    summary: str,
    tag: str,
    responses: Json,
    *,
    description: str = "",
    known: list[Failure] = INTERNAL,
    security: list[Json] = OPEN,
    **more: Any,
) -> Json:
    operation: Json = {
        "operationId": name,
        "summary": summary,
        "tags": [tag],
        "security": security,
        "responses": responses | error_responses(known),
        **more,
    }
    if description:
        operation["description"] = description
    return operation


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _text_response(description: str, *media_types: str) -> Json:
    content = {media_type: {"schema": {"type": "string"}} for media_type in media_types}
    return {**empty_response(description), "content": content}


_TEXT: Json = {"type": "string"}
_TIME: Json = {"type": "integer", "description": "Epoch milliseconds."}

_HEALTHY: Json = {
    "200": json_response(
        "It lives.",
        _object(status={"const": "healthy"}, timestamp=_TIME),
        example={"status": "healthy", "timestamp": examples.CREATED_MS},
    )
}
_READINESS: Json = _object(
    ready={"type": "boolean"},
    activeTasks={"type": ["integer", "null"], "description": "Queued and running workflows."},
    timestamp=_TIME,
    reason={"type": ["string", "null"]},
)
_READY: Json = {
    "200": json_response(
        "A submit would be taken.",
        _READINESS,
        example={"ready": True, "activeTasks": 2, "timestamp": examples.CREATED_MS, "reason": None},
    ),
    "503": json_response(
        "A submit would not be taken now.",
        _READINESS,
        example={"ready": False, "activeTasks": 2, "timestamp": examples.CREATED_MS, "reason": "draining"},
    ),
}
_INDEX: Json = _object(
    name=_TEXT,
    version=_TEXT,
    endpoints={"type": "array", "items": _object(path=_TEXT, methods={"type": "array", "items": _TEXT})},
)
_JSON_DOCUMENT: Json = {"type": "object"}

_WORKFLOW_ID: Json = {
    "name": "workflowId",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": 64},
    "description": "Id from submit_workflow",
}

_MCP_BODY: Json = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"type": "object"},
            "example": {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}},
        }
    },
}
_MCP_ANSWER: Json = {
    **empty_response("A JSON-RPC message, or a stream of them."),
    "content": {"application/json": {"schema": {"type": "object"}}, "text/event-stream": {"schema": _TEXT}},
}
_MCP_FAILURES: list[Failure] = [
    *failures(
        ErrorCode.UNAUTHENTICATED, ErrorCode.FORBIDDEN, ErrorCode.RATE_LIMITED, ErrorCode.SHUTTING_DOWN
    ),
    (HTTPStatus.MISDIRECTED_REQUEST, ErrorCode.FORBIDDEN.value),
    *INTERNAL,
]

OTHERS: Mapping[tuple[str, str], Json] = MappingProxyType(
    {
        ("GET", "/health"): _described("health", "Health", "Probes", _HEALTHY),
        ("GET", "/livez"): _described("livez", "Liveness", "Probes", _HEALTHY),
        ("GET", "/ready"): _described("ready", "Readiness", "Probes", _READY),
        ("GET", "/readyz"): _described("readyz", "Readiness", "Probes", _READY),
        ("GET", "/"): _described(
            "index",
            "Index",
            "Documents",
            {"200": json_response("Every endpoint with its methods.", _INDEX)},
            known=LIMITED,
        ),
        ("GET", "/openapi.json"): _described(
            "openapi",
            "This document",
            "Documents",
            {
                "200": json_response("OpenAPI 3.1.", _JSON_DOCUMENT, headers=("ETag",)),
                "304": empty_response("What the client has is still right.", headers=("ETag",)),
            },
            known=LIMITED,
        ),
        ("GET", "/asyncapi.json"): _described(
            "asyncapi",
            "The streams' messages",
            "Documents",
            {"200": json_response("AsyncAPI 3.0.", _JSON_DOCUMENT)},
            known=LIMITED,
        ),
        ("GET", "/docs"): _described(
            "docs",
            "Interactive documentation",
            "Documents",
            {"200": _text_response("A page that needs nothing from elsewhere.", "text/html")},
            known=LIMITED,
        ),
        ("GET", "/metrics"): _described(
            "metrics",
            "Metrics",
            "Probes",
            {
                "200": _text_response(
                    "Prometheus text, or OpenMetrics where Accept asks for it.",
                    "text/plain",
                    "application/openmetrics-text",
                )
            },
        ),
        ("GET", f"{V1}/stream"): _described(
            "stream",
            "WebSocket of all workflows",
            "Streams",
            {"101": {"description": "The messages are in /asyncapi.json."}},
            description="The handshake of a WebSocket. Browsers, which can't send a key in a header, bring a "
            "ticket.",
            known=[*ALWAYS, (HTTPStatus.UPGRADE_REQUIRED, "upgrade_required")],
            security=[*KEYED, {}],
            parameters=[
                {
                    "name": "ticket",
                    "in": "query",
                    "description": "From stream_ticket; good for one connection.",
                    "schema": _TEXT,
                }
            ],
        ),
        ("POST", f"{V1}/stream/ticket"): _described(
            "stream_ticket",
            "Ticket for a browser's WebSocket",
            "Streams",
            {
                "200": json_response(
                    "Good for one connection within a short time.",
                    _object(
                        ticket=_TEXT,
                        expiresIn={"type": "number", "description": "Seconds."},
                    ),
                    example={"ticket": "hA5…", "expiresIn": 30},
                )
            },
            known=ALWAYS,
            security=KEYED,
        ),
        ("GET", f"{V1}/workflow/{{workflowId}}/events"): _described(
            "workflow_events",
            "Events of one workflow",
            "Streams",
            {
                "200": _text_response(
                    "Server-sent events; the messages are in /asyncapi.json.", "text/event-stream"
                )
            },
            description="Ends with the workflow. Every event has an `id`; with the last one seen the stream "
            "goes on from there.",
            known=[*ALWAYS, *failures(ErrorCode.WORKFLOW_NOT_FOUND)],
            security=KEYED,
            parameters=[
                _WORKFLOW_ID,
                {
                    "name": "Last-Event-ID",
                    "in": "header",
                    "description": "Replay what came after it.",
                    "schema": _TEXT,
                },
                {
                    "name": "lastEventId",
                    "in": "query",
                    "description": "The same, for clients that can't send the header.",
                    "schema": _TEXT,
                },
            ],
        ),
        ("POST", f"{V1}/inputs"): _described(
            "upload_input",
            "Upload an input file",
            "Workflows",
            {
                "201": json_response(
                    "It is in the engine's input folder, under this name: it may differ from the one sent.",
                    _object(name=_TEXT, subfolder=_TEXT, type=_TEXT),
                    example={"name": "photo.png", "subfolder": "", "type": "input"},
                )
            },
            known=[
                *ALWAYS,
                *OF_AN_ENGINE,
                *failures(ErrorCode.UPLOAD_TOO_LARGE),
                (HTTPStatus.REQUEST_TIMEOUT, "body_too_slow"),
                (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, ErrorCode.INVALID_ARGUMENT.value),
            ],
            security=KEYED,
            requestBody={
                "required": True,
                "content": {
                    "multipart/form-data": {
                        "schema": {
                            "type": "object",
                            "properties": {
                                "image": {"type": "string", "contentMediaType": "application/octet-stream"}
                            },
                            "required": ["image"],
                        }
                    }
                },
            },
        ),
        ("POST", "/mcp"): _described(
            "mcp_message",
            "MCP: a message",
            "MCP",
            {"200": _MCP_ANSWER, "202": {"description": "Taken; there is nothing to answer."}},
            description="Model Context Protocol over Streamable HTTP, both protocol eras.",
            known=_MCP_FAILURES,
            security=KEYED,
            requestBody=_MCP_BODY,
        ),
        ("GET", "/mcp"): _described(
            "mcp_stream",
            "MCP: the session's stream",
            "MCP",
            {"200": _text_response("Server-sent events.", "text/event-stream")},
            known=_MCP_FAILURES,
            security=KEYED,
        ),
        ("DELETE", "/mcp"): _described(
            "mcp_end",
            "MCP: end a session",
            "MCP",
            {"200": {"description": "It has ended."}},
            known=_MCP_FAILURES,
            security=KEYED,
        ),
    }
)
"""By method and path. A test holds it to the application's routes, both ways."""
