"""Tasks of an agent that knows nothing of the machine, each within its number of calls, over both transports.

docs/agents.md has the transcripts; `python -m tests.agent` writes them anew.
"""

from pathlib import Path

import pytest

from tests.agent.scripted import TRANSPORTS, documented
from tests.agent.tasks import TASKS, open_house
from tests.agent.together import TOGETHER

BOTH = pytest.mark.parametrize("transport", TRANSPORTS)
LINKS = {"PUBLIC_URL": "https://pictures.example"}


@BOTH
@pytest.mark.parametrize("task", TASKS)
async def test_a_task_takes_few_calls_and_goes_as_documented(
    task: str, transport: str, tmp_path: Path
) -> None:
    links = LINKS if transport == "http" and task == "own-file" else {}
    async with open_house(tmp_path) as house, house.agent(transport, **links) as agent:
        await TASKS[task](agent)
        if transport == "stdio":
            assert agent.transcript == documented(task)


@BOTH
@pytest.mark.parametrize("task", TOGETHER)
async def test_what_others_do_is_said(task: str, transport: str, tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        transcript = await TOGETHER[task](house, transport)
    if transport == "stdio":
        assert transcript == documented(task)
