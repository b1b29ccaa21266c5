"""Writes the transcripts of the tasks into docs/agents.md.

`python -m tests.agent NAME …` writes only those.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.agent.scripted import DOCUMENT
from tests.agent.tasks import TASKS, open_house
from tests.agent.together import TOGETHER


def write(name: str, transcript: str) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    before, marker, rest = text.partition(f"<!-- {name} -->\n")
    assert marker, f"docs/agents.md has no place for {name}"
    after = rest.partition("\n```\n")[2]
    DOCUMENT.write_text(f"{before}{marker}```text\n{transcript}\n```\n{after}", encoding="utf-8")


async def main() -> None:
    asked = sys.argv[1:]
    for name in (each for each in (*TASKS, *TOGETHER) if not asked or each in asked):
        with tempfile.TemporaryDirectory() as folder:
            async with open_house(Path(folder)) as house:
                if name in TOGETHER:
                    transcript = await TOGETHER[name](house, "stdio")
                else:
                    async with house.agent("stdio") as agent:
                        await TASKS[name](agent)
                        transcript = agent.transcript
            write(name, transcript)


asyncio.run(main())
