"""Tool calls are counted by name and by how they ended."""

from pathlib import Path

import pytest

from tests.support.mcp_surface import MODES, open_surface
from tests.support.metrics import metrics_of


@pytest.mark.parametrize("mode", MODES)
async def test_each_call_of_a_tool_is_counted(tmp_path: Path, mode: str) -> None:
    async with open_surface(tmp_path) as surface, surface.client(mode) as client:
        await client.call_tool("system_status")
        await client.call_tool("system_status")
        refused = await client.call_tool("workflow_status", {"workflow_id": "nobody"})
        registry = metrics_of(surface.services).registry
        assert refused.is_error

        def calls(name: str, status: str) -> float | None:
            labels = {"tool_name": name, "status": status}
            return registry.get_sample_value("mcp_tool_invocations_total", labels)

        assert calls("system_status", "success") == 2
        assert calls("system_status", "error") is None
        assert calls("workflow_status", "error") == 1
        labels = {"tool_name": "system_status"}
        assert registry.get_sample_value("mcp_tool_duration_seconds_count", labels) == 2
