"""What the handlers of this wing share: a call of an operation, URLs that need no key, a job's JSON."""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web

from comfy_mcp.domain.errors import BridgeError
from comfy_mcp.operations.shapes import OutputItem, WorkflowResult
from http_sidecar.app_state import BRIDGE, CALLER, DRAIN, SETTINGS
from http_sidecar.comfy_api.shapes import Json, SignedUrl, job, output
from http_sidecar.door.problems import problem

Handling = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refused(Exception):
    """What this contract refuses by a code of its own, which no operation has."""

    def __init__(self, status: HTTPStatus, code: str, message: str, next_step: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.next_step = next_step


def refusing(handler: Handling) -> Handling:
    """The handler, with Refused as an answer."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refused as why:
            return problem(
                why.status, why.message, code=why.code, next_step=why.next_step, instance=request.path
            )

    return handle


async def call(request: web.Request, operation: str, arguments: Mapping[str, Any]) -> Any:
    """The operation's Result. Raises BridgeError."""
    return await request.app[BRIDGE].call(
        operation, arguments, caller=request[CALLER], leaving=request.app[DRAIN]
    )


async def state(request: web.Request, job_id: str) -> WorkflowResult:
    """Raises NotFound."""
    found: WorkflowResult = await call(request, "workflow_status", {"workflow_id": job_id})
    return found


async def job_json(request: web.Request, result: WorkflowResult) -> Json:
    return job(
        result,
        [await output_json(request, item) for item in result.outputs],
        now_ms=request.app[BRIDGE].now_ms(),
        retention_days=request.app[SETTINGS].retention_days,
    )


async def output_json(request: web.Request, item: OutputItem) -> Json:
    return output(item, await _size(request, item), signed(request, item.url, item.output_id))


async def _size(request: web.Request, item: OutputItem) -> int:
    """Right after the end of a job the store may not know it yet; 0 for an output that is gone."""
    if item.size is not None:
        return item.size
    outputs = request.app[BRIDGE].outputs
    try:
        return await outputs.size(await outputs.find(item.output_id, request[CALLER])) or 0
    except BridgeError:
        return 0


def signed(request: web.Request, path: str, file_id: str) -> SignedUrl:
    """An absolute URL of the file at `path` that needs no key for a while."""
    query, ends = request.app[BRIDGE].outputs.link(file_id)
    base = request.app[SETTINGS].public_url or str(request.url.origin())
    return f"{base}{path}?{query}", ends
