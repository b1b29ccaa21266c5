"""Turns are between clients, whatever surface each one is on."""

from pathlib import Path
from typing import Any

from mcp.client import Client

from comfy_mcp.domain.ids import ClientId
from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.operations.context import Caller
from comfy_mcp.server import ReadyBridge, build_server, open_bus
from tests.support.graphs import text
from tests.support.sidecar import WORKFLOW, Sidecar, open_sidecar

FLOOD = 50


async def test_who_submits_one_is_second_behind_a_flood_from_the_other_surface(tmp_path: Path) -> None:
    """No engine answers, so that nothing runs meanwhile."""
    agent = Caller(client=ClientId("agent"), surface="test")
    async with (
        open_sidecar(tmp_path, engine_url="http://127.0.0.1:9") as sidecar,
        open_bus(send_timeout_s=10) as bus,
        Client(
            build_server(
                ReadyBridge(Bridge(sidecar.services)),
                sidecar.settings,
                bus=bus,
                caller_of=lambda _context: agent,
            )
        ) as client,
    ):
        places = [await over_mcp(client, "high") for _ in range(FLOOD)]
        assert [place for _, place in places] == [*range(1, FLOOD + 1)]
        mine, place = await over_rest(sidecar, "high")
        assert place == 2
        told = (await sidecar("GET", "/v1/comfyui/queue")).body["queued"]
        assert [(job["workflowId"], job["queuePosition"]) for job in told[:3]] == [
            (places[0][0], 1),
            (mine, 2),
            (places[1][0], 3),
        ]
        ahead = FLOOD + 1
        flood = [await over_rest(sidecar, "normal") for _ in range(FLOOD)]
        assert [place for _, place in flood] == [*range(ahead + 1, ahead + FLOOD + 1)]
        theirs, place = await over_mcp(client, "normal")
        assert place == ahead + 2
        state = await client.call_tool("workflow_status", {"workflow_id": theirs})
        assert state.structured_content is not None
        assert state.structured_content["queuePosition"] == place


async def over_rest(sidecar: Sidecar, priority: str) -> tuple[str, int]:
    """Id and place."""
    answer = await sidecar("POST", WORKFLOW, json={"workflow": text(), "priority": priority})
    return answer.body["workflowId"], answer.body["queuePosition"]


async def over_mcp(client: Client, priority: str) -> tuple[str, int]:
    answer: Any = await client.call_tool("submit_workflow", {"workflow": text(), "priority": priority})
    return answer.structured_content["workflowId"], answer.structured_content["queuePosition"]
