"""MCP over Streamable HTTP, in both protocol eras, with the SDK's own client."""

from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import TestServer
from mcp.client import Client

from comfy_mcp.operations.context import Services
from comfy_mcp.settings import Settings
from http_sidecar.app import build_app
from http_sidecar.auth import KeyRing
from tests.support.mcp_surface import MODES, slow_graph, submit

pytestmark = pytest.mark.parametrize("mode", MODES)


@pytest.fixture
async def url(services: Services, settings: Settings) -> AsyncIterator[str]:
    server = TestServer(build_app(services, settings, keys=KeyRing(settings)))
    async with server:
        yield str(server.make_url("/mcp"))


async def test_a_workflow_is_submitted_followed_and_looked_at(url: str, mode: str) -> None:
    seen: list[float] = []

    async def heard(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)

    async with Client(url, mode=mode) as client:
        job = await submit(client, slow_graph(steps=8, step_ms=100))
        result = await client.call_tool("wait_for_workflow", {"workflow_id": job}, progress_callback=heard)
        view = await client.call_tool(
            "view_output", {"output_id": result.structured_content["outputs"][0]["outputId"]}
        )

    assert result.structured_content["status"] == "completed"
    assert seen == sorted(set(seen))
    assert seen[-1] == 100
    assert [item.type for item in view.content] == ["text", "image", "resource_link"]
