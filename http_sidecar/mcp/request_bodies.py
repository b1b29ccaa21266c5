"""Requests of MCP whose bodies the SDK would parse on the event loop for too long, or not at all.

A large one is parsed in a thread before. Half a character, as a text has that was cut within an emoji,
becomes U+FFFD, as on stdio: a request must not fail because of one character.
"""

import json
import re
from typing import Any

from comfy_mcp.domain import large_json
from comfy_mcp.operations.beside import beside
from http_sidecar.mcp.asgi import AsgiApp, Message, Receive, Scope, Send

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""Escaped: a half, or one of two that are a character."""


def with_bodies_read(app: AsgiApp, most: int) -> AsgiApp:
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
    whole = b"".join(message.get("body", b"") for message in came)
    large = size > large_json.LARGE_BYTES
    if size <= most and came[-1]["type"] == "http.request" and (large or _SURROGATE.search(whole)):
        body, arguments = await beside(True, _apart, whole) if large else (_mended(whole), None)
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
    return _text(message), arguments


def _mended(body: bytes) -> bytes:
    """The request with whole characters; as it is where it is no JSON."""
    try:
        return _text(json.loads(body))
    except (ValueError, RecursionError):
        return body


def _text(message: object) -> bytes:
    return large_json.with_whole_characters(json.dumps(message, ensure_ascii=False)).encode()
