"""Errors in the shape of Comfy API v2: whatever goes wrong below /api/v2, at the door or behind it."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web

from comfy_mcp.domain.errors import ErrorCode
from http_sidecar.comfy_api.shapes import API, Json
from http_sidecar.door.next_steps import in_requests
from http_sidecar.door.problems import ADVICE, ERROR_CODE

RETRY_S = "5"

_CODES: Mapping[str, tuple[str, HTTPStatus | None]] = {
    ErrorCode.GRAPH_INVALID: ("invalid_workflow", HTTPStatus.UNPROCESSABLE_ENTITY),
    ErrorCode.GRAPH_UI_FORMAT: ("workflow_format_ui", HTTPStatus.UNPROCESSABLE_ENTITY),
    ErrorCode.IDEMPOTENCY_MISMATCH: ("idempotency_key_reuse", HTTPStatus.UNPROCESSABLE_ENTITY),
    ErrorCode.WORKFLOW_NOT_FOUND: ("not_found", None),
    ErrorCode.OUTPUT_GONE: ("blob_not_found", HTTPStatus.NOT_FOUND),
    ErrorCode.UNAUTHENTICATED: ("unauthorized", None),
    ErrorCode.BUDGET_SPENT: ("insufficient_credits", None),
    # Their clients wait and try again after a 429, and after nothing else.
    ErrorCode.QUEUE_FULL: ("queue_full", HTTPStatus.TOO_MANY_REQUESTS),
    ErrorCode.SHUTTING_DOWN: ("deployment_not_ready", HTTPStatus.TOO_MANY_REQUESTS),
    ErrorCode.STORE_UNAVAILABLE: ("deployment_not_ready", HTTPStatus.TOO_MANY_REQUESTS),
    ErrorCode.TOO_MANY_STREAMS: ("queue_full", HTTPStatus.TOO_MANY_REQUESTS),
}
"""The contract's code and status where they differ from the bridge's; None: its own status."""

REQUESTS: Mapping[str, str] = {
    "submit_workflow": f"POST {API}/jobs",
    "list_workflows": f"GET {API}/jobs",
    "workflow_status": f"GET {API}/jobs/{{workflowId}}",
    "wait_for_workflow": f"GET {API}/jobs/{{workflowId}}/events",
    "workflow_graph": f"GET {API}/jobs/{{workflowId}}/workflow",
    "cancel_workflow": f"POST {API}/jobs/{{workflowId}}/cancel",
}
"""What this contract has of the operations that advice names; the others are the bridge's own."""


def in_envelope(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """An error as the clients of its route know it."""
    code = response.get(ERROR_CODE)
    if code is None or not request.path.startswith(f"{API}/") or not isinstance(response, web.Response):
        return response
    body = json.loads(response.text or "{}")
    name, status = _CODES.get(code, (code, HTTPStatus(response.status)))
    message = body["detail"]
    if (advice := response.get(ADVICE)) is not None:
        message = message.removesuffix(body["nextStep"]) + in_requests(advice, REQUESTS)
    response.text = json.dumps({"error": {"code": name, "message": message, "details": _details(body)}})
    response.content_type = "application/json"
    response.set_status(status or response.status)
    if response.status == HTTPStatus.TOO_MANY_REQUESTS:
        response.headers.setdefault("Retry-After", RETRY_S)
    return response


def _details(body: Mapping[str, Any]) -> Json | None:
    """`node_errors` by node, as the contract has them, and how it is said elsewhere."""
    problems = body.get("problems")
    if not problems:
        return None
    nodes: dict[str, list[Json]] = {}
    for fault in problems:
        nodes.setdefault(str(fault.get("nodeId") or ""), []).append(
            {"field": fault.get("inputName"), "reason": fault["kind"], "message": fault["message"]}
        )
    return {"node_errors": nodes}
