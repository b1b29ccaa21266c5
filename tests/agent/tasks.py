"""The tasks themselves: what the agent calls, and what it must be told by then."""

import json
import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from comfy_mcp.embedded import EmbeddedEngine, EngineConfig
from tests.agent.scripted import Agent, agent_over, pictures_in, text_of
from tests.support.processes import embedded_engine
from tests.support.sampling_nodes import SAMPLING_NODES

SAVED = {
    "1": {
        "class_type": "PrimitiveString",
        "inputs": {"value": "a red fox"},
        "_meta": {"title": "Prompt"},
    },
    "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}, "_meta": {"title": "Show"}},
}
"""Stands for any workflow that somebody saved in ComfyUI."""


def sketch(*, steps: int = 2, step_ms: int = 5) -> dict[str, Any]:
    """A picture with a seed, in as much time as is wanted."""
    slow = {"width": 64, "height": 48, "color": 16_711_680, "steps": steps, "step_ms": step_ms, "seed": 7}
    return {
        "1": {"class_type": "BridgeSlowImage", "inputs": slow},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "sketch"}},
    }


@dataclass(slots=True, kw_only=True)
class House:
    """An engine with saved workflows and a model, and agents that share it."""

    folder: Path
    project: Path
    engine: EmbeddedEngine

    def agent(self, transport: str, **settings: str) -> AbstractAsyncContextManager[Agent]:
        return agent_over(transport, self.folder, self.engine.url, project=self.project, **settings)


@asynccontextmanager
async def open_house(folder: Path) -> AsyncIterator[House]:
    base, project = folder / "engine", folder / "project"
    for sub in ("user/default/workflows", "models/checkpoints", "input"):
        (base / sub).mkdir(parents=True)
    project.mkdir()
    saved = base / "user" / "default" / "workflows"
    (saved / "Fox poster.json").write_text(json.dumps(SAVED))
    (saved / "Red sketch.json").write_text(json.dumps(sketch()))
    (saved / "Long animation.json").write_text(json.dumps(sketch(steps=40, step_ms=40)))
    (base / "models" / "checkpoints" / "small.safetensors").write_bytes(b"12345")
    Image.new("RGB", (40, 30), "orange").save(project / "cat.png")
    Image.new("RGB", (64, 48), "navy").save(base / "input" / "night.png")
    async with EmbeddedEngine(EngineConfig(base_directory=base), SAMPLING_NODES) as engine:
        yield House(folder=folder, project=project, engine=engine)


async def wait_for(agent: Agent, submitted: Any, **arguments: Any) -> Any:
    """Until the end."""
    workflow_id = submitted.structured_content["workflowId"]
    done = await agent("wait_for_workflow", workflow_id=workflow_id, **arguments)
    assert done.structured_content["status"] == "completed", text_of(done)
    return done


async def picture(agent: Agent, _: House | None = None) -> None:
    """a. A picture of a red fox, with whatever model is there."""
    found = await agent("find_workflow", query="text to image", limit=1)
    first = found.structured_content["workflows"][0]
    assert (first["name"], first["runnable"]) == ("text-to-image", True)
    inputs = {"prompt": "a red fox", "size": "64x64", "steps": 2}
    done = await wait_for(agent, await agent("submit_workflow", workflow=first["name"], inputs=inputs))
    assert done.structured_content["name"] == "a red fox"
    assert pictures_in(done) == 1
    assert agent.calls == 3


async def own_file(agent: Agent, _: House) -> None:
    """b. Take ./cat.png and make it twice as large. m. Save it as ./art/fox.png."""
    found = await agent("find_workflow", query="upscale a picture", limit=1)
    assert "image (image, needed)" in text_of(found)
    asked: dict[str, Any] = {"workflow": "upscale", "inputs": {"image": "./cat.png", "scale": 2}}
    if agent.transport == "stdio":
        asked["save_to"] = "art/fox.png"
    else:
        address = re.findall(r'curl -F image=@FILE "([^"]+)"', text_of(found))[0]
        asked["inputs"]["image"] = await agent.upload(address, agent.project / "cat.png")
    done = await wait_for(agent, await agent("submit_workflow", **asked))
    assert pictures_in(done) == 1
    assert agent.calls <= 3
    if agent.transport == "stdio":
        assert done.structured_content["saved"] == [str(agent.project / "art" / "fox.png")]
        with Image.open(agent.project / "art" / "fox.png") as image:
            assert image.size == (80, 60)
    else:
        assert done.structured_content["outputs"][0]["link"].startswith("https://pictures.example/")


