"""Submit and retry over HTTP: where the job is, a bounded wait when asked for, and safe repeats."""

from collections.abc import AsyncIterator
from typing import Any

import structlog
from aiohttp import web

from comfy_mcp.domain.access import Right
from comfy_mcp.domain.errors import BridgeError, ErrorCode, LimitExceeded
from comfy_mcp.operations.shapes import DryRunResult, WorkflowResult
from http_sidecar.app_state import CALLER, SETTINGS
from http_sidecar.bounds import BOUNDS
from http_sidecar.door.bodies import is_file, read_body, read_chunks
from http_sidecar.door.preferences import idempotency_key, wanted_wait_s
from http_sidecar.rest.calls import answer, arguments_of, call, query_of
from http_sidecar.routes import V1, Route

log = structlog.get_logger(__name__)

_FLAGS = frozenset({"dryRun", "dry_run"})
_TRUTH = {"true": True, "1": True, "false": False, "0": False}
"""What a query says in words, and a JSON body as it is."""


async def submit(request: web.Request, route: Route) -> web.Response:
    """202 with the job's place, at once; with `Prefer: wait=N` its state at the end, or after N seconds.

    Then 200 says that it has ended and 202 that it goes on. A client that leaves meanwhile ends nothing.
    A body that is a file instead of arguments is the workflow; the arguments are in the query then.
    """
    content: AsyncIterator[bytes] | None = None
    if route.body and is_file(request):
        arguments: dict[str, Any] = dict(query_of(request))
        content = read_chunks(request)
    else:
        if route.body:
            await _refuse_large(request)
        arguments = await arguments_of(request, route)
    for name in _FLAGS & request.query.keys():
        arguments[name] = _TRUTH.get(request.query[name], request.query[name])
    if (key := idempotency_key(request.headers.get("Idempotency-Key"))) is not None:
        arguments["idempotency_key"] = key
    submitted = await call(request, route.operation, arguments, content=content)
    if isinstance(submitted, DryRunResult):
        return answer(route, submitted, status=200)
    headers = {"Location": f"{V1}/workflow/{submitted.workflow_id}"}
    wanted = wanted_wait_s(request.headers.get("Prefer"))
    if wanted is None or Right.READ not in request[CALLER].rights:
        return answer(route, submitted, headers=headers)
    wait_s = min(wanted, int(request.app[BOUNDS].prefer_wait_s))
    waiting = {"workflow_id": submitted.workflow_id, "timeout_s": wait_s}
    try:
        state: WorkflowResult = await call(request, "wait_for_workflow", waiting)
    except BridgeError as error:  # it is submitted all the same
        log.warning("wait_failed", job_id=submitted.workflow_id, code=error.code.value)
        return answer(route, submitted, headers=headers)
    headers["Preference-Applied"] = f"wait={wait_s}"
    ended = state.status not in {"queued", "running"}
    return answer(route, state, headers=headers, status=200 if ended else None)


TEXT_FACTOR = 1.5
"""A workflow that is JSON text within the body is longer there than by itself."""


async def _refuse_large(request: web.Request) -> None:
    """Before the body is parsed. Raises LimitExceeded (`too_large`)."""
    body, limit = await read_body(request), request.app[SETTINGS].max_graph_bytes
    if len(body) <= limit * TEXT_FACTOR:
        return
    size = len(body.translate(None, b" \t\r\n"))
    if size > limit * TEXT_FACTOR:
        raise LimitExceeded(
            f"The body has {size} bytes; the limit of a workflow is {limit}.",
            next_step="Upload large inputs as files, or raise COMFY_BRIDGE_MAX_GRAPH_BYTES.",
            code=ErrorCode.TOO_LARGE,
        )
