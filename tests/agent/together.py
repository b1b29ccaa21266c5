"""Tasks in which something else happens meanwhile: another agent works on the same engine."""

from collections.abc import Awaitable, Callable

from tests.agent.scripted import text_of
from tests.agent.tasks import House


async def two_agents(house: House, transport: str) -> str:
    """k. Two agents on one ComfyUI: who cancelled, and which are mine."""
    async with house.agent(transport, CLIENT_NAME="ann") as ann:
        mine = await ann("submit_workflow", workflow="Long animation", inputs={"steps": 2000})
        await ann.until_running(mine.structured_content["workflowId"])
        async with house.agent("stdio", CLIENT_NAME="ben") as ben:
            await ben("submit_workflow", workflow="Fox poster")
            own = await ben("list_workflows", mine=True)
            assert len(own.structured_content["workflows"]) == 1
            job = mine.structured_content["workflowId"]
            await ben("cancel_workflow", workflow_id=job, reason="I need the GPU")
        state = await ann("workflow_status", workflow_id=job)
        assert "ben" in text_of(state)
        assert "I need the GPU" in text_of(state)
        ann.lines[3:3] = ["(ben)", *ben.lines, "(ann)"]
        return str(ann.transcript)


TOGETHER: dict[str, Callable[[House, str], Awaitable[str]]] = {"two-agents": two_agents}