async def blend(agent: Agent, _: House) -> None:
    """c. Blend the last output with this one."""
    await wait_for(agent, await agent("submit_workflow", workflow="Red sketch"))
    agent.calls, agent.lines[:] = 0, []
    last = (await agent("list_outputs", type="image", limit=1)).structured_content["outputs"][0]
    inputs = {"image1": ["1", 0], "image2": ["2", 0], "blend_factor": 0.5, "blend_mode": "normal"}
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": f"output:{last['outputId']}"}},
        "2": {"class_type": "LoadImage", "inputs": {"image": "night.png"}},
        "3": {"class_type": "ImageBlend", "inputs": inputs},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "both"}},
    }
    done = await wait_for(agent, await agent("submit_workflow", workflow=graph))
    assert pictures_in(done) == 1
    assert agent.calls <= 3


async def variations(agent: Agent, _: House) -> None:
    """d. Four variations with other seeds, shown."""
    found = await agent("find_workflow", query="red sketch", limit=1)
    name = found.structured_content["workflows"][0]["name"]
    done = await wait_for(agent, await agent("submit_workflow", workflow=name, variations=4))
    assert len(done.structured_content["workflows"]) == 4
    assert pictures_in(done) == 1  # one sheet
    assert agent.calls <= 3


async def nodes(agent: Agent, _: House) -> None:
    """e. Which models, nodes and choices of an input: one call for each question."""
    models = await agent("list_models", type="checkpoints")
    assert "small.safetensors" in text_of(models)
    scales = await agent("find_nodes", query="which node scales an image?", limit=2)
    assert "ImageScaleBy" in text_of(scales)
    one = await agent("find_nodes", name="ImageScaleBy")
    assert "upscale_method COMBO of nearest-exact" in text_of(one)
    choices = await agent("find_nodes", name="ImageScaleBy.upscale_method")
    assert choices.structured_content["nodes"][0]["inputs"][0]["choices"][-1] == "lanczos"
    assert agent.calls == 4


async def saved(agent: Agent, _: House) -> None:
    """f. The workflow that I saved in ComfyUI, with another prompt."""
    found = await agent("find_workflow", query="the fox poster that I saved", limit=1)
    first = found.structured_content["workflows"][0]
    assert (first["name"], first["runnable"]) == ("Fox poster", True)
    assert first["inputs"] == ["prompt (text)"]
    submitted = await agent("submit_workflow", workflow=first["name"], inputs={"prompt": "a blue cat"})
    done = await wait_for(agent, submitted)
    assert done.structured_content["outputs"][0]["content"] == "a blue cat"
    assert done.structured_content["name"] == "Fox poster"
    assert agent.calls <= 3


async def animation(agent: Agent, _: House) -> None:
    """g. A short animation and a text, shown."""
    frames = {"images": ["2", 0], "filename_prefix": "walk", "fps": 6.0, "lossless": True, "quality": 80}
    graph = {
        "1": sketch()["1"],
        "0": {"class_type": "LoadImage", "inputs": {"image": "night.png"}},
        "2": {"class_type": "ImageBatch", "inputs": {"image1": ["1", 0], "image2": ["0", 0]}},
        "3": {"class_type": "SaveAnimatedWEBP", "inputs": {**frames, "method": "default"}},
        "4": SAVED["1"],
        "5": {"class_type": "PreviewAny", "inputs": {"source": ["4", 0]}},
    }
    done = await wait_for(agent, await agent("submit_workflow", workflow=graph, name="Walk"))
    outputs = {each["type"]: each for each in done.structured_content["outputs"]}
    assert outputs["text"]["content"] == "a red fox"
    moving = next(each for each in outputs.values() if each["filename"].endswith(".webp"))
    shown = await agent("view_output", output_id=moving["outputId"])
    assert pictures_in(shown) == 1
    assert "frames" in text_of(shown)
    assert agent.calls <= 3


async def patience(agent: Agent, _: House) -> None:
    """i. A long job: tell me when it is done. One wait for as long as the client lets a call last."""
    heard: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        heard.append(progress)

    submitted = await agent("submit_workflow", workflow="Long animation")
    workflow_id = submitted.structured_content["workflowId"]
    agent.calls += 1
    done = await agent.client.call_tool(
        "wait_for_workflow", {"workflow_id": workflow_id}, progress_callback=on_progress
    )
    assert done.structured_content["status"] == "completed"
    assert heard == sorted(heard)
    assert heard[-1] == 100
    agent.lines += [f'> wait_for_workflow(workflow_id="{workflow_id}")', text_of(done), "[a picture]", ""]
    assert agent.calls == 2


