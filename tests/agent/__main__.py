"""Writes the transcripts of the tasks into docs/agents.md.

`python -m tests.agent NAME …` writes only those.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.agent.scripted import DOCUMENT, TRANSPORTS, place_of
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
        for transport in TRANSPORTS:
            place = place_of(name, transport)
            if transport == "stdio" or place != name:
                write(place, await transcript_of(name, transport))


async def transcript_of(name: str, transport: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_of(name, transport)
        async with open_house(Path(folder)) as house, house.agent(transport, **settings) as agent:
            await TASKS[name](agent, house)
            return agent.transcript


asyncio.run(main())
