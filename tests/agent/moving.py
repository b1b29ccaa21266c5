"""Task g, on a real ComfyUI: the embedded engine makes neither videos nor sounds."""

import base64
import math
import re
import struct
import wave
from pathlib import Path
from typing import Any

from mcp_types import ImageContent

from tests.agent.scripted import Agent, pictures_in, text_of
from tests.agent.tasks import wait_for

NAME = "video-and-sound"
"""Of its transcript in docs/agents.md."""
PICTURES = {"video": "agents-video.png", "audio": "agents-audio.png"}
"""By the kinds of their outputs, in docs/; `python -m tests.agent video-and-sound` makes them."""
RATE = 8_000


async def video_and_sound(agent: Agent, codec: str = "codec") -> dict[str, bytes]:
    """g. A short video and a sound, shown. At most one more call for each that is looked at. `codec`: the
    input of SaveVideo, which newer versions of ComfyUI call "format.codec".

    Returns both pictures."""
    pictures = {}
    hum(agent.project / "hum.wav")
    given = "./hum.wav"
    if agent.transport == "http":
        refused = await agent("submit_workflow", workflow=graph(given, agent.transport, codec))
        agent.calls, agent.lines[:] = 0, []
        address = re.findall(r'curl -F image=@\S+ "([^"]+)"', text_of(refused))[0]
        given = await agent.upload(address, agent.project / "hum.wav")
    done = await wait_for(
        agent, await agent("submit_workflow", workflow=graph(given, agent.transport, codec), name="Walk")
    )
    assert pictures_in(done) == 1, "both on one sheet"
    outputs = {each["type"]: each["outputId"] for each in done.structured_content["outputs"]}
    for kind, said in (("video", "the frames in order"), ("audio", "the shape of the sound")):
        shown = await agent("view_output", output_id=outputs[kind])
        assert pictures_in(shown) == 1, text_of(shown)
        assert said in text_of(shown)
        (picture,) = [each for each in shown.content if isinstance(each, ImageContent)]
        pictures[kind] = base64.b64decode(picture.data)
    assert agent.calls == 4
    return pictures


def graph(sound: str, transport: str, codec: str) -> dict[str, Any]:
    """A second of video, and a sound. One engine makes them for both transports: into folders of their own,
    and in sizes of their own, because an engine saves first what it has in its cache."""
    folder, height = f"clips-{transport}", 48 if transport == "stdio" else 64
    frames = {"width": 64, "height": height, "batch_size": 3}
    saved = {"filename_prefix": f"{folder}/walk", "format": "mp4", codec: "h264"}
    return {
        "0": {"class_type": "EmptyImage", "inputs": {**frames, "color": 0x1D4ED8}},
        "1": {"class_type": "EmptyImage", "inputs": {**frames, "color": 0xF97316}},
        "6": {"class_type": "ImageBatch", "inputs": {"image1": ["0", 0], "image2": ["1", 0]}},
        "2": {"class_type": "CreateVideo", "inputs": {"images": ["6", 0], "fps": 6.0}},
        "3": {"class_type": "SaveVideo", "inputs": {"video": ["2", 0], **saved}},
        "4": {"class_type": "LoadAudio", "inputs": {"audio": sound}},
        "5": {"class_type": "SaveAudio", "inputs": {"audio": ["4", 0], "filename_prefix": f"{folder}/hum"}},
    }


def hum(path: Path) -> None:
    """Two seconds of a tone that swells."""
    tone = (at / RATE * math.sin(at / 4) * 8_000 for at in range(2 * RATE))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(b"".join(struct.pack("<h", round(each)) for each in tone))
