"""The bytes of outputs: streamed, in parts, and only when they have changed.

The ETag is the content's SHA-256, so it is strong. Small outputs are read, checked against it and then sent.
Larger ones are streamed; the first time nobody knows their hash: it is computed on the way, and a request
that depends on it has them read through first. Bytes that turn out to be others than the ETag's are cut off.
"""

import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Mapping

import structlog
from aiohttp import web

from comfy_mcp.domain.access import Right
from comfy_mcp.domain.catalog import Output
from comfy_mcp.domain.errors import BridgeError, InvalidInput
from comfy_mcp.operations.context import Caller, require_right
from comfy_mcp.operations.outputs import OutputContent, Span, replaced
from comfy_mcp.operations.shapes import PreviewResult, ViewOutputParams
from http_sidecar.api_keys import link_caller
from http_sidecar.app_state import BRIDGE, CALLER
from http_sidecar.bounds import BOUNDS
from http_sidecar.door.conditions import (
    CONDITIONAL,
    Part,
    Whole,
    decide,
)
from http_sidecar.door.file_answers import SAFE, disposition, without_body
from http_sidecar.door.slow_clients import ClientTooSlow, write_within
from http_sidecar.door.transfers import transfer
from http_sidecar.rest.calls import call, query_of
from http_sidecar.rest.direct import send_directly
from http_sidecar.routes import Route

log = structlog.get_logger(__name__)

IN_MEMORY_BYTES = 2 * 2**20
"""Up to here an output is read before it is sent: most pictures are smaller."""

_BOX = re.compile(r"([0-9]{1,5})(?:x([0-9]{1,5}))?")


async def output_bytes(request: web.Request, route: Route) -> web.StreamResponse:
    """GET and HEAD. `?preview=WxH` (or one number for both) gives a small picture of an image instead."""
    output = await _visible(request, route)
    if (asked := query_of(request).get("preview")) is not None:
        return await _send_preview(request, output, _box_of(asked))
    return await _send(request, output)


async def identify(request: web.Request) -> Caller | None:
    """Who opens a signed link: somebody who may read this one output, and came without a key."""
    output_id = request.match_info.get("outputId")
    signed = request.query.get("expires"), request.query.get("signature")
    if output_id is None or None in signed or request.method not in {"GET", "HEAD"}:
        return None
    resource = request.match_info.route.resource
    if resource is None or not resource.canonical.endswith("/output/{outputId}"):
        return None
    if not request.app[BRIDGE].outputs.link_allows(output_id, str(signed[0]), str(signed[1])):
        return None
    return link_caller(output_id)


async def preview_bytes(request: web.Request, route: Route) -> web.StreamResponse:
    """GET and HEAD: a small picture of an image, its longest side at most `?maxPx`."""
    output = await _visible(request, route)
    params: ViewOutputParams = route.of.parse({**query_of(request), "output_id": output.id})
    side = params.max_px
    return await _send_preview(request, output, None if side is None else (side, side))


async def live_preview(request: web.Request, route: Route) -> web.StreamResponse:
    """GET and HEAD: the last picture that the engine sent of a running workflow."""
    frame: PreviewResult = await call(request, route.operation, request.match_info)
    return _picture(request, frame.data, frame.media_type)


async def _visible(request: web.Request, route: Route) -> Output:
    """By id, or the newest of that file name; only what the caller may see. Raises Denied, NotFound."""
    caller = request[CALLER]
    require_right(caller, Right.READ, route.operation)
    return await request.app[BRIDGE].outputs.find(request.match_info["outputId"], caller)


async def _send(request: web.Request, output: Output) -> web.StreamResponse:
    files = request.app[BRIDGE].outputs
    if output.sha256 is not None:  # what needs no bytes is answered without any
        early = decide(request.method, request.headers, etag=_etag(output.sha256), size=output.size)
        if not isinstance(early, Whole | Part):
            return without_body(request, early, _headers(output, output.sha256), output.size)
    content = await files.read_small(output, limit=IN_MEMORY_BYTES)
    if content is not None:
        sha256 = output.sha256 or files.hash_of_data(output, content.data)
        headers = _headers(output, sha256)
        return _from_memory(request, content.data, content.media_type, headers, _etag(sha256))
    with transfer(request):
        return await _send_large(request, output)


