"""Health, readiness, status, index, docs; and what is not there."""

from pathlib import Path

import pytest

from tests.contract_v1.shapes import assert_problem, is_ms
from tests.support.graphs import picture
from tests.support.sidecar import Sidecar, open_sidecar


async def test_health_says_healthy_and_when(v1: Sidecar) -> None:
    answer = await v1("GET", "/health")
    assert answer.status == 200
    assert answer.body["status"] == "healthy"
    assert is_ms(answer.body["timestamp"])


async def test_ready_counts_the_active_tasks(tmp_path: Path) -> None:
    """An engine that is down makes nothing unready: jobs wait."""
    async with open_sidecar(tmp_path, engine_url="http://127.0.0.1:9") as v1:
        assert (await v1("GET", "/ready")).body["activeTasks"] == 0
        for _ in range(3):
            await v1.submit(picture())
        answer = await v1("GET", "/ready")
    assert answer.status == 200
    assert (answer.body["ready"], answer.body["activeTasks"]) == (True, 3)
    assert is_ms(answer.body["timestamp"])


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_the_other_names_of_the_probes_answer_too(v1: Sidecar, path: str) -> None:
    assert (await v1("GET", path)).status == 200


async def test_status_shows_the_gpus_in_the_contracts_shape(v1: Sidecar) -> None:
    """The embedded engine reports one device of its own; no GPU is a normal answer too."""
    answer = await v1("GET", "/v1/status")
    assert answer.status == 200
    gpu = answer.body["gpu"]
    assert isinstance(gpu["available"], bool)
    for place, item in enumerate(gpu["gpus"]):
        assert item["index"] == place
        assert set(item) >= {"index", "name", "utilization", "memory", "temperature"}
        assert set(item["memory"]) >= {"used", "total", "percentUsed"}
    assert gpu["available"] == bool(gpu["gpus"])


async def test_the_index_lists_every_endpoint_of_the_contract(v1: Sidecar) -> None:
    listed = {
        (method, endpoint["path"])
        for endpoint in (await v1("GET", "/")).body["endpoints"]
        for method in endpoint["methods"]
    }
    workflow = "/v1/comfyui/workflow"
    assert listed >= {
        ("POST", workflow),
        ("GET", f"{workflow}/{{workflowId}}"),
        ("DELETE", f"{workflow}/{{workflowId}}"),
        ("GET", "/v1/comfyui/models"),
        ("GET", "/v1/comfyui/outputs"),
        ("GET", "/v1/comfyui/stream"),
        ("GET", "/v1/status"),
        ("GET", "/health"),
        ("GET", "/ready"),
        ("GET", "/metrics"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
    }


async def test_the_docs_are_a_page(v1: Sidecar) -> None:
    answer = await v1("GET", "/docs")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("path", ["/nope", "/v1/comfyui/workflow/", "/v1/comfyui", "/v2/comfyui/workflow"])
async def test_no_such_route_is_the_one_404_body(v1: Sidecar, path: str) -> None:
    body = assert_problem(await v1("GET", path), 404, "Not Found")
    assert body["code"] == "route_not_found"


async def test_a_method_that_a_route_does_not_take_is_405_with_those_it_does(v1: Sidecar) -> None:
    answer = await v1("PUT", "/v1/comfyui/workflow/some-id")
    assert_problem(answer, 405, "Method Not Allowed")
    assert set(answer.headers["Allow"].split(",")) >= {"GET", "DELETE"}