async def is_it_free(agent: Agent, _: House) -> None:
    """l. Is the GPU free, and how long will it take? Unknown is not said in numbers."""
    before = await agent("system_status")
    assert before.structured_content["jobs"].get("running", 0) == 0
    asked = {"workflow": "Long animation", "inputs": {"steps": 2000}}
    workflow_id = (await agent("submit_workflow", **asked)).structured_content["workflowId"]
    await agent.until_running(workflow_id)
    state = (await agent("workflow_status", workflow_id=workflow_id)).structured_content
    low, high = state.get("etaRangeMs", (0, state.get("etaMs", 0)))
    assert low <= state.get("etaMs", 0) <= high
    busy = await agent("system_status")
    assert busy.structured_content["jobs"]["running"] == 1
    await agent("cancel_workflow", workflow_id=workflow_id)
    assert agent.calls == 5


async def mistakes(agent: Agent, _: House) -> None:
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


async def one_after_the_other(agent: Agent, _: House) -> None:
    """j. Run B when A is done, with A's output: one submit each."""
    asked = {"workflow": "Long animation", "inputs": {"steps": 100}}
    first = (await agent("submit_workflow", **asked)).structured_content["workflowId"]
    inputs = {"image": f"output:{first}", "scale": 2}
    second = await agent("submit_workflow", workflow="upscale", inputs=inputs)
    done = await wait_for(agent, second)
    assert done.structured_content["after"] == [first]
    assert pictures_in(done) == 1
    assert agent.calls == 3


async def hung_engine(agent: Agent, house: House) -> None:
    """h. My job hangs: why? Cancel everything of mine. The reason in one call, and one cancel."""
    folder = house.folder / "hung"
    async with (
        embedded_engine(folder / "engine") as (process, url),
        agent_over(agent.transport, folder, url, project=house.project) as own,
    ):
        graph = sketch(steps=1000, step_ms=50)
        submitted = await own("submit_workflow", workflow=graph, name="Slow sketch")
        workflow_id = submitted.structured_content["workflowId"]
        await own.until_running(workflow_id, percent=1.0)  # with a preview
        os.kill(process.pid, signal.SIGSTOP)
        own.calls, own.lines[:] = 0, []
        state = await own("wait_for_workflow", workflow_id=workflow_id, timeout_s=QUIET_S)
        assert "has not answered for" in text_of(state)
        assert state.structured_content["silence"]["since"]
        cancel = await own("cancel_workflow", workflow_id="mine")
        assert cancel.structured_content["stopping"] == 1
        assert "ends as cancelled" in text_of(cancel)
        assert own.calls == 2
        agent.lines[:] = own.lines


async def two_agents(agent: Agent, house: House) -> None:
    """k. Two agents on one ComfyUI: who cancelled, and which are mine. The first one is ann."""
    mine = await agent("submit_workflow", workflow="Long animation", inputs={"steps": 2000})
    job = mine.structured_content["workflowId"]
    await agent.until_running(job)
    async with house.agent("stdio", CLIENT_NAME="ben") as ben:
        await ben("submit_workflow", workflow="Fox poster")
        own = await ben("list_workflows", mine=True)
        assert len(own.structured_content["workflows"]) == 1
        await ben("cancel_workflow", workflow_id=job, reason="I need the GPU")
        assert ben.calls == 3
    state = await agent("workflow_status", workflow_id=job)
    assert "ben" in text_of(state)
    assert "I need the GPU" in text_of(state)
    assert agent.calls == 2
    agent.lines[3:3] = ["(ben)", *ben.lines, "(ann)"]


TASKS: dict[str, Callable[[Agent, House], Awaitable[None]]] = {
    "picture": picture,
    "own-file": own_file,
    "blend": blend,
    "variations": variations,
    "nodes": nodes,
    "saved": saved,
    "animation": animation,
    "patience": patience,
    "is-it-free": is_it_free,
    "one-after-the-other": one_after_the_other,
    "hung-engine": hung_engine,
    "two-agents": two_agents,
    "mistakes": mistakes,
}
"""By the name of the transcript in docs/agents.md."""


def settings_of(task: str, transport: str) -> dict[str, str]:
    """Settings of the agent's server for this task."""
    if task == "own-file" and transport == "http":
        return {"PUBLIC_URL": "https://pictures.example"}
    return {"CLIENT_NAME": "ann"} if task == "two-agents" else {}


QUIET_S = 6
"""Seconds in which an engine that answers is heard of, and nobody takes it for one that hangs."""
