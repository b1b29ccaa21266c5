"""Request bodies: bounded in bytes and in time."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from comfy_mcp.domain import large_json
from comfy_mcp.domain.errors import InvalidInput
from comfy_mcp.domain.media_types import HEAD_BYTES, UNKNOWN, media_type_of
from http_sidecar.bounds import BOUNDS


async def read_json_object(request: web.Request) -> dict[str, Any]:
    """The body as a JSON object.

    Raises InvalidInput, HTTPRequestEntityTooLarge above `Bounds.body_bytes`, and HTTPRequestTimeout when it
    has not come within `Bounds.body_timeout_s`.
    """
    raw = await read_body(request)
    try:
        if len(raw) > large_json.LARGE_BYTES:
            parsed = await asyncio.to_thread(_parsed, raw)
        else:
            parsed = _parsed(raw)
    except (ValueError, RecursionError):
        advice = 'Send a JSON object, e.g. {"workflow": {…}}.'
        if media_type_of("", raw[:HEAD_BYTES]) != UNKNOWN:
            advice = "Send a file with its type, e.g. Content-Type: image/png."
        raise InvalidInput("The body is not valid JSON.", next_step=advice) from None
    if not isinstance(parsed, dict):
        raise InvalidInput(
            "The body is not a JSON object.", next_step='Send a JSON object, e.g. {"workflow": {…}}.'
        )
    return parsed


_FILE_TYPES = ("image/", "video/", "audio/", "application/octet-stream")
_CHUNK_BYTES = 64 * 1024
_BODY = web.RequestKey("body", bytes)
AT_ONCE = 64
"""Chunks that are read before others have their turn."""
IN_CRUMBS = web.RequestKey("in_crumbs", bool)
"""Of a request that was refused for its chunks: what else comes of it is not worth reading."""

CRUMB_BYTES, MOST_CRUMBS = 64, 1_024
"""The first MOST_CRUMBS chunks of a body may be smaller on average: some clients send JSON piece by piece."""


def is_file(request: web.Request) -> bool:
    """The body is a file, not a JSON object of arguments. Only a type that is stated says so."""
    return "Content-Type" in request.headers and request.content_type.startswith(_FILE_TYPES)


async def read_chunks(request: web.Request) -> AsyncIterator[bytes]:
    """The body as it comes; who reads it counts the bytes. Raises HTTPRequestTimeout for one that pauses."""
    while True:
        try:
            async with asyncio.timeout(request.app[BOUNDS].body_timeout_s):
                chunk = await request.content.read(_CHUNK_BYTES)
        except TimeoutError:
            raise web.HTTPRequestTimeout from None
        if not chunk:
            return
        yield chunk


async def read_body(request: web.Request) -> bytes:
    """All of it. Raises HTTPRequestEntityTooLarge, HTTPRequestTimeout, and InvalidInput for one in crumbs."""
    known: bytes | None = request.get(_BODY)
    if known is not None:
        return known
    bounds = request.app[BOUNDS]
    most = bounds.body_bytes
    if request.content_length is not None and request.content_length > most:
        raise web.HTTPRequestEntityTooLarge(max_size=most, actual_size=request.content_length)
    if request.content_length is not None and request.content.is_eof():  # all of it has come
        body = request[_BODY] = request.content.read_nowait()
        return body
    try:
        async with asyncio.timeout(bounds.body_timeout_s):
            body = request[_BODY] = await _read(request, most)
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    return body


async def _read(request: web.Request, most: int) -> bytes:
    """Each chunk takes its time, however few bytes it has."""
    body, chunks = bytearray(), 0
    async for data, _ in request.content.iter_chunks():
        body += data
        chunks += 1
        if not chunks % AT_ONCE:
            await asyncio.sleep(0)
        if len(body) > most:
            raise web.HTTPRequestEntityTooLarge(max_size=most, actual_size=len(body))
        if chunks > MOST_CRUMBS and len(body) < chunks * CRUMB_BYTES:
            request[IN_CRUMBS] = True
            raise InvalidInput(
                f"The body comes in chunks of less than {CRUMB_BYTES} bytes each.",
                next_step="Send it with a Content-Length, or in larger chunks.",
            )
    return bytes(body)


def _parsed(raw: bytes) -> Any:
    # RFC 8259 has no NaN, and Python's would come out again as something no other parser reads.
    text = raw.decode(json.detect_encoding(raw), "surrogatepass")
    return large_json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)
