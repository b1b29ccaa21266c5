"""What no operation is behind: probes, documents, streams, MCP."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from comfy_mcp.domain.errors import ErrorCode
from http_sidecar.door.problems import CONTENT_TYPE, phrase_of
from http_sidecar.openapi.parts import (
    EVENT_STREAM,
    KEYED,
    OPEN,
    TEXT,
    Failure,
    exactly,
    in_json,
    in_text,
    operation,
    parameter,
    response,
)
from http_sidecar.openapi.schemas import SCHEMAS, Json
from http_sidecar.routes import MCP_PATH, V1

OBJECT: Json = {"type": "object"}

# ------------------------------------------------------------------------------------ open to everybody

_TIME: Json = {"type": "integer", "description": "Epoch milliseconds."}
_HEALTH = in_json(exactly(status={"const": "healthy"}, timestamp=_TIME))
_READINESS = in_json(
    exactly(
        ready={"type": "boolean"},
        activeTasks={"type": ["integer", "null"], "description": "Queued and running workflows."},
        timestamp=_TIME,
        reason={"type": ["string", "null"]},
    )
)

_READY = {
    "200": response("The server accepts submits.", _READINESS),
    "503": response("The server does not accept submits now.", _READINESS),
}
_INDEX = exactly(
    name=TEXT,
    version=TEXT,
    endpoints={"type": "array", "items": exactly(path=TEXT, methods={"type": "array", "items": TEXT})},
)


def _probe(name: str, summary: str, answers: Json) -> Json:
    return operation(name, summary, "Probes", answers, failures=(ErrorCode.INTERNAL,), security=OPEN)


def _document(name: str, summary: str, answers: Json) -> Json:
    """Forbidden: with no keys configured, to web pages of other origins and under foreign host names."""
    failures = (ErrorCode.FORBIDDEN, ErrorCode.RATE_LIMITED, ErrorCode.INTERNAL)
    return operation(name, summary, "Documents", answers, failures=failures, security=OPEN)


_SERVICE: Mapping[tuple[str, str], Json] = {
    ("GET", "/health"): _probe("health", "Health", {"200": response("It lives.", _HEALTH)}),
    ("GET", "/livez"): _probe("livez", "Liveness", {"200": response("It lives.", _HEALTH)}),
    ("GET", "/ready"): _probe("ready", "Readiness", _READY),
    ("GET", "/readyz"): _probe("readyz", "Readiness for Kubernetes", _READY),
    ("GET", "/metrics"): _probe(
        "metrics",
        "Metrics",
        {
            "200": response(
                "Prometheus text, or OpenMetrics where Accept asks for it.",
                in_text("text/plain", "application/openmetrics-text"),
            )
        },
    ),
    ("GET", "/"): _document(
        "index",
        "Index",
        {
            "200": response(
                "Every endpoint with its methods; a page for people where Accept names text/html.",
                in_json(_INDEX) | in_text("text/html"),
            )
        },
    ),
    ("GET", "/docs"): _document(
        "docs",
        "Interactive documentation",
        {"200": response("A page that loads nothing from the internet.", in_text("text/html"))},
    ),
    ("GET", "/openapi.json"): _document(
        "openapi",
        "This document",
        {
            "200": response("OpenAPI 3.1.", in_json(OBJECT), headers=("ETag",)),
            "304": response("The client's copy is still valid.", headers=("ETag",)),
        },
    ),
}

# ------------------------------------------------------------------------------------ streams

_MESSAGES = "docs/streams.md describes the messages."


def _stream(name: str, summary: str, answers: Json, *failures: Failure, **more: Any) -> Json:
    return operation(name, summary, "Streams", answers, failures=failures, **more)


_RESUMING = [
    parameter(
        "header",
        "Last-Event-ID",
        "Replay the events after this one.",
        {**TEXT, "pattern": "^[0-9]{0,18}$"},  # empty is the same as none
    ),
    parameter(
        "query", "lastEventId", "For clients that can't send the header. If both are sent, the header counts."
    ),
]

_STREAMS: Mapping[tuple[str, str], Json] = {
    ("GET", f"{V1}/stream"): _stream(
        "stream",
        "WebSocket of all workflows",
        {"101": {"description": _MESSAGES}},
        ErrorCode.TOO_MANY_STREAMS,
        (HTTPStatus.UPGRADE_REQUIRED, "upgrade_required"),
        description="The handshake of a WebSocket. Browsers, which can't send a key in a header, bring a "
        "ticket.",
        parameters=[
            parameter(
                "query", "ticket", "A ticket from stream_ticket, valid for one connection, instead of a key."
            )
        ],
        security=[*KEYED, {}],
    ),
    ("POST", f"{V1}/stream/ticket"): _stream(
        "stream_ticket",
        "Ticket for a browser's WebSocket",
        {
            "200": response(
                "Valid for one connection, for 30 seconds.",
                in_json(
                    exactly(ticket=TEXT, expiresIn={"type": "number", "description": "Seconds."}),
                    {"ticket": "hA5wQ0c2", "expiresIn": 30},
                ),
            )
        },
    ),
    ("GET", f"{V1}/workflow/{{workflowId}}/events"): _stream(
        "workflow_events",
        "Events of one workflow",
        {
            "200": response(f"Server-sent events; {_MESSAGES}", EVENT_STREAM),
            "204": response("The workflow has ended, and the client has received its last event."),
        },
        ErrorCode.WORKFLOW_NOT_FOUND,
        ErrorCode.TOO_MANY_STREAMS,
        description="Ends with the workflow. Every event has an `id`; send the last one to continue "
        "after it.",
        parameters=[
            parameter(
                "path", "workflowId", "Id from submit_workflow", {**TEXT, "minLength": 1, "maxLength": 64}
            ),
            *_RESUMING,
        ],
    ),
    ("GET", f"{V1}/events"): _stream(
        "all_events",
        "Events of all workflows",
        {"200": response(f"Server-sent events that do not end; {_MESSAGES}", EVENT_STREAM)},
        ErrorCode.TOO_MANY_STREAMS,
        description="Events of all workflows that the key may see, from now on or after the last one seen.",
        parameters=_RESUMING,
    ),
}

# ------------------------------------------------------------------------------------ MCP

_MCP_REVISION = "2026-07-28"
_MCP_EXAMPLE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/list",
    "params": {
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": _MCP_REVISION,
            "io.modelcontextprotocol/clientInfo": {"name": "example", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    },
}
_MCP_STATUSES = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.NOT_ACCEPTABLE,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.CONFLICT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
)


def _mcp(name: str, summary: str, successes: Json, **more: Any) -> Json:
    """Errors of the protocol itself are JSON-RPC's, or text where the request was not even that."""
    content = {CONTENT_TYPE: {"schema": {"$ref": f"{SCHEMAS}Problem"}}, **in_json(OBJECT), "*/*": {}}
    found = operation(
        name,
        summary,
        "MCP",
        successes,
        failures=((HTTPStatus.MISDIRECTED_REQUEST, ErrorCode.FORBIDDEN.value),),
        **more,
    )
    found["responses"] |= {
        str(status.value): response(f"{phrase_of(status)}: as MCP has it.", content)
        for status in _MCP_STATUSES
    } | {"405": response("From 2026-07-28 on, only POST is allowed.")}
    return found


