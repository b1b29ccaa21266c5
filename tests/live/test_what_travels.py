"""What goes with a job to the real ComfyUI, and what comes back from it."""

import io
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from comfy_mcp.domain.errors import EngineBadAnswer, ErrorCode
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.operations.context import Caller
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import load_settings
from tests.operations.conftest import Bench
from tests.support import graphs
from tests.support.real_comfyui import RealComfyUI
from tests.support.real_comfyui_install import install

pytestmark = pytest.mark.live

WEBSOCKET = "websocket_image_save.py"
"""A custom node that ComfyUI brings along."""


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealComfyUI]:
    folder = tmp_path_factory.mktemp("comfyui-websocket")
    server = RealComfyUI(folder, extra_args=("--whitelist-custom-nodes", WEBSOCKET))
    shutil.copy(install() / "app" / "custom_nodes" / WEBSOCKET, folder / "custom_nodes")
    with server:
        yield server


@pytest.fixture
async def call(tmp_path: Path, comfyui: RealComfyUI) -> AsyncIterator[Bench]:
    settings = load_settings(engine_urls=comfyui.url, state_dir=tmp_path / "state")
    async with open_runtime(settings) as services:
        yield Bench(services, Caller(client=ClientId("tester"), surface="test"))


async def done(call: Bench, workflow: dict[str, Any]) -> Any:
    submitted = await call("submit_workflow", workflow=workflow)
    state = await call("wait_for_workflow", workflow_id=submitted.workflow_id, timeout_s=45)
    assert state.status == "completed", state.error
    return state


def as_saved() -> dict[str, Any]:
    """EmptyImage → SaveImage in UI format."""
    return {
        "last_node_id": 2,
        "nodes": [
            {
                "id": 1,
                "type": "EmptyImage",
                "pos": [10, 20],
                "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}],
                "widgets_values": [64, 64, 1, 1234567],
            },
            {
                "id": 2,
                "type": "SaveImage",
                "pos": [400, 20],
                "inputs": [{"name": "images", "type": "IMAGE", "link": 1}],
                "widgets_values": ["travels/saved"],
            },
        ],
        "links": [[1, 1, 0, 2, 0, "IMAGE"]],
        "groups": [],
        "extra": {"ds": {"scale": 0.75, "offset": [1, 2]}},
        "version": 0.4,
    }


async def test_the_picture_carries_the_file_as_the_editor_saved_it(call: Bench) -> None:
    state = await done(call, as_saved())
    content = await call("read_output", output_id=state.outputs[0].output_id)
    with Image.open(io.BytesIO(content.data)) as picture:
        chunks = {name: json.loads(picture.info[name]) for name in ("workflow", "prompt")}
    graph = await call("workflow_graph", workflow_id=state.workflow_id)
    assert (chunks["workflow"], chunks["prompt"]) == (as_saved(), graph.graph)


async def test_pictures_of_saveimagewebsocket_are_outputs_with_a_file(call: Bench) -> None:
    graph = graphs.picture()
    graph["1"]["inputs"]["batch_size"] = 2
    graph["2"] = {"class_type": "SaveImageWebsocket", "inputs": {"images": ["1", 0]}}
    state = await done(call, graph)
    assert [(each.type, each.node_id, each.folder) for each in state.outputs] == [
        ("image", "2", "output")
    ] * 2
    for output in state.outputs:
        content = await call("read_output", output_id=output.output_id)
        with Image.open(io.BytesIO(content.data)) as picture:
            assert (picture.format, picture.size) == ("PNG", (64, 64))


async def test_a_name_with_two_dots_is_not_called_gone(call: Bench) -> None:
    state = await done(call, graphs.picture("v1..final"))
    with pytest.raises(EngineBadAnswer) as caught:
        await call("read_output", output_id=state.outputs[0].output_id)
    assert caught.value.code is ErrorCode.OUTPUT_UNREADABLE
