"""Tools through a client, in both protocol eras, down to an engine that runs."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, ImageContent, ResourceLink

from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.server import build_server, open_bus
from comfy_mcp.server.tools import tools
from tests.support.held import held
from tests.support.mcp_surface import (
    LIMIT_S,
    MODES,
    background,
    bridge_settings,
    open_surface,
    slow_graph,
    submit,
    text_of,
)

pytestmark = pytest.mark.parametrize("mode", MODES)

JOB_KEYS = {
    "workflowId", "status", "progress", "startTime", "completionTime", "outputs", "priority", "client",
    "engine", "attempt", "createdTime", "outputCount", "nextStep", "name",
}  # fmt: skip
"""Of a job that has ended well, over a GPU that nobody measures: what is not known is left out."""


async def wait(client: Client, workflow_id: str, **arguments: Any) -> CallToolResult:
    return await client.call_tool("wait_for_workflow", {"workflow_id": workflow_id, **arguments})


async def test_an_agent_gets_its_picture(tmp_path: Path, mode: str) -> None:
    async with open_surface(tmp_path) as surface, surface.client(mode) as client:
        submitted = await client.call_tool("submit_workflow", {"workflow": slow_graph()})
        assert submitted.structured_content["status"] == "queued"
        assert submitted.structured_content["queuePosition"] == 1
        workflow_id = submitted.structured_content["workflowId"]
        assert workflow_id in text_of(submitted)

        done = await wait(client, workflow_id)
        state = done.structured_content
        assert set(state) == JOB_KEYS
        assert state["status"] == "completed"
        assert state["progress"] == 100
        assert state["completionTime"] >= state["startTime"]
        output = state["outputs"][0]
        assert output["outputId"] in state["nextStep"]
        link = done.content[1]
        assert isinstance(link, ResourceLink)
        assert link.uri == f"comfy://outputs/{output['outputId']}"
        assert [block.type for block in done.content] == ["text", "resource_link", "image"]

        view = await client.call_tool("view_output", {"output_id": output["outputId"]})
        image = next(block for block in view.content if isinstance(block, ImageContent))
        assert image.mime_type.startswith("image/")
        assert len(view.model_dump_json()) < 1_000_000

        listed = await client.call_tool("list_outputs", {"workflow_id": workflow_id})
        (item,) = listed.structured_content["outputs"]
        assert output["outputId"].startswith(item["outputId"])
        assert (await client.call_tool("view_output", {"output_id": item["outputId"]})).structured_content[
            "output"
        ]["outputId"] == output["outputId"]


async def test_progress_grows_to_the_total_and_names_the_node(tmp_path: Path, mode: str) -> None:
    heard: list[tuple[float, float | None, str | None]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total, message))
        if message and "Slow" in message:
            go_on()

    async with open_surface(tmp_path) as surface, surface.client(mode) as client:
        with held() as go_on:
            workflow_id = await submit(client, slow_graph(steps=20))
            await client.call_tool(
                "wait_for_workflow", {"workflow_id": workflow_id}, progress_callback=on_progress
            )
    values = [value for value, _, _ in heard]
    assert values == sorted(set(values))
    assert heard[-1] == (100.0, 100.0, "completed")
    assert {total for _, total, _ in heard} == {100.0}
    assert any(message and "Slow" in message for _, _, message in heard)


async def test_a_wait_that_times_out_leaves_the_job_running_and_says_what_to_do(
    tmp_path: Path, mode: str
) -> None:
    async with open_surface(tmp_path) as surface, surface.client(mode) as client:
        with held():
            workflow_id = await submit(client, slow_graph(steps=10))
            state = await wait(client, workflow_id, timeout_s=0)
        assert state.structured_content["status"] in {"queued", "running"}
        assert "wait_for_workflow" in text_of(state)
        assert (await wait(client, workflow_id)).structured_content["status"] == "completed"


@pytest.mark.parametrize(("cancels", "status"), [(False, "completed"), (True, "cancelled")])
async def test_a_dropped_wait_ends_the_job_only_when_told_so(
    tmp_path: Path, mode: str, cancels: bool, status: str
) -> None:
    waiting = asyncio.Event()

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        waiting.set()

    async def dropped(client: Client, workflow_id: str) -> None:
        arguments = {"workflow_id": workflow_id, "cancel_on_disconnect": cancels}
        await client.call_tool("wait_for_workflow", arguments, progress_callback=on_progress)

    async with open_surface(tmp_path) as surface, surface.client(mode) as client:
        with held() as go_on:
            workflow_id = await submit(client, slow_graph(steps=20))
            async with background(dropped(client, workflow_id)), asyncio.timeout(LIMIT_S):
                await waiting.wait()
            if not cancels:
                go_on()
            assert (await wait(client, workflow_id)).structured_content["status"] == status


async def test_a_cancel_ends_a_running_job_and_repeating_it_is_no_error(tmp_path: Path, mode: str) -> None:
    async with open_surface(tmp_path) as surface, surface.client(mode) as client:
        workflow_id = await submit(client, slow_graph(steps=600, step_ms=100))
        for _ in range(2):
            cancelled = await client.call_tool("cancel_workflow", {"workflow_id": workflow_id})
            assert cancelled.structured_content["status"] == "cancelled"


async def test_a_failed_execution_is_a_state_not_an_error(tmp_path: Path, mode: str) -> None:
    graph = slow_graph(steps=1)
    failing = {"image": ["1", 0], "message": "no luck", "exception_type": "ValueError"}
    graph["3"] = {"class_type": "BridgeFail", "inputs": failing}
    graph["2"]["inputs"]["images"] = ["3", 0]
    async with open_surface(tmp_path) as surface, surface.client(mode) as client:
        workflow_id = await submit(client, graph)
        done = await wait(client, workflow_id)
    assert not done.is_error
    assert done.structured_content["status"] == "failed"
    assert "no luck" in done.structured_content["error"]
    assert "no luck" in text_of(done)


async def test_an_unknown_tool_is_a_protocol_error_that_names_the_tools(tmp_path: Path, mode: str) -> None:
    async with open_surface(tmp_path) as surface, surface.client(mode) as client:
        with pytest.raises(MCPError, match=r"Unknown tool: make_coffee\. Tools: .*submit_workflow"):
            await client.call_tool("make_coffee", {})
        with pytest.raises(MCPError, match="Unknown tool: read_output"):
            await client.call_tool("read_output", {"output_id": "o"})  # an operation, but not a tool


async def test_a_submit_is_accepted_while_the_engine_is_down_and_says_what_to_fix(
    tmp_path: Path, mode: str
) -> None:
    async with (
        open_surface(tmp_path, engine_url="http://127.0.0.1:9") as surface,
        surface.client(mode) as client,
    ):
        submitted = await client.call_tool("submit_workflow", {"workflow": slow_graph()})
        assert submitted.structured_content["status"] == "queued"
        assert "http://127.0.0.1:9" in text_of(submitted)
        status = await client.call_tool("system_status", {})
        assert not status.is_error
        assert status.structured_content["engines"][0]["up"] is False
        assert "COMFYUI_URL" in text_of(status)


class Broken:
    """A provider whose runtime never opens, or fails in a way that nobody foresaw."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def get(self) -> Bridge:
        raise self._error


