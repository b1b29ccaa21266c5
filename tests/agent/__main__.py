"""Writes the transcripts of the tasks into docs/agents.md.

`python -m tests.agent live` also that of a picture, on the real ComfyUI.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.agent.scripted import DOCUMENT, agent_over
from tests.agent.tasks import TASKS, open_house, picture
from tests.agent.together import TOGETHER
from tests.support.real_comfyui import RealComfyUI


def write(name: str, transcript: str) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    before, marker, rest = text.partition(f"<!-- {name} -->\n")
    assert marker, f"docs/agents.md has no place for {name}"
    after = rest.partition("\n```\n")[2]
    DOCUMENT.write_text(f"{before}{marker}```text\n{transcript}\n```\n{after}", encoding="utf-8")


async def main() -> None:
    for name in (*TASKS, *TOGETHER):
        with tempfile.TemporaryDirectory() as folder:
            async with open_house(Path(folder)) as house:
                if name in TOGETHER:
                    transcript = await TOGETHER[name](house, "stdio")
                else:
                    async with house.agent("stdio") as agent:
                        await TASKS[name](agent)
                        transcript = agent.transcript
            write(name, transcript)


async def live() -> None:
    with tempfile.TemporaryDirectory() as folder, RealComfyUI(Path(folder) / "comfyui") as server:
        async with agent_over("stdio", Path(folder), server.url) as agent:
            await picture(agent)
            write("picture", agent.transcript)


asyncio.run(main())
if "live" in sys.argv:
    asyncio.run(live())
