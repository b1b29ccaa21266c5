"""The streams' AsyncAPI 3.0 document, made from the message models."""

from collections.abc import Iterable
from functools import cache
from typing import Any, get_args

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from comfy_mcp import __version__
from http_sidecar.routes import V1
from http_sidecar.streams.messages import COMMANDS, SOCKET_MESSAGES, SSE_MESSAGES
from http_sidecar.streams.tickets import KEY_PREFIX, PROTOCOL

PATH = "/asyncapi.json"
_SCHEMAS = "#/components/schemas/"
_MESSAGES = "#/components/messages/"


async def document(request: web.Request) -> web.Response:
    return web.json_response(asyncapi_document())


@cache
def asyncapi_document() -> dict[str, Any]:
    """The same for every caller; do not change it."""
    sent = _unique((*SOCKET_MESSAGES, *SSE_MESSAGES))
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "comfy-mcp-bridge streams",
            "version": __version__,
            "description": "Workflows as they run. Times are epoch milliseconds; `seq` is the place in the "
            "event log, by which a client resumes.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "channels": {
            "stream": {
                "address": f"{V1}/stream",
                "description": "A WebSocket. Browsers show their key by a single-use ticket in the query, or "
                f"offer the subprotocols {PROTOCOL} and {KEY_PREFIX}<base64url of the key>.",
                "messages": _channel_messages((*COMMANDS, *SOCKET_MESSAGES)),
                "bindings": {"ws": {"method": "GET", "query": _TICKET_QUERY, "bindingVersion": "0.1.0"}},
            },
            "workflowEvents": {
                "address": f"{V1}/workflow/{{workflowId}}/events",
                "description": "Server-Sent Events of one workflow, to its end. Each event's id is its seq; "
                "Last-Event-ID brings what was missed.",
                "parameters": {"workflowId": {"description": "The id that the submit returned"}},
                "messages": _channel_messages(SSE_MESSAGES),
            },
            "allEvents": {
                "address": f"{V1}/events",
                "description": "Server-Sent Events of every workflow that the key may see, from now on; "
                "Last-Event-ID brings what was missed.",
                "messages": _channel_messages(SSE_MESSAGES),
            },
        },
        "operations": {
            "command": _operation("receive", "stream", COMMANDS),
            "follow": _operation("send", "stream", SOCKET_MESSAGES),
            "followOne": _operation("send", "workflowEvents", SSE_MESSAGES) | _BY_GET,
            "followAll": _operation("send", "allEvents", SSE_MESSAGES) | _BY_GET,
        },
        "components": {
            "messages": {model.__name__: _message(model) for model in (*COMMANDS, *sent)},
            "schemas": _schemas(COMMANDS, sent),
            "securitySchemes": {
                "apiKey": {"type": "httpApiKey", "name": "X-API-Key", "in": "header"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


_BY_GET = {"bindings": {"http": {"method": "GET", "bindingVersion": "0.3.0"}}}

_TICKET_QUERY = {
    "type": "object",
    "properties": {"ticket": {"type": "string", "description": f"From POST {V1}/stream/ticket"}},
}


def _unique(models: Iterable[type[BaseModel]]) -> tuple[type[BaseModel], ...]:
    return tuple(dict.fromkeys(models))


def _channel_messages(models: Iterable[type[BaseModel]]) -> dict[str, Any]:
    return {model.__name__: {"$ref": f"{_MESSAGES}{model.__name__}"} for model in models}


def _operation(action: str, channel: str, models: Iterable[type[BaseModel]]) -> dict[str, Any]:
    """`action` is the server's: it receives commands and sends messages."""
    at = f"#/channels/{channel}"
    return {
        "action": action,
        "channel": {"$ref": at},
        "messages": [{"$ref": f"{at}/messages/{model.__name__}"} for model in models],
        "security": [
            {"$ref": "#/components/securitySchemes/apiKey"},
            {"$ref": "#/components/securitySchemes/bearer"},
        ],
    }


def _message(model: type[BaseModel]) -> dict[str, Any]:
    described = (model.__doc__ or "").strip()
    (kind,) = get_args(model.model_fields["type"].annotation)
    return {
        "name": kind,
        "title": model.__name__,
        "payload": {"$ref": f"{_SCHEMAS}{model.__name__}"},
    } | ({"summary": " ".join(described.split())} if described else {})


def _schemas(taken: Iterable[type[BaseModel]], sent: Iterable[type[BaseModel]]) -> dict[str, Any]:
    _, ours = models_json_schema(
        [(model, "serialization") for model in sent], by_alias=True, ref_template=f"{_SCHEMAS}{{model}}"
    )
    _, theirs = models_json_schema(
        [(model, "validation") for model in taken], by_alias=True, ref_template=f"{_SCHEMAS}{{model}}"
    )
    return {**theirs["$defs"], **ours["$defs"]}
