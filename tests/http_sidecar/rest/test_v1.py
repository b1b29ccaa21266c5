"""The v1 routes, as existing clients call them."""

from tests.http_sidecar.conftest import Http
from tests.support.graphs import picture


async def test_a_submitted_workflow_is_run_and_shown(http: Http) -> None:
    async with http.post("/v1/comfyui/workflow", json={"workflow": picture(), "unknown": 1}) as answer:
        submitted = await answer.json()
        assert answer.status == 202
    assert submitted["status"] == "queued"
    job = submitted["workflowId"]
    async with http.get(f"/v1/comfyui/workflow/{job}/wait") as answer:
        assert (await answer.json())["status"] == "completed"
    async with http.get(f"/v1/comfyui/workflow/{job}") as answer:
        shown = await answer.json()
    assert shown["progress"] == 100
    assert shown["outputs"][0]["workflowId"] == job


async def test_an_unknown_workflow_is_the_contracts_404(http: Http) -> None:
    async with http.get("/v1/comfyui/workflow/nope") as answer:
        body = await answer.json()
        assert answer.status == 404
        assert answer.content_type == "application/problem+json"
    assert (body["error"], body["message"], body["statusCode"]) == (
        "Not Found",
        "Workflow nope not found",
        404,
    )
