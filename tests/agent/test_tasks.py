"""Tasks of an agent that knows nothing of the machine, each within its number of calls, over both transports.

docs/agents.md has the transcripts; `python -m tests.agent` writes them anew.
"""

from pathlib import Path

import pytest

from tests.agent.scripted import TRANSPORTS, documented, place_of
from tests.agent.tasks import TASKS, open_house, settings_of


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("task", TASKS)
async def test_a_task_takes_few_calls_and_goes_as_documented(
    task: str, transport: str, tmp_path: Path
) -> None:
    settings = settings_of(task, transport)
    async with open_house(tmp_path) as house, house.agent(transport, **settings) as agent:
        await TASKS[task](agent, house)
        assert agent.transcript == documented(place_of(task, transport))
