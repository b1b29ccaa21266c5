"""Writes the transcripts of the tasks into docs/agents.md.

`python -m tests.agent NAME …` writes only those.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.agent.scripted import DOCUMENT
from tests.agent.tasks import TASKS, open_house, settings_of


def write(name: str, transcript: str) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    before, marker, rest = text.partition(f"<!-- {name} -->\n")
    assert marker, f"docs/agents.md has no place for {name}"
    after = rest.partition("\n```\n")[2]
    DOCUMENT.write_text(f"{before}{marker}```text\n{transcript}\n```\n{after}", encoding="utf-8")


async def main() -> None:
    asked = sys.argv[1:]
    for name in (each for each in TASKS if not asked or each in asked):
        with tempfile.TemporaryDirectory() as folder:
            settings = settings_of(name, "stdio")
            async with open_house(Path(folder)) as house, house.agent("stdio", **settings) as agent:
                await TASKS[name](agent, house)
                transcript = agent.transcript
            write(name, transcript)


asyncio.run(main())
