"""Input files over HTTP: a multipart form, passed on to the engine as it comes."""

from aiohttp import web

from http_sidecar.door.forms import read_form
from http_sidecar.door.transfers import TRANSFERS
from http_sidecar.rest.calls import answer, call, query_of
from http_sidecar.routes import UPLOAD


async def upload(request: web.Request) -> web.Response:
    """201 with the engine's name for it. `subfolder` and `overwrite` come in the query, or in the form
    before the file. Raises InvalidInput, LimitExceeded, HTTPRequestTimeout, EngineFault."""
    with request.app[TRANSFERS].entered(request):
        fields, file = await read_form(request)
        arguments = {**fields, **query_of(request), "filename": file.filename}
        try:
            result = await call(request, UPLOAD.operation, arguments, content=file)
        except Exception:
            if file.timed_out:
                raise web.HTTPRequestTimeout from None
            raise
        return answer(UPLOAD, result)
