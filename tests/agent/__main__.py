"""Writes the transcripts of the tasks into docs/agents.md."""

import asyncio
import tempfile
from pathlib import Path

from tests.agent.scripted import DOCUMENT
from tests.agent.tasks import TASKS, agent_in


async def main() -> None:
    for name, task in TASKS.items():
        with tempfile.TemporaryDirectory() as folder:
            async with agent_in(Path(folder), "stdio") as agent:
                await task(agent)
                block = f"<!-- {name} -->\n```text\n{agent.transcript}\n```"
        text = DOCUMENT.read_text(encoding="utf-8")
        before, marker, rest = text.partition(f"<!-- {name} -->\n")
        after = rest.partition("\n```\n")[2]
        DOCUMENT.write_text(f"{before}{block}\n{after}" if marker else text, encoding="utf-8")


asyncio.run(main())
