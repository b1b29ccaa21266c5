"""Large requests of MCP. The SDK parses a body on the event loop; here a thread does it before."""

import json
from typing import Any

from comfy_mcp.domain import large_json
from comfy_mcp.operations.beside import beside
from http_sidecar.mcp.asgi import AsgiApp, Message, Receive, Scope, Send


def with_large_bodies(app: AsgiApp, most: int) -> AsgiApp:
    """`app`, which gets large tool calls without their arguments: these are in the scope's state.

    Bodies of more than `most` bytes are the application's, to refuse.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST":
            receive = await _read(scope, receive, most)
        await app(scope, receive, send)

    return answer


async def _read(scope: Scope, receive: Receive, most: int) -> Receive:
    """What the application receives, after the body has come."""
    came: list[Message] = []
    size, more = 0, True
    while more and size <= most:
        came.append(await receive())
        size += len(came[-1].get("body", b""))
        more = came[-1].get("more_body", False)
    if large_json.LARGE_BYTES < size <= most and came[-1]["type"] == "http.request":
        body, arguments = await beside(True, _apart, b"".join(message["body"] for message in came))
        if arguments is not None:
            scope["state"]["arguments"] = arguments
        length = (b"content-length", b"%d" % len(body))
        scope["headers"] = [each for each in scope["headers"] if each[0] != length[0]] + [length]
        came = [{"type": "http.request", "body": body, "more_body": False}]
    came.reverse()

    async def again() -> Message:
        return came.pop() if came else await receive()

    return again


def _apart(body: bytes) -> tuple[bytes, dict[str, Any] | str | None]:
    """The request without the arguments of its tool call, and these. What is no such request stays wrong, in
    a few bytes."""
    try:
        message = large_json.loads(body.decode(json.detect_encoding(body), "surrogatepass"))
    except (ValueError, RecursionError):
        return b"{", None
    params = message.get("params") if isinstance(message, dict) else None
    arguments = params.get("arguments") if isinstance(params, dict) else None
    if not isinstance(params, dict) or not isinstance(arguments, dict | str):
        arguments = None
    else:
        params["arguments"] = {}
    if large_json.is_large(message):
        return b"[]", None
    return json.dumps(message).encode(), arguments