def _mcp_version(example: str) -> Json:
    return parameter("header", "MCP-Protocol-Version", "The protocol revision.", example=example)


_MCP_SESSION = parameter("header", "Mcp-Session-Id", "Up to 2025-11-25: from the answer to initialize.")
_OF_A_SESSION = [_mcp_version("2025-11-25"), _MCP_SESSION]

_MCP: Mapping[tuple[str, str], Json] = {
    ("POST", MCP_PATH): _mcp(
        "mcp_message",
        "MCP: a message",
        {
            "200": response("A JSON-RPC message, or a stream of them.", in_json(OBJECT) | EVENT_STREAM),
            "202": {"description": "Accepted; there is no response body."},
        },
        description="Model Context Protocol over Streamable HTTP, both protocol eras. What it says is MCP's "
        "own specification.",
        parameters=[
            _mcp_version(_MCP_REVISION),
            parameter(
                "header", "Mcp-Method", "From 2026-07-28 on: the message's method.", example="tools/list"
            ),
            _MCP_SESSION,
        ],
        requestBody={"required": True, "content": in_json(OBJECT, _MCP_EXAMPLE)},
    ),
    ("GET", MCP_PATH): _mcp(
        "mcp_stream",
        "MCP: the session's stream",
        {"200": response("Server-sent events.", EVENT_STREAM)},
        parameters=_OF_A_SESSION,
    ),
    ("DELETE", MCP_PATH): _mcp(
        "mcp_end",
        "MCP: end a session",
        {"200": {"description": "It has ended."}},
        parameters=_OF_A_SESSION,
    ),
}

ENDPOINTS: Mapping[tuple[str, str], Json] = {**_SERVICE, **_STREAMS, **_MCP}
"""By method and path."""
