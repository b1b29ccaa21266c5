"""Tasks in which something else happens meanwhile: the engine hangs, another agent works on it too."""

from collections.abc import Awaitable, Callable

from tests.agent.scripted import Agent, text_of
from tests.agent.tasks import House


async def hang(house: House, transport: str) -> str:
    """h. My job hangs: why? Cancel everything of mine."""
    async with house.agent(transport) as agent:
        first = await agent("submit_workflow", workflow="Long animation", inputs={"steps": 100})
        workflow_id = first.structured_content["workflowId"]
        await agent.until_running(workflow_id)
        await house.engine.stop()
        while "silence" not in (await _status(agent, workflow_id)):
            pass
        agent.calls, agent.lines[:] = 0, []
        why = await agent("workflow_status", workflow_id=workflow_id)
        assert "not answered" in text_of(why) or "does not answer" in text_of(why)
        gone = await agent("cancel_workflow", workflow_id="mine", reason="the engine hangs")
        assert not gone.is_error, text_of(gone)
        assert agent.calls == 2
        return str(agent.transcript)


async def _status(agent: Agent, workflow_id: str) -> str:
    state = await agent.client.call_tool("workflow_status", {"workflow_id": workflow_id})
    return str(state.structured_content)


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


TOGETHER: dict[str, Callable[[House, str], Awaitable[str]]] = {"hang": hang, "two-agents": two_agents}
