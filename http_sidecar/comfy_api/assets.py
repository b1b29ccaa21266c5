"""Assets of Comfy API v2: files that clients upload ahead of their jobs, and the outputs of jobs."""

import contextlib
from http import HTTPStatus
from typing import Any

from aiohttp import web

from comfy_mcp.domain.access import Right
from comfy_mcp.domain.catalog import Output
from comfy_mcp.domain.errors import InvalidInput, NotFound
from comfy_mcp.operations.assets import Asset
from comfy_mcp.operations.context import Caller, require_right
from comfy_mcp.operations.outputs import Span
from comfy_mcp.operations.views import output_item
from http_sidecar.api_keys import link_caller, link_ended
from http_sidecar.app_state import BRIDGE, CALLER
from http_sidecar.bounds import BOUNDS
from http_sidecar.comfy_api.calls import Refused, output_json, signed
from http_sidecar.comfy_api.shapes import API, SignedUrl, output_asset, uploaded
from http_sidecar.door.bodies import read_json_object
from http_sidecar.door.conditions import Part, Whole, decide
from http_sidecar.door.file_answers import SAFE, disposition, without_body
from http_sidecar.door.forms import read_form
from http_sidecar.door.slow_clients import ClientTooSlow, write_within
from http_sidecar.door.transfers import transfer

CONTENT = f"{API}/assets/{{assetId}}/content"
UNKNOWN_TYPE = "application/octet-stream"


async def create(request: web.Request) -> web.Response:
    """201 with the asset. `content_type`, `file_path` and `expected_hash` come in the form before the file.

    Raises InvalidInput, LimitExceeded, Denied, HTTPRequestTimeout, Refused.
    """
    with transfer(request):
        fields, file = await read_form(request)
        try:
            made = await request.app[BRIDGE].assets.add(
                file,
                request[CALLER],
                name=fields.get("file_path") or file.filename,
                media_type=_media_type(fields.get("content_type")),
                expected=fields.get("expected_hash") or None,
            )
        except InvalidInput:
            if file.timed_out:
                raise web.HTTPRequestTimeout from None
            raise
    if made is None:
        raise Refused(
            HTTPStatus.CONFLICT,
            "hash_mismatch",
            "The bytes have another hash than expected_hash.",
            "Send the file again.",
        )
    asset, new = made
    return _answer(request, asset, status=HTTPStatus.CREATED, created_new=new)


async def from_hash(request: web.Request) -> web.Response:
    """201 with the caller's asset that has this content, under another name if one is given."""
    body = await read_json_object(request)
    found, name = body.get("hash"), body.get("file_path")
    assets = request.app[BRIDGE].assets
    asset = await assets.of_hash(found, request[CALLER]) if isinstance(found, str) else None
    if asset is None:
        raise Refused(
            HTTPStatus.NOT_FOUND, "blob_not_found", "You have uploaded no such file.", "Upload the file."
        )
    if isinstance(name, str) and name not in {"", asset.name}:
        asset = await assets.renamed(asset, name)
    return _answer(request, asset, status=HTTPStatus.CREATED, created_new=False)


async def by_hash(request: web.Request) -> web.Response:
    """HEAD: whether the caller has an asset with this content."""
    asset = await request.app[BRIDGE].assets.of_hash(request.match_info["hash"], request[CALLER])
    return web.Response(status=HTTPStatus.NOT_FOUND if asset is None else HTTPStatus.OK)


async def get(request: web.Request) -> web.Response:
    found = await _find(request)
    if isinstance(found, Asset):
        return _answer(request, found)
    made = await output_json(request, output_item(found))
    return web.json_response(output_asset(made, found.created_at))


async def delete(request: web.Request) -> web.Response:
    found = await _find(request)
    if not isinstance(found, Asset):
        raise Refused(
            HTTPStatus.CONFLICT,
            "asset_in_use",
            "The asset is an output of a job.",
            "It is deleted with its job, by COMFY_BRIDGE_RETENTION_DAYS.",
        )
    await request.app[BRIDGE].assets.delete(found, request[CALLER])
    return web.Response(status=HTTPStatus.NO_CONTENT)


async def content(request: web.Request) -> web.StreamResponse:
    """To a URL that needs no key and answers ranges: an output has one, and an upload this one, signed.

    Raises Denied for an output's own link: it would be answered with a newer one, and so never end.
    """
    found = await _find(request)
    if "signature" not in request.query:
        return _elsewhere(_url(request, found)[0])
    if not isinstance(found, Asset):
        raise link_ended()
    headers = {
        **SAFE,
        "Content-Disposition": disposition(found.name),
        "Cache-Control": "private, no-cache",
        "Accept-Ranges": "bytes",
        "ETag": f'"{found.hash}"',
    }
    decision = decide(request.method, request.headers, etag=headers["ETag"], size=found.size)
    if not isinstance(decision, Whole | Part):
        return without_body(request, decision, headers, found.size)
    with transfer(request):
        return await _send(request, found, decision, headers)


async def _send(
    request: web.Request, asset: Asset, decision: Whole | Part, headers: dict[str, str]
) -> web.StreamResponse:
    span = decision.span if isinstance(decision, Part) else Span(start=0, stop=asset.size)
    response = web.StreamResponse(status=206 if isinstance(decision, Part) else 200, headers=headers)
    response.content_type, response.content_length = asset.media_type, len(span)
    if isinstance(decision, Part):
        response.headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{asset.size}"
    async with request.app[BRIDGE].assets.open(asset, span) as chunks:
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        with contextlib.suppress(ClientTooSlow):
            async for chunk in chunks:
                await write_within(
                    request.app[BOUNDS].send_timeout_s, response.write(chunk), cut=request.transport
                )
            await response.write_eof()
    return response


async def identify(request: web.Request) -> Caller | None:
    """Who opens a signed link: somebody who may read this one asset, and came without a key."""
    resource = request.match_info.route.resource
    signature, expires = request.query.get("signature"), request.query.get("expires")
    if resource is None or resource.canonical != CONTENT or signature is None or expires is None:
        return None
    asset_id = request.match_info["assetId"]
    if not request.app[BRIDGE].outputs.link_allows(asset_id, expires, signature):
        return None
    return link_caller(asset_id)


async def _find(request: web.Request) -> Asset | Output:
    """Raises Denied, NotFound."""
    caller, bridge = request[CALLER], request.app[BRIDGE]
    require_right(caller, Right.READ, "An asset")
    asset_id = request.match_info["assetId"]
    try:
        return await bridge.outputs.find(asset_id, caller)
    except NotFound:
        return await bridge.assets.find(asset_id, caller)


def _elsewhere(url: str) -> web.Response:
    return web.Response(status=HTTPStatus.FOUND, headers={"Location": url, "Cache-Control": "no-store"})


def _url(request: web.Request, found: Asset | Output) -> SignedUrl:
    if isinstance(found, Asset):
        return signed(request, CONTENT.replace("{assetId}", found.id), found.id)
    return signed(request, output_item(found).url, found.id)


def _answer(request: web.Request, asset: Asset, *, status: int = 200, **more: Any) -> web.Response:
    return web.json_response(uploaded(asset, _url(request, asset)) | more, status=status)


def _media_type(given: str | None) -> str:
    """As the client says, where that is one: it becomes a header."""
    text = (given or "").strip()
    plain = text.isascii() and text.isprintable() and len(text) <= 100 and text.count("/") == 1
    return text if plain else UNKNOWN_TYPE
