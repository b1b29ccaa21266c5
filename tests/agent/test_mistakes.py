"""Typical mistakes of agents: each answer names the thing, what is right, and the next call."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError

from comfy_mcp.driving import hearing
from comfy_mcp.places.comfyui import contact
from tests.agent.mistakes import MISTAKES, arguments_of, base_graph, faults
from tests.agent.scripted import TRANSPORTS, Agent, text_of
from tests.agent.tasks import open_house, wait_for
from tests.support import graphs
from tests.support.mcp_surface import open_surface
from tests.support.processes import embedded_engine

ALONE = sorted(name for name, each in MISTAKES.items() if "setup" not in each)
ONLY_WITH_FILES = frozenset({"M31", "M32"})
"""Over HTTP `path` is no argument that could be meant."""


async def answer_to(agent: Agent, tool: str, arguments: dict[str, Any]) -> tuple[bool, str, bool]:
    """(is an error, the text, a workflow was queued)."""
    try:
        result = await agent(tool, **arguments)
    except MCPError as error:
        return True, str(error), False
    queued = tool == "submit_workflow" and "workflowId" in (result.structured_content or {})
    return bool(result.is_error), text_of(result), queued


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_each_mistake_gets_a_good_answer(tmp_path: Path, transport: str) -> None:
    async with open_house(tmp_path) as house, house.agent(transport) as agent:
        names = {"CKPT": "small.safetensors", "CKPT_STEM": "small", "ROOT": str(house.project)}
        (house.project / "ok.json").write_text(json.dumps(base_graph(names)))
        done = await wait_for(agent, await agent("submit_workflow", workflow=base_graph(names)))
        names["WORKFLOW_ID"] = done.structured_content["workflowId"]
        bad = {}
        for name in ALONE:
            if transport == "http" and name in ONLY_WITH_FILES:
                continue
            mistake = MISTAKES[name]
            arguments = arguments_of(mistake, names)
            is_error, text, queued = await answer_to(agent, mistake["call"]["tool"], arguments)
            if found := faults(mistake, names, is_error=is_error, text=text, queued=queued):
                bad[name] = (mistake["title"], found, text)
    assert bad == {}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_m53_a_running_job_of_a_dead_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setattr(contact, "PATIENCE_S", 0.3)
    monkeypatch.setattr(hearing, "QUIET_S", 0.05)
    async with (
        embedded_engine(tmp_path / "engine") as (process, url),
        open_surface(tmp_path, engine_url=url) as surface,
        surface.client("2026-07-28") as client,
    ):
        agent = Agent(client, tmp_path, "stdio")
        job = (await agent("submit_workflow", workflow=graphs.slow())).structured_content["workflowId"]
        await agent.until_running(job)
        os.kill(process.pid, number)
        for _ in range(1000):
            state = await agent("workflow_status", workflow_id=job)
            if "silence" in state.structured_content:
                break
        text = text_of(state)
        assert faults(MISTAKES["M53"], {}, is_error=bool(state.is_error), text=text, queued=False) == []


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_m55_the_first_call_of_a_session(tmp_path: Path, transport: str) -> None:
    async with open_house(tmp_path) as house, house.agent(transport) as agent:
        first = await agent("system_status")
        text = text_of(first)
        assert faults(MISTAKES["M55"], {}, is_error=bool(first.is_error), text=text, queued=False) == []


def test_every_mistake_is_tried() -> None:
    assert len(MISTAKES) == 22
    assert set(MISTAKES) - set(ALONE) == {"M53", "M55"}
