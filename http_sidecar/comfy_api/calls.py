"""What the handlers of this wing share: a call of an operation, URLs that need no key, a job's JSON."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from aiohttp import web

from comfy_mcp.domain import large_json
from comfy_mcp.domain.errors import BridgeError
from comfy_mcp.operations.beside import beside
from comfy_mcp.operations.shapes import OutputItem, WorkflowResult
from http_sidecar.app_state import BRIDGE, CALLER, DRAIN, SETTINGS
from http_sidecar.comfy_api.shapes import API, Json, SignedUrl, job, output
from http_sidecar.door.problems import problem

MANY = 200
"""Outputs of a job whose JSON takes milliseconds."""

SIZES_ASKED, SIZES_S = 64, 2.0
"""Files that one answer asks for at most, and for how long: each may be a request to an engine."""

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


async def job_answer(
    request: web.Request, result: WorkflowResult, *, status: int = HTTPStatus.OK
) -> web.Response:
    """The job. What is written of thousands of outputs is written beside the event loop."""
    asked = Sizes(request)
    sizes = [await asked.of(item) for item in result.outputs]
    large = len(sizes) > MANY
    text = await beside(large, _job_text, request, result, sizes, large=large)
    headers = {"Location": f"{API}/jobs/{result.workflow_id}"} if status == HTTPStatus.CREATED else {}
    return web.Response(text=text, status=status, content_type="application/json", headers=headers)


def _job_text(request: web.Request, result: WorkflowResult, sizes: Sequence[int], *, large: bool) -> str:
    made = job(
        result,
        [_output(request, item, size) for item, size in zip(result.outputs, sizes, strict=True)],
        now_ms=request.app[BRIDGE].now_ms(),
        retention_days=request.app[SETTINGS].retention_days,
    )
    return large_json.dumps(made, large=large)


async def output_json(request: web.Request, item: OutputItem, sizes: "Sizes | None" = None) -> Json:
    """`sizes`: of the answer that it is a part of."""
    return _output(request, item, await (sizes or Sizes(request)).of(item))


def _output(request: web.Request, item: OutputItem, size: int) -> Json:
    return output(item, size, signed(request, item.url, item.output_id))


class Sizes:
    """Those of the outputs in one answer. Right after the end of a job the store may not know them yet: then
    some are asked for, and the next answer has more. 0: not asked for, or gone."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._left = SIZES_ASKED
        self._until = asyncio.get_running_loop().time() + SIZES_S

    async def of(self, item: OutputItem) -> int:
        if item.size is not None or not self._left:
            return item.size or 0
        self._left -= 1
        outputs = self._request.app[BRIDGE].outputs
        try:
            async with asyncio.timeout_at(self._until):
                return await outputs.size(await outputs.find(item.output_id, self._request[CALLER])) or 0
        except (BridgeError, TimeoutError):
            return 0


def signed(request: web.Request, path: str, file_id: str) -> SignedUrl:
    """An absolute URL of the file at `path` that needs no key for a while."""
    query, ends = request.app[BRIDGE].outputs.link(file_id)
    base = request.app[SETTINGS].public_url or str(request.url.origin())
    return f"{base}{path}?{query}", ends
