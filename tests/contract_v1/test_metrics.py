"""GET /metrics: the names, labels and buckets that dashboards use, with real values."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.support.constants import constants
from tests.support.graphs import failing, picture, slow
from tests.support.mcp_surface import submit
from tests.support.sidecar import WORKFLOW, Sidecar, open_sidecar

HTTP_LABELS = {"method", "route", "status_code"}
LABELS = {
    "comfyui_workflow_total": {"status"},
    "comfyui_workflow_errors_total": {"error_type"},
    "comfyui_queue_length": set(),
    "http_requests_total": HTTP_LABELS,
    "api_errors_total": {"error_type", "route"},
    "mcp_tool_invocations_total": {"tool_name", "status"},
    "comfyui_workflow_duration_seconds_bucket": {"gpu_type", "le"},
    "http_request_duration_seconds_bucket": {*HTTP_LABELS, "le"},
    "mcp_tool_duration_seconds_bucket": {"tool_name", "le"},
}


async def scraped(v1: Sidecar) -> Mapping[str, Metric]:
    answer = await v1("GET", "/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    return {family.name: family for family in text_string_to_metric_families(answer.data.decode())}


def value(families: Mapping[str, Metric], sample: str, **labels: str) -> float:
    """Of the one sample with this name and at least these labels; 0 where there is none."""
    found = [
        each.value
        for family in families.values()
        for each in family.samples
        if each.name == sample and labels.items() <= each.labels.items()
    ]
    assert len(found) <= 1, f"{sample} {labels} is there {len(found)} times"
    return found[0] if found else 0.0


async def eventually(v1: Sidecar, sample: str, expected: float, **labels: str) -> None:
    """Gauges are refreshed beside the scrape; the test's own time limit ends this."""
    with v1.services.hub.subscribe():
        while value(await scraped(v1), sample, **labels) != expected:
            continue


@pytest.fixture
async def used(v1: Sidecar) -> Sidecar:
    """After one workflow of each end, a bad request, and a tool call over MCP."""
    from mcp.client import Client

    await v1.ended(await v1.submit(picture()))
    await v1.ended(await v1.submit(failing()))
    running = await v1.submit(slow())
    await v1.until_running(running)
    await v1("DELETE", f"{WORKFLOW}/{running}")
    await v1("GET", f"{WORKFLOW}/nope")
    async with Client(f"{v1.url}/mcp", mode="2026-07-28") as client:
        await v1.ended(await submit(client, picture()))
    return v1


@pytest.mark.parametrize(
    ("status", "count"), [("queued", 4), ("running", 4), ("completed", 2), ("failed", 1), ("cancelled", 1)]
)
async def test_workflows_are_counted_by_status(used: Sidecar, status: str, count: int) -> None:
    """A short job's start is written with its end; each status counts all the same."""
    assert value(await scraped(used), "comfyui_workflow_total", status=status) == count


async def test_every_metric_of_the_contract_has_its_labels(used: Sidecar) -> None:
    samples: dict[str, set[str]] = {}
    for family in (await scraped(used)).values():
        for each in family.samples:
            samples.setdefault(each.name, set()).update(each.labels)
    assert {name: samples.get(name) for name in LABELS} == LABELS


async def test_the_types_are_the_contracts(used: Sidecar) -> None:
    types = {family.name: family.type for family in (await scraped(used)).values()}
    for name in ("comfyui_workflow", "comfyui_workflow_errors", "http_requests", "api_errors"):
        assert types[name] == "counter"
    for name in ("comfyui_workflow_duration_seconds", "http_request_duration_seconds"):
        assert types[name] == "histogram"
    for name in ("comfyui_queue_length", "comfyui_gpu_utilization", "comfyui_vram_usage_bytes"):
        assert types[name] == "gauge"


async def test_the_duration_of_workflows_has_the_contracts_buckets(used: Sidecar) -> None:
    families = await scraped(used)
    assert buckets(families, "comfyui_workflow_duration_seconds") == [1, 5, 10, 30, 60, 120, 300, 600]
    assert value(families, "comfyui_workflow_duration_seconds_count", gpu_type="local") == 2


async def test_requests_have_buckets_from_a_millisecond_to_five_seconds(used: Sidecar) -> None:
    found = buckets(await scraped(used), "http_request_duration_seconds")
    assert (found[0], found[-1]) == (0.001, 5)


def buckets(families: Mapping[str, Metric], name: str) -> list[float]:
    """The finite upper bounds, of all series together."""
    bounds = {float(each.labels["le"]) for each in families[name].samples if each.name == f"{name}_bucket"}
    return sorted(bounds - {float("inf")})


async def test_requests_are_counted_by_the_routes_template(used: Sidecar) -> None:
    families = await scraped(used)
    route = f"{WORKFLOW}/{{workflowId}}"
    assert value(families, "http_requests_total", method="GET", route=route, status_code="404") == 1
    assert value(families, "http_requests_total", method="POST", route=WORKFLOW, status_code="202") == 3
    assert value(families, "api_errors_total", route=route) == 1


async def test_workflow_errors_and_tool_calls_are_counted(used: Sidecar) -> None:
    families = await scraped(used)
    assert value(families, "comfyui_workflow_errors_total", error_type="node_error") == 1
    assert value(families, "mcp_tool_invocations_total", tool_name="submit_workflow", status="success") == 1


async def test_no_label_carries_a_job_a_key_or_a_path(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path, http_key="the-secret-key") as v1:
        headers = {"X-API-Key": "the-secret-key"}
        job = await v1.submit(picture(), headers=headers)
        [output] = (await v1.ended(job, headers=headers))["outputs"]
        await v1("GET", output["url"], headers=headers)
        for path in ("/some/strange/path", f"{WORKFLOW}/other-id", "/v1/comfyui/models?type=odd"):
            await v1("GET", path, headers=headers)
        await v1("BREW", "/v1/status", headers=headers)
        text = (await v1("GET", "/metrics")).data.decode()
    for unbounded in (job, output["outputId"], "the-secret-key", "strange", "other-id", "odd", "BREW"):
        assert unbounded not in text


async def test_the_queue_length_is_how_many_wait(tmp_path: Path) -> None:
    with constants(REFRESH_S=0.01):
        async with open_sidecar(tmp_path, engine_url="http://127.0.0.1:9") as v1:
            await v1.submit(picture())
            await v1.submit(picture())
            await eventually(v1, "comfyui_queue_length", 2)


async def test_openmetrics_is_given_to_who_asks(v1: Sidecar) -> None:
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    answer = await v1("GET", "/metrics", headers=accept)
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.data.endswith(b"# EOF\n")
