"""What needs a key and is no operation: streams, uploads, MCP."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

from comfy_mcp.domain.errors import ErrorCode
from http_sidecar.openapi.parts import (
    ALWAYS,
    KEYED,
    OF_AN_ENGINE,
    Failure,
    empty_response,
    exactly,
    failures,
    header_parameter,
    json_response,
    keyed,
    text_response,
)
from http_sidecar.openapi.schemas import Json
from http_sidecar.routes import V1

_TEXT: Json = {"type": "string"}

_WORKFLOW_ID: Json = {
    "name": "workflowId",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": 64},
    "description": "Id from submit_workflow",
}
_EVENT_ID = "^[0-9]{1,18}$"

_STREAM = keyed(
    "stream",
    "WebSocket of all workflows",
    "Streams",
    {"101": {"description": "The messages are in /asyncapi.json."}},
    description="The handshake of a WebSocket. Browsers, which can't send a key in a header, bring a ticket.",
    known=[
        *ALWAYS,
        *failures(ErrorCode.TOO_MANY_STREAMS),
        (HTTPStatus.UPGRADE_REQUIRED, "upgrade_required"),
    ],
    parameters=[
        {
            "name": "ticket",
            "in": "query",
            "description": "From stream_ticket; good for one connection, instead of a key.",
            "schema": _TEXT,
        }
    ],
) | {"security": [*KEYED, {}]}

_TICKET = keyed(
    "stream_ticket",
    "Ticket for a browser's WebSocket",
    "Streams",
    {
        "200": json_response(
            "Good for one connection within a short time.",
            exactly(ticket=_TEXT, expiresIn={"type": "number", "description": "Seconds."}),
            example={"ticket": "hA5wQ0c2", "expiresIn": 30},
        )
    },
    known=ALWAYS,
)

_EVENTS = keyed(
    "workflow_events",
    "Events of one workflow",
    "Streams",
    {
        "200": text_response("Server-sent events; the messages are in /asyncapi.json.", "text/event-stream"),
        "204": empty_response("It has ended, and the client has seen the end already."),
    },
    description="Ends with the workflow. Every event has an `id`; with the last one seen the stream goes on "
    "from there.",
    known=[*ALWAYS, *failures(ErrorCode.WORKFLOW_NOT_FOUND, ErrorCode.TOO_MANY_STREAMS)],
    parameters=[
        _WORKFLOW_ID,
        header_parameter("Last-Event-ID", "Replay what came after it.", pattern=_EVENT_ID),
        {
            "name": "lastEventId",
            "in": "query",
            "description": "The same, for clients that can't send the header.",
            "schema": {"type": "string", "pattern": _EVENT_ID},
        },
    ],
)

_UPLOAD = keyed(
    "upload_input",
    "Upload an input file",
    "Workflows",
    {
        "201": json_response(
            "It is in the engine's input folder, under this name: it may differ from the one sent.",
            exactly(name=_TEXT, subfolder=_TEXT, type=_TEXT),
            example={"name": "photo.png", "subfolder": "", "type": "input"},
        )
    },
    known=[
        *ALWAYS,
        *OF_AN_ENGINE,
        *failures(ErrorCode.UPLOAD_TOO_LARGE),
        (HTTPStatus.REQUEST_TIMEOUT, "body_too_slow"),
    ],
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
)

_MCP_FAILURES: list[Failure] = [
    *ALWAYS,
    (HTTPStatus.MISDIRECTED_REQUEST, ErrorCode.FORBIDDEN.value),
]

_MCP_MESSAGE = keyed(
    "mcp_message",
    "MCP: a message",
    "MCP",
    {
        "200": {
            **empty_response("A JSON-RPC message, or a stream of them."),
            "content": {
                "application/json": {"schema": {"type": "object"}},
                "text/event-stream": {"schema": _TEXT},
            },
        },
        "202": {"description": "Taken; there is nothing to answer."},
    },
    description="Model Context Protocol over Streamable HTTP, both protocol eras. What it says is MCP's own "
    "specification.",
    known=_MCP_FAILURES,
    requestBody={
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "object"},
                "example": {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}},
            }
        },
    },
)

CHANNELS: Mapping[tuple[str, str], Json] = MappingProxyType(
    {
        ("GET", f"{V1}/stream"): _STREAM,
        ("POST", f"{V1}/stream/ticket"): _TICKET,
        ("GET", f"{V1}/workflow/{{workflowId}}/events"): _EVENTS,
        ("POST", f"{V1}/inputs"): _UPLOAD,
        ("POST", "/mcp"): _MCP_MESSAGE,
        ("GET", "/mcp"): keyed(
            "mcp_stream",
            "MCP: the session's stream",
            "MCP",
            {"200": text_response("Server-sent events.", "text/event-stream")},
            known=_MCP_FAILURES,
        ),
        ("DELETE", "/mcp"): keyed(
            "mcp_end",
            "MCP: end a session",
            "MCP",
            {"200": {"description": "It has ended."}},
            known=_MCP_FAILURES,
        ),
    }
)
"""By method and path."""
