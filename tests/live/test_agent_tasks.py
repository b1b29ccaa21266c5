"""An agent that knows nothing of the machine makes a picture on the real ComfyUI, in three calls."""

import json
import re
import wave
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.agent.scripted import TRANSPORTS, agent_over, pictures_in, text_of
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
    """g. At most one more call for each that is looked at."""
    sound = tmp_path / "hum.wav"
    with wave.open(str(sound), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8_000)
        file.writeframes(bytes(range(256)) * 125)
    async with agent_over(transport, tmp_path, real_comfyui.url) as agent:
        given = "hum.wav"
        if transport == "stdio":
            given = str(sound)
        else:
            refused = await agent("submit_workflow", workflow=_moving(str(sound)))
            agent.calls = 0
            address = re.findall(r'curl -F image=@\S+ "([^"]+)"', text_of(refused))[0]
            given = await agent.upload(address, sound)
        submitted = await agent("submit_workflow", workflow=_moving(given))
        done = await agent("wait_for_workflow", workflow_id=submitted.structured_content["workflowId"])
        assert done.structured_content["status"] == "completed", text_of(done)
        outputs = {each["type"]: each["outputId"] for each in done.structured_content["outputs"]}
        for kind, said in (("video", "the frames in order"), ("audio", "the shape of the sound")):
            shown = await agent("view_output", output_id=outputs[kind])
            assert pictures_in(shown) == 1, text_of(shown)
            assert said in text_of(shown)
        assert agent.calls == 4


def _moving(sound: str) -> dict[str, Any]:
    """A second of video, and a sound."""
    frames = {"width": 64, "height": 48, "batch_size": 6, "color": 255}
    saved = {"filename_prefix": "walk", "format": "mp4", "codec": "h264"}
    return {
        "1": {"class_type": "EmptyImage", "inputs": frames},
        "2": {"class_type": "CreateVideo", "inputs": {"images": ["1", 0], "fps": 6.0}},
        "3": {"class_type": "SaveVideo", "inputs": {"video": ["2", 0], **saved}},
        "4": {"class_type": "LoadAudio", "inputs": {"audio": sound}},
        "5": {"class_type": "SaveAudio", "inputs": {"audio": ["4", 0], "filename_prefix": "hum"}},
    }


def _saved() -> dict[str, Any]:
    """A file of the editor, with the checkpoint that the engine has."""
    file: dict[str, Any] = json.loads(UI_FILE.read_text(encoding="utf-8"))["ui"]
    for node in file["nodes"]:
        if node["type"] == "CheckpointLoaderSimple":
            node["widgets_values"] = [CHECKPOINT]
    return file
