"""Tasks of an agent that knows nothing of the machine, each within its number of calls, over both transports.

docs/agents.md has the transcripts; `python -m tests.agent` writes them anew.
"""

from pathlib import Path

import pytest

from tests.agent.scripted import TRANSPORTS, documented
from tests.agent.tasks import TASKS, agent_in


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("task", TASKS)
async def test_a_task_takes_few_calls_and_goes_as_documented(
    task: str, transport: str, tmp_path: Path
) -> None:
    async with agent_in(tmp_path, transport) as agent:
        await TASKS[task](agent)
        if transport == "stdio":
            assert agent.transcript == documented(task)
