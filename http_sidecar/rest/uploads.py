"""Input files over HTTP: a multipart form, passed on to the engine as it comes."""

from dataclasses import replace

from aiohttp import web

from comfy_mcp.domain.access import Right
from comfy_mcp.operations.context import Caller
from http_sidecar.api_keys import identity_of
from http_sidecar.app_state import KEY_RING
from http_sidecar.door.forms import read_form
from http_sidecar.door.tickets import UPLOADS
from http_sidecar.door.transfers import transfer
from http_sidecar.rest.calls import answer, call, query_of
from http_sidecar.routes import UPLOAD

TICKET = "ticket"


async def identify(request: web.Request) -> Caller | None:
    """Who sends a file with a ticket (`?ticket=…`): the client that got it, for this file only."""
    ticket = request.query.get(TICKET)
    if ticket is None or (request.method, request.path) != (UPLOAD.method, UPLOAD.path):
        return None
    caller = request.app[UPLOADS].redeem(ticket)
    if caller is None or not await request.app[KEY_RING].counts(identity_of(caller)):
        return None
    return replace(caller, rights=caller.rights & {Right.SUBMIT})


async def upload(request: web.Request) -> web.Response:
    """201 with the engine's name for it. `subfolder` and `overwrite` come in the query, or in the form
    before the file. Raises InvalidInput, LimitExceeded, HTTPRequestTimeout, EngineFault."""
    with transfer(request):
        fields, file = await read_form(request)
        given = {name: value for name, value in query_of(request).items() if name != TICKET}
        arguments = {**fields, **given, "filename": file.filename}
        try:
            result = await call(request, UPLOAD.operation, arguments, content=file)
        except Exception:
            if file.timed_out:
                raise web.HTTPRequestTimeout from None
            raise
        return answer(UPLOAD, result)
