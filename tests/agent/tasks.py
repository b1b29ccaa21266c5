"""The tasks themselves: what the agent calls, and what it must be told by then."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from PIL import Image

from comfy_mcp.embedded import EmbeddedEngine, EngineConfig
from tests.agent.scripted import Agent, agent_over, pictures_in, text_of

SAVED = {
    "1": {
        "class_type": "PrimitiveString",
        "inputs": {"value": "a red fox"},
        "_meta": {"title": "Prompt"},
    },
    "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}, "_meta": {"title": "Show"}},
}
"""Stands for any workflow that somebody saved in ComfyUI; the embedded engine has no models."""


@asynccontextmanager
async def agent_in(folder: Path, transport: str) -> AsyncIterator[Agent]:
    """With an engine that has a saved workflow and a picture."""
    base = folder / "engine"
    workflows = base / "user" / "default" / "workflows"
    workflows.mkdir(parents=True)
    (workflows / "Fox poster.json").write_text(json.dumps(SAVED))
    (base / "input").mkdir()
    Image.new("RGB", (40, 30), "orange").save(base / "input" / "cat.png")
    async with (
        EmbeddedEngine(EngineConfig(base_directory=base)) as engine,
        agent_over(transport, folder, engine.url) as agent,
    ):
        yield agent


async def saved(agent: Agent) -> None:
    """The workflow that I saved in ComfyUI, with another prompt."""
    found = await agent("find_workflow", query="the fox poster that I saved")
    first = found.structured_content["workflows"][0]
    assert (first["name"], first["runnable"]) == ("Fox poster", True)
    assert first["inputs"] == ["prompt (text)"]
    submitted = await agent("submit_workflow", workflow=first["name"], inputs={"prompt": "a blue cat"})
    done = await agent("wait_for_workflow", workflow_id=submitted.structured_content["workflowId"])
    assert done.structured_content["outputs"][0]["content"] == "a blue cat"
    assert done.structured_content["name"] == "Fox poster"
    assert agent.calls <= 3


async def upscale(agent: Agent) -> None:
    """A picture made twice as large."""
    found = await agent("find_workflow", query="upscale a picture", limit=1)
    assert "image (image, needed)" in text_of(found)
    submitted = await agent("submit_workflow", workflow="upscale", inputs={"image": "cat.png", "scale": 2})
    done = await agent("wait_for_workflow", workflow_id=submitted.structured_content["workflowId"])
    assert done.structured_content["status"] == "completed"
    assert pictures_in(done) == 1
    assert agent.calls <= 3


async def nodes(agent: Agent) -> None:
    """Which nodes, and which choices of an input: one call for each question."""
    scales = await agent("find_nodes", query="which node scales an image?", limit=2)
    assert "ImageScaleBy" in text_of(scales)
    one = await agent("find_nodes", name="ImageScaleBy")
    assert "upscale_method COMBO of nearest-exact" in text_of(one)
    choices = await agent("find_nodes", name="ImageScaleBy.upscale_method")
    assert choices.structured_content["nodes"][0]["inputs"][0]["choices"][-1] == "lanczos"
    assert agent.calls == 3


async def mistakes(agent: Agent) -> None:
    """A mistake in a name costs one call and no job."""
    typed = await agent("submit_workflow", workflow="upscal", inputs={"image": "cat.png"})
    assert typed.is_error
    assert "Nearest: upscale" in text_of(typed)
    wrong = await agent("submit_workflow", workflow="upscale", inputs={"image": "cat.png", "factr": 2})
    assert wrong.is_error
    assert "scale" in text_of(wrong)
    missing = await agent("submit_workflow", workflow="upscale")
    assert missing.is_error
    assert 'inputs={"image"' in text_of(missing)
    jobs = await agent("list_workflows")
    assert jobs.structured_content["workflows"] == []


TASKS: dict[str, Callable[[Agent], Awaitable[None]]] = {
    "saved": saved,
    "upscale": upscale,
    "nodes": nodes,
    "mistakes": mistakes,
}
"""By the name of the transcript in docs/agents.md."""
