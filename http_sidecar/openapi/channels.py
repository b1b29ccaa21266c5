"""What needs a key and is no operation: streams, uploads, MCP."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from comfy_mcp.domain.errors import ErrorCode
from http_sidecar.door.problems import CONTENT_TYPE, phrase_of
from http_sidecar.openapi.examples import MCP_EXAMPLE, MCP_REVISION
from http_sidecar.openapi.parts import (
    ALWAYS,
    KEYED,
    OF_AN_ENGINE,
    Failure,
    empty_response,
    event_stream,
    exactly,
    failures,
    header_parameter,
    json_response,
    keyed,
    path_parameter,
    query_parameter,
)
from http_sidecar.openapi.schemas import SCHEMAS, Json, argument_schemas, reference
from http_sidecar.routes import UPLOAD, V1

_TEXT: Json = {"type": "string"}

_WORKFLOW_ID = path_parameter(
    "workflowId", "Id from submit_workflow", {"type": "string", "minLength": 1, "maxLength": 64}
)
_EVENT_ID = "^[0-9]{0,18}$"
"""Empty is the same as none."""

_STREAM = keyed(
    "stream",
    "WebSocket of all workflows",
    "Streams",
    {"101": {"description": "docs/streams.md describes the messages."}},
    description="The handshake of a WebSocket. Browsers, which can't send a key in a header, bring a ticket.",
    known=[
        *ALWAYS,
        *failures(ErrorCode.TOO_MANY_STREAMS),
        (HTTPStatus.UPGRADE_REQUIRED, "upgrade_required"),
    ],
    parameters=[
        query_parameter("ticket", "From stream_ticket; good for one connection, instead of a key.", _TEXT)
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

_RESUMING = [
    header_parameter("Last-Event-ID", "Replay what came after it.", pattern=_EVENT_ID),
    query_parameter(
        "lastEventId",
        "For clients that can't send the header; where both come, the header counts.",
        _TEXT,
    ),
]

_EVENTS = keyed(
    "workflow_events",
    "Events of one workflow",
    "Streams",
    {
        "200": event_stream("Server-sent events; docs/streams.md describes the messages."),
        "204": empty_response("It has ended, and the client has seen the end already."),
    },
    description="Ends with the workflow. Every event has an `id`; with the last one seen the stream goes on "
    "from there.",
    known=[*ALWAYS, *failures(ErrorCode.WORKFLOW_NOT_FOUND, ErrorCode.TOO_MANY_STREAMS)],
    parameters=[_WORKFLOW_ID, *_RESUMING],
)

_ALL_EVENTS = keyed(
    "all_events",
    "Events of all workflows",
    "Streams",
    {"200": event_stream("Server-sent events without end; docs/streams.md describes the messages.")},
    description="Of every workflow that the key may see, from now on or from the last event seen.",
    known=[*ALWAYS, *failures(ErrorCode.TOO_MANY_STREAMS)],
    parameters=_RESUMING,
)

_UPLOAD_ARGUMENTS = argument_schemas(UPLOAD.of.params)

_UPLOAD = keyed(
    UPLOAD.operation,
    UPLOAD.of.title,
    "Workflows",
    {
        "201": json_response(
            "It is in the engine's input folder, under this name: it may differ from the one sent.",
            reference(UPLOAD.of.result),
            example={"name": "photo.png", "subfolder": "", "type": "input"},
        )
    },
    description=UPLOAD.of.description,
    known=[
        *ALWAYS,
        *OF_AN_ENGINE,
        *failures(ErrorCode.TOO_LARGE, ErrorCode.PATH_NOT_ALLOWED),
        (HTTPStatus.REQUEST_TIMEOUT, "body_too_slow"),
    ],
    parameters=[
        query_parameter(name, _UPLOAD_ARGUMENTS[name]["description"], _UPLOAD_ARGUMENTS[name])
        for name in ("subfolder", "overwrite")
    ],
    requestBody={
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "image": {
                            "type": "string",
                            "contentMediaType": "application/octet-stream",
                            "description": "The file, with its name.",
                        }
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


def _mcp(name: str, summary: str, successes: Json, **more: Any) -> Json:
    """Errors of the protocol itself are JSON-RPC's, or text where the request was not even that."""
    of_protocol = {
        str(status.value): {
            **empty_response(f"{phrase_of(status)}: as MCP has it."),
            "content": {
                CONTENT_TYPE: {"schema": {"$ref": f"{SCHEMAS}Problem"}},
                "application/json": {"schema": {"type": "object"}},
                "*/*": {},
            },
        }
        for status in _MCP_STATUSES
    }
    not_there = empty_response("From 2026-07-28 on there are only messages: GET and DELETE are none.")
    operation = keyed(name, summary, "MCP", successes, known=_MCP_FAILURES, **more)
    return {**operation, "responses": operation["responses"] | of_protocol | {"405": not_there}}


_MCP_STATUSES = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.NOT_ACCEPTABLE,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.CONFLICT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
)

_MCP_VERSION = "The revision that is spoken."
_MCP_SESSION = header_parameter("Mcp-Session-Id", "Up to 2025-11-25: from the answer to initialize.")
_OF_A_SESSION = [header_parameter("MCP-Protocol-Version", _MCP_VERSION, example="2025-11-25"), _MCP_SESSION]

_MCP_MESSAGE = _mcp(
    "mcp_message",
    "MCP: a message",
    {
        "200": {
            **empty_response("A JSON-RPC message, or a stream of them."),
            "content": {
                "application/json": {"schema": {"type": "object"}},
                "text/event-stream": {},
            },
        },
        "202": {"description": "Taken; there is nothing to answer."},
    },
    description="Model Context Protocol over Streamable HTTP, both protocol eras. What it says is MCP's own "
    "specification.",
    parameters=[
        header_parameter("MCP-Protocol-Version", _MCP_VERSION, example=MCP_REVISION),
        header_parameter("Mcp-Method", "From 2026-07-28 on: the message's method.", example="tools/list"),
        _MCP_SESSION,
    ],
    requestBody={
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "object"},
                "example": MCP_EXAMPLE,
            }
        },
    },
)

CHANNELS: Mapping[tuple[str, str], Json] = MappingProxyType(
    {
        ("GET", f"{V1}/stream"): _STREAM,
        ("POST", f"{V1}/stream/ticket"): _TICKET,
        ("GET", f"{V1}/workflow/{{workflowId}}/events"): _EVENTS,
        ("GET", f"{V1}/events"): _ALL_EVENTS,
        (UPLOAD.method, UPLOAD.path): _UPLOAD,
        ("POST", "/mcp"): _MCP_MESSAGE,
        ("GET", "/mcp"): _mcp(
            "mcp_stream",
            "MCP: the session's stream",
            {"200": event_stream("Server-sent events.")},
            parameters=_OF_A_SESSION,
        ),
        ("DELETE", "/mcp"): _mcp(
            "mcp_end",
            "MCP: end a session",
            {"200": {"description": "It has ended."}},
            parameters=_OF_A_SESSION,
        ),
    }
)
"""By method and path."""
