"""Writes the transcripts of the tasks into docs/agents.md.

`python -m tests.agent NAME …` writes only those. `video-and-sound` has to be named: it starts a real ComfyUI.
"""

import asyncio
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image

from tests.agent.moving import NAME, PICTURES, video_and_sound
from tests.agent.scripted import DOCUMENT, TRANSPORTS, agent_over, place_of
from tests.agent.tasks import TASKS, open_house, settings_of
from tests.support.real_comfyui import RealComfyUI


def write(name: str, transcript: str) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    before, marker, rest = text.partition(f"<!-- {name} -->\n")
    assert marker, f"docs/agents.md has no place for {name}"
    after = rest.partition("\n```\n")[2]
    DOCUMENT.write_text(f"{before}{marker}```text\n{transcript}\n```\n{after}", encoding="utf-8")


async def main() -> None:
    asked = sys.argv[1:]
    if NAME in asked:
        with tempfile.TemporaryDirectory() as folder, RealComfyUI(Path(folder)) as comfyui:
            for transport in TRANSPORTS:
                await write_moving(transport, comfyui.url)
    for name in (each for each in TASKS if not asked or each in asked):
        for transport in TRANSPORTS:
            place = place_of(name, transport)
            if transport == "stdio" or place != name:
                write(place, await transcript_of(name, transport))


async def write_moving(transport: str, engine_url: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with agent_over(transport, Path(folder), engine_url) as agent:
            pictures = await video_and_sound(agent)
            write(place_of(NAME, transport), agent.transcript)
            if transport == "stdio":
                for kind, picture in pictures.items():
                    Image.open(BytesIO(picture)).save(DOCUMENT.with_name(PICTURES[kind]), optimize=True)


async def transcript_of(name: str, transport: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_of(name, transport)
        async with open_house(Path(folder)) as house, house.agent(transport, **settings) as agent:
            await TASKS[name](agent, house)
            return agent.transcript


asyncio.run(main())
