"""Every error below /api/v2 has the contract's shape, and none elsewhere does."""

import pytest
from aiohttp import web

from comfy_mcp.domain.errors import ErrorCode
from http_sidecar.app_state import IDENTIFIERS
from http_sidecar.comfy_api import endpoints
from http_sidecar.comfy_api.envelope import _CODES, REQUESTS
from http_sidecar.door.next_steps import in_requests
from tests.http_sidecar.comfy_api.conftest import API, HEADERS
from tests.support.sidecar import Sidecar


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("GET", f"{API}/nowhere", HEADERS, 404, "route_not_found"),
        ("PUT", f"{API}/jobs", HEADERS, 405, "method_not_allowed"),
        ("GET", f"{API}/jobs", {}, 401, "unauthorized"),
        ("GET", f"{API}/jobs", {"Authorization": "Bearer x"}, 401, "unauthorized"),
        ("POST", f"{API}/jobs", HEADERS | {"Content-Encoding": "gzip"}, 415, "content_encoding"),
        ("POST", f"{API}/jobs", HEADERS | {"Idempotency-Key": "x" * 999}, 400, "invalid_argument"),
    ],
)
async def test_an_error_has_a_code_and_a_message(
    v2: Sidecar, method: str, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    body = b'{"workflow": {}}' if method == "POST" else None
    answer = await v2(method, path, headers=headers, data=body)
    assert answer.status == status
    assert set(answer.body) == {"error"}
    assert answer.body["error"]["code"] == code
    assert answer.body["error"]["details"] is None


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"{API}/jobs/nothing"),
        ("GET", f"{API}/jobs/nothing/workflow"),
        ("POST", f"{API}/jobs/nothing/cancel"),
        ("GET", f"{API}/jobs/nothing/events"),
    ],
)
async def test_a_job_that_is_not_there_names_a_request_of_this_contract(
    v2: Sidecar, method: str, path: str
) -> None:
    answer = await v2(method, path, headers=HEADERS)
    assert answer.status == 404
    message = answer.body["error"]["message"]
    assert message.startswith("Workflow nothing not found. GET /api/v2/jobs for existing ids")
    assert "/v1/" not in message


def test_each_request_that_advice_names_is_a_route() -> None:
    app = web.Application()
    app[IDENTIFIERS] = []
    endpoints.setup(app)
    routes = {f"{each.method} {each.resource.canonical}" for each in app.router.routes() if each.resource}
    named = {each.replace("{workflowId}", "{jobId}") for each in REQUESTS.values()}
    assert named <= routes
    assert (
        in_requests('Call cancel_workflow(workflow_id="a/b").', REQUESTS) == f"POST {API}/jobs/a%2Fb/cancel."
    )
    assert in_requests("Call list_models.", REQUESTS) == "GET /v1/comfyui/models."


async def test_the_other_routes_keep_their_errors(v2: Sidecar) -> None:
    answer = await v2("GET", "/v1/comfyui/workflow/nothing", headers=HEADERS)
    assert "error" in answer.body
    assert answer.body["code"] == "workflow_not_found"


def test_what_is_reworded_is_a_code_of_ours() -> None:
    assert set(_CODES) <= set(ErrorCode)