async def test_the_server_works_without_a_store_and_says_what_is_wrong_on_each_call(
    tmp_path: Path, mode: str
) -> None:
    fault = StoreFault("The store can't be opened.", next_step="Check the state folder.")
    settings = bridge_settings(tmp_path, "http://127.0.0.1:9")
    async with (
        open_bus(send_timeout_s=1) as bus,
        Client(build_server(Broken(fault), settings, bus=bus), mode=mode) as client,
    ):
        assert (await client.list_tools()).tools == list(tools())
        for tool in ("system_status", "list_outputs"):
            result = await client.call_tool(tool, {})
            assert result.is_error
            assert text_of(result) == (
                "store_unavailable: The store can't be opened. Check the state folder."
            )
        listed = await client.list_resources()
        assert [item.uri for item in listed.resources] == [
                "comfy://workflows", "comfy://queue", "comfy://gpu",
            ]  # fmt: skip
        with pytest.raises(MCPError, match="store_unavailable"):
            await client.read_resource("comfy://queue")


async def test_an_unexpected_exception_shows_an_error_id_and_never_its_text(
    tmp_path: Path, mode: str
) -> None:
    settings = bridge_settings(tmp_path, "http://127.0.0.1:9")
    async with open_bus(send_timeout_s=1) as bus:
        server = build_server(Broken(RuntimeError("the password is 1234")), settings, bus=bus)
        async with Client(server, mode=mode) as client:
            result = await client.call_tool("system_status", {})
            assert result.is_error
            assert text_of(result).startswith("internal: ")
            assert "error id" in text_of(result)
            assert "1234" not in result.model_dump_json()
            with pytest.raises(MCPError, match=r"internal: .*error id") as caught:
                await client.read_resource("comfy://queue")
            assert "1234" not in str(caught.value)


async def test_a_wait_for_what_still_runs_shows_its_preview(tmp_path: Path, mode: str) -> None:
    async with open_surface(tmp_path) as surface, surface.client(mode) as client:
        workflow_id = await submit(client, slow_graph(steps=10_000, step_ms=20))
        pictures: list[ImageContent] = []
        while not pictures:
            state = await wait(client, workflow_id, timeout_s=0.1)
            assert state.structured_content["status"] in {"queued", "running"}
            pictures = [each for each in state.content if isinstance(each, ImageContent)]
        assert pictures[0].mime_type == "image/jpeg"
        assert base64.b64decode(pictures[0].data).startswith(b"\xff\xd8")
        await client.call_tool("cancel_workflow", {"workflow_id": workflow_id})
        ended = await wait(client, workflow_id)
        assert [each for each in ended.content if isinstance(each, ImageContent)] == []