async def _send_large(request: web.Request, output: Output) -> web.StreamResponse:
    files = request.app[BRIDGE].outputs
    size, sha256_known = await files.size(output), output.sha256
    if sha256_known is None and any(name in request.headers for name in CONDITIONAL):
        sha256_known = await files.hash_of(output)
    etag = None if sha256_known is None else _etag(sha256_known)
    decision = decide(request.method, request.headers, etag=etag, size=size)
    if isinstance(decision, Whole | Part):
        return await _stream(request, output, decision, sha256_known)
    return without_body(request, decision, _headers(output, sha256_known), size)


def _from_memory(
    request: web.Request, data: bytes, media_type: str, headers: Mapping[str, str], etag: str
) -> web.Response:
    decision = decide(request.method, request.headers, etag=etag, size=len(data))
    match decision:
        case Whole():
            return web.Response(body=data, content_type=media_type, headers=headers)
        case Part(span=span):
            return web.Response(
                status=206,
                body=data[span.start : span.stop],
                content_type=media_type,
                headers={**headers, "Content-Range": f"bytes {span.start}-{span.stop - 1}/{len(data)}"},
            )
        case _:
            return without_body(request, decision, headers, len(data))


async def _stream(
    request: web.Request, output: Output, decision: Whole | Part, sha256: str | None
) -> web.StreamResponse:
    part = decision.span if isinstance(decision, Part) else None
    files = request.app[BRIDGE].outputs
    async with files.open(output, part=part) as content:
        response = web.StreamResponse(
            status=200 if part is None else 206,
            headers=_headers(output, sha256, sized=content.size is not None),
        )
        response.content_type = content.media_type
        response.content_length = content.size if part is None else len(part)
        if part is not None:
            response.headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{content.size}"
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        with contextlib.suppress(ClientTooSlow):
            if not await _directly(request, response, output, content, part, sha256):
                chunks = content.chunks if part is not None else files.checked(output, content, sha256)
                sent = await _write(request, response, chunks)
                if sent < (response.content_length or 0):  # the client would wait for the rest
                    raise replaced(output)
            await response.write_eof()
        return response


async def _directly(
    request: web.Request,
    response: web.StreamResponse,
    output: Output,
    content: OutputContent,
    part: Span | None,
    sha256: str | None,
) -> bool:
    """Whether the kernel has sent it. The whole of a file must have been hashed before."""
    file, length = content.file, response.content_length
    if length is None:
        return False
    if part is not None:
        return await send_directly(response, request, content, length, check=None)
    if file is None or not file.was_hashed_as(sha256):
        return False

    async def check() -> BridgeError | None:
        return None if await file.still_holds(sha256) else replaced(output)

    return await send_directly(response, request, content, length, check=check)


async def _write(request: web.Request, response: web.StreamResponse, chunks: AsyncIterator[bytes]) -> int:
    """Bytes sent. One chunk is buffered and no more: a slow client slows the reading down.

    Raises ClientTooSlow.
    """
    limit_s, sent = request.app[BOUNDS].send_timeout_s, 0
    async for chunk in chunks:
        await write_within(limit_s, response.write(chunk), cut=request.transport)
        sent += len(chunk)
    return sent


async def _send_preview(
    request: web.Request, output: Output, box: tuple[int, int] | None
) -> web.StreamResponse:
    preview = await request.app[BRIDGE].outputs.preview(
        output, request[CALLER], box=box, max_px=None if box is None else max(16, *box)
    )
    return _picture(request, preview.data, preview.media_type)


def _picture(request: web.Request, data: bytes, media_type: str) -> web.Response:
    etag = _etag(hashlib.sha256(data).hexdigest())
    headers = SAFE | {"ETag": etag, "Cache-Control": "private, no-cache"}
    return _from_memory(request, data, media_type, headers, etag)


def _box_of(asked: str) -> tuple[int, int]:
    found = _BOX.fullmatch(asked)
    width, height = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not (0 < width <= 4096 and 0 < height <= 4096):
        raise InvalidInput(
            "preview must be WIDTHxHEIGHT, each 1 to 4096 pixels.",
            next_step="Use for example ?preview=512x512.",
        )
    return width, height


def _headers(output: Output, sha256: str | None, *, sized: bool = True) -> dict[str, str]:
    headers = SAFE | {
        # An id's content never changes; a name may mean another output tomorrow.
        "Cache-Control": "private, no-cache",
        "Content-Disposition": disposition(output.file.filename or f"{output.id}.txt"),
    }
    if sized:
        headers["Accept-Ranges"] = "bytes"
    if sha256 is not None:
        headers["ETag"] = _etag(sha256)
    return headers


def _etag(sha256: str) -> str:
    return f'"{sha256}"'
