"""An agent that knows nothing of the machine makes a picture on the real ComfyUI, in three calls."""

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.agent.moving import NAME, video_and_sound
from tests.agent.scripted import TRANSPORTS, agent_over, documented, pictures_in, place_of
from tests.agent.tasks import picture
from tests.support.real_comfyui import CHECKPOINT, RealComfyUI

pytestmark = [pytest.mark.live, pytest.mark.parametrize("transport", TRANSPORTS)]

UI_FILE = Path(__file__).parents[1] / "data" / "ui_format" / "text_to_image.json"


async def test_a_picture_of_a_red_fox(real_comfyui: RealComfyUI, tmp_path: Path, transport: str) -> None:
    async with agent_over(transport, tmp_path, real_comfyui.url) as agent:
        await picture(agent)


async def test_the_workflow_that_i_saved_with_another_prompt_and_seed(
    real_comfyui: RealComfyUI, tmp_path: Path, transport: str
) -> None:
    saved = _saved()
    async with (
        aiohttp.ClientSession(real_comfyui.url) as session,
        session.post("/userdata/workflows%2Flighthouse.json", data=json.dumps(saved)) as answer,
    ):
        assert answer.status == 200
    async with agent_over(transport, tmp_path, real_comfyui.url) as agent:
        found = await agent("find_workflow", query="my lighthouse")
        (first,) = [each for each in found.structured_content["workflows"] if each["name"] == "lighthouse"]
        assert first["runnable"]
        inputs = {"prompt": "a windmill", "seed": 7}
        submitted = await agent("submit_workflow", workflow="lighthouse", inputs=inputs)
        done = await agent("wait_for_workflow", workflow_id=submitted.structured_content["workflowId"])
        assert done.structured_content["status"] == "completed"
        assert pictures_in(done) == 1
        assert agent.calls == 3


async def test_a_video_and_a_sound_shown(real_comfyui: RealComfyUI, tmp_path: Path, transport: str) -> None:
    """As docs/agents.md says, but for names that newer versions of ComfyUI have changed."""
    async with (
        aiohttp.ClientSession(real_comfyui.url) as session,
        session.get("/object_info/SaveVideo") as answer,
    ):
        required = (await answer.json())["SaveVideo"]["input"]["required"]
    codec = "codec" if "codec" in required else "format.codec"
    async with agent_over(transport, tmp_path, real_comfyui.url) as agent:
        await video_and_sound(agent, codec)
        seen = agent.transcript.replace(f'"{codec}"', '"codec"').replace("hum_00001.flac", "hum_00001_.flac")
        assert seen == documented(place_of(NAME, transport))


def _saved() -> dict[str, Any]:
    """A file of the editor, with the checkpoint that the engine has."""
    file: dict[str, Any] = json.loads(UI_FILE.read_text(encoding="utf-8"))["ui"]
    for node in file["nodes"]:
        if node["type"] == "CheckpointLoaderSimple":
            node["widgets_values"] = [CHECKPOINT]
    return file
