"""Tasks with files, within their number of calls: an agent knows what the server says, and nothing else."""

import base64
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp.client.stdio import stdio_client
from mcp_types import CallToolResult, ImageContent, TextContent
from PIL import Image

from comfy_mcp.embedded import EmbeddedEngine, EngineConfig
from tests.support.mcp_process import parameters
from tests.support.serve_process import serve_process

RED, BLUE = (200, 30, 30), (30, 30, 200)
BOTH = pytest.mark.parametrize("transport", ["stdio", "http"])


class Agent:
    """`calls` counts its requests."""

    def __init__(self, client: Client, folder: Path) -> None:
        self.client = client
        self.folder = folder
        self.calls = 0

    async def __call__(self, tool: str, /, **arguments: Any) -> tuple[str, Any, list[Image.Image]]:
        """(the text, the structure, the pictures). Fails on an error."""
        self.calls += 1
        result = await self.client.call_tool(tool, arguments)
        assert isinstance(result, CallToolResult)
        text = "\n".join(part.text for part in result.content if isinstance(part, TextContent))
        assert not result.is_error, text
        data = [base64.b64decode(part.data) for part in result.content if isinstance(part, ImageContent)]
        return text, result.structured_content, [Image.open(io.BytesIO(each)) for each in data]

    async def run(self, graph: dict[str, Any], **more: Any) -> Any:
        """Two calls: submit, wait."""
        _, submitted, _ = await self("submit_workflow", workflow=graph, **more)
        _, state, _ = await self("wait_for_workflow", workflow_id=submitted["workflowId"], timeout_s=30)
        assert state["status"] == "completed", state
        return state


@asynccontextmanager
async def agent_over(transport: str, folder: Path) -> AsyncIterator[Agent]:
    project = folder / "project"
    project.mkdir()
    Image.new("RGB", (16, 16), RED).save(project / "cat.png")
    roots = {"WORKFLOW_ROOTS": str(project)}
    async with EmbeddedEngine(EngineConfig(base_directory=folder / "engine")) as engine:
        if transport == "stdio":
            async with Client(stdio_client(parameters(folder, engine.url, **roots))) as client:
                yield Agent(client, project)
        else:
            async with serve_process(folder, engine.url) as served, Client(f"{served.url}/mcp") as client:
                yield Agent(client, project)


def save(source: str, prefix: str = "x") -> dict[str, Any]:
    return {"class_type": "SaveImage", "inputs": {"images": [source, 0], "filename_prefix": prefix}}


def blank(color: int) -> dict[str, Any]:
    inputs = {"width": 64, "height": 64, "batch_size": 1, "color": color}
    return {"class_type": "EmptyImage", "inputs": inputs}


def scaled(image: str) -> dict[str, Any]:
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": image}},
        "2": {
            "class_type": "ImageScaleBy",
            "inputs": {"image": ["1", 0], "upscale_method": "lanczos", "scale_by": 2.0},
        },
        "3": save("2"),
    }


@pytest.mark.parametrize("spelling", ["./cat.png", "{folder}/cat.png", "file://{folder}/cat.png"])
async def test_b_and_m_my_own_file_twice_as_large_saved_into_the_project(
    tmp_path: Path, spelling: str
) -> None:
    """Task b: at most 3 calls; task m: no more for the file."""
    async with agent_over("stdio", tmp_path) as agent:
        state = await agent.run(scaled(spelling.format(folder=agent.folder)), save_to="art/fox.png")
        _, view, pictures = await agent("view_output", output_id=state["outputs"][0]["outputId"])
        assert agent.calls == 3
        assert pictures[0].size == (32, 32)
        assert state["saved"] == [str(agent.folder / "art" / "fox.png")]
        with Image.open(agent.folder / "art" / "fox.png") as image:
            assert image.convert("RGB").getpixel((0, 0)) == RED
        assert view["output"]["outputId"]


async def test_b_over_http_the_error_says_how(tmp_path: Path) -> None:
    async with agent_over("http", tmp_path) as agent:
        result = await agent.client.call_tool("submit_workflow", {"workflow": scaled("./cat.png")})
        assert result.is_error
        assert "/v1/comfyui/inputs?ticket=" in str(result.content)
        stream = io.BytesIO()
        Image.new("RGB", (16, 16), BLUE).save(stream, "PNG")
        uri = f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
        assert len((await agent.run(scaled(uri)))["outputs"]) == 1


@BOTH
@pytest.mark.parametrize("spelling", ["output:{id}", "comfy://outputs/{id}", "{name}", "{name} [output]"])
async def test_c_the_last_output_is_an_input(tmp_path: Path, transport: str, spelling: str) -> None:
    """At most 3 calls after the picture was made."""
    async with agent_over(transport, tmp_path) as agent:
        last = (await agent.run({"1": blank(255), "2": save("1", "last")}))["outputs"][0]
        agent.calls = 0
        name = spelling.format(id=last["outputId"], name=last["filename"])
        state = await agent.run(scaled(name))
        _, _, pictures = await agent("view_output", output_id=state["outputs"][0]["outputId"])
        assert agent.calls == 3
        assert pictures[0].size == (128, 128)


@BOTH
async def test_d_four_pictures_are_one_sheet(tmp_path: Path, transport: str) -> None:
    async with agent_over(transport, tmp_path) as agent:
        graph: dict[str, Any] = {}
        for number in range(4):
            graph |= {f"c{number}": blank(60 * number), f"s{number}": save(f"c{number}")}
        state = await agent.run(graph)
        assert state["workflowId"] in state["nextStep"]
        text, view, pictures = await agent("view_output", output_id=state["workflowId"])
        assert agent.calls == 3
        assert len(pictures) == 1
        assert [f"{number}. image" in text for number in range(1, 5)] == [True] * 4
        assert len(view["outputs"]) == 4


@BOTH
async def test_g_a_text_is_shown(tmp_path: Path, transport: str) -> None:
    async with agent_over(transport, tmp_path) as agent:
        words = {
            "1": {"class_type": "PrimitiveString", "inputs": {"value": "a line"}},
            "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
        }
        state = await agent.run(words)
        text, view, _ = await agent("view_output", output_id=state["outputs"][0]["outputId"])
        assert "a line" in text
        assert "a line" in str(view)
