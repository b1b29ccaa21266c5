"""Submit over HTTP: where the job is, a bounded wait when asked for, and safe repeats."""

from typing import Any

from aiohttp import web

from comfy_mcp.domain.access import Right
from comfy_mcp.operations.models import WorkflowResult
from comfy_mcp.operations.registry import BY_NAME
from http_sidecar.keys import CALLER, SETTINGS
from http_sidecar.preferences import idempotency_key, wanted_wait_s
from http_sidecar.rest import answer, arguments_of, call, context_of
from http_sidecar.routes import V1, Route


async def submit(request: web.Request, route: Route) -> web.Response:
    """202 with the job's place, at once; with `Prefer: wait=N` its state at the end, or after N seconds.

    Then 200 says that it has ended and 202 that it goes on. A client that leaves meanwhile ends nothing.
    """
    arguments = await arguments_of(request, route)
    if (key := idempotency_key(request.headers.get("Idempotency-Key"))) is not None:
        arguments["idempotency_key"] = key
    submitted = await call(request, route, arguments)
    headers = {"Location": f"{V1}/workflow/{submitted.workflow_id}"}
    wanted = wanted_wait_s(request.headers.get("Prefer"))
    if wanted is None or Right.READ not in request[CALLER].rights:
        return answer(route, submitted, headers=headers)
    wait_s = min(wanted, int(request.app[SETTINGS].prefer_wait_max_s))
    state = await _state_after(request, submitted.workflow_id, wait_s)
    headers["Preference-Applied"] = f"wait={wait_s}"
    ended = state.status not in {"queued", "running"}
    return answer(route, state, headers=headers, status=200 if ended else None)


async def _state_after(request: web.Request, workflow_id: str, wait_s: int) -> WorkflowResult:
    arguments: dict[str, Any] = {"workflow_id": workflow_id, "timeout_s": wait_s}
    state: WorkflowResult = await BY_NAME["wait_for_workflow"].call(context_of(request), arguments)
    return state
