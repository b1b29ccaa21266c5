"""Next steps over REST are requests to send."""

from pathlib import Path

import pytest

from comfy_mcp.operations.registry import OPERATIONS
from http_sidecar.door.next_steps import in_urls
from tests.support.graphs import failing, picture
from tests.support.sidecar import Answer, Sidecar, open_sidecar


@pytest.mark.parametrize(
    ("advice", "said"),
    [
        ('Call wait_for_workflow(workflow_id="a-1").', "GET /v1/comfyui/workflow/a-1/wait."),
        ('Call view_output(output_id="o/1") to look.', "GET /v1/comfyui/output/o%2F1/preview to look."),
        ('or call retry_workflow(workflow_id="a").', "or POST /v1/comfyui/workflow/a/retry."),
        ("See workflow_status.", "See GET /v1/comfyui/workflow/{workflowId}."),
        ("Read comfy://workflows for the ids.", "GET /v1/comfyui/workflows for the ids."),
        ("system_status shows it.", "GET /v1/status shows it."),
        ("Correct the workflow.", "Correct the workflow."),
    ],
)
def test_advice_is_a_request(advice: str, said: str) -> None:
    assert in_urls(advice) == said


@pytest.mark.parametrize("name", [operation.name for operation in OPERATIONS if operation.tool])
def test_every_tool_has_a_request(name: str) -> None:
    assert in_urls(f"Call {name}.").split()[0] in {"GET", "POST", "DELETE"}


async def follow(sidecar: Sidecar, next_step: str) -> Answer:
    """Send the request with which the next step begins."""
    method, path, *_ = next_step.split()
    return await sidecar(method, path.rstrip("."))


async def test_a_client_gets_from_submit_to_picture_by_next_steps_alone(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path) as sidecar:
        submitted = await sidecar("POST", "/v1/comfyui/workflow", json={"workflow": picture()})
        ended = await follow(sidecar, submitted.body["nextStep"])
        assert ended.body["status"] == "completed"
        preview = await follow(sidecar, ended.body["nextStep"])
        assert (preview.status, preview.headers["Content-Type"]) == (200, "image/jpeg")
        (listed,) = (await sidecar("GET", "/v1/comfyui/workflows")).body["workflows"]
        assert listed["nextStep"] == ended.body["nextStep"]


async def test_an_errors_next_step_can_be_sent_too(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path) as sidecar:
        missing = await sidecar("GET", "/v1/comfyui/workflow/no-such-id")
        assert missing.status == 404
        assert missing.body["nextStep"] in missing.body["detail"]
        assert (await follow(sidecar, missing.body["nextStep"])).status == 200
        job = await sidecar.submit(failing())
        await sidecar.ended(job)
        refused = await sidecar("DELETE", f"/v1/comfyui/workflow/{job}")
        assert refused.status == 409
        assert f"GET /v1/comfyui/workflow/{job} shows it." in refused.body["nextStep"]
