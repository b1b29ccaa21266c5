"""What the events of a successful run told is what the history has: in recordings, and on running engines.

The driver relies on it (`Attempt.whole_story`): it reads no history after a run that it heard whole.
"""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from comfy_mcp.domain.catalog import OutputFile
from comfy_mcp.domain.events import EngineEvent, NodeExecuted, PromptEnded, PromptStarted, PromptSucceeded
from comfy_mcp.domain.ids import PromptId
from comfy_mcp.domain.prompt import PromptEnding, PromptResult
from comfy_mcp.places.comfyui.answers import prompt_result
from comfy_mcp.places.comfyui.wire import Decoder
from tests.places.comfyui.test_place_engines import Running, new_id, picture, real_comfyui, stream
from tests.support import graphs, recordings

__all__ = ["real_comfyui", "stream"]  # fixtures
WORKFLOWS = Path(__file__).parents[2] / "data" / "workflows"


def events_of(recording: str, channel: str) -> Iterator[EngineEvent]:
    decoder = Decoder()
    for frame in recordings.frames(recording, channel):
        yield from decoder.text(frame) if isinstance(frame, str) else decoder.binary(frame)


def histories(recording: str) -> dict[PromptId, PromptResult]:
    """The entries that the recording asked for after their end, the last answer of each."""
    found: dict[PromptId, PromptResult] = {}
    for exchange in recordings.exchanges(recording):
        if exchange.path.startswith("/history/") and isinstance(exchange.body, dict):
            for prompt_id in exchange.body:
                if (result := prompt_result(exchange.body, prompt_id)) is not None:
                    found[PromptId(prompt_id)] = result
    return found


def told_whole(events: list[EngineEvent], prompt_id: PromptId) -> tuple[OutputFile, ...] | None:
    """The files of a prompt that these events told from one start to its success."""
    about = [event for event in events if getattr(event, "prompt_id", None) == prompt_id]
    starts = [event for event in about if isinstance(event, PromptStarted)]
    if len(starts) != 1 or PromptSucceeded(prompt_id=prompt_id) not in about:
        return None
    return tuple(file for event in about if isinstance(event, NodeExecuted) for file in event.outputs)


CASES = [
    (recording, channel, prompt_id)
    for recording in recordings.ALL
    for channel in sorted({line["ch"] for line in recordings.lines(recording) if line["ch"][:3] == "ws:"})
    for prompt_id in histories(recording)
    if told_whole(list(events_of(recording, channel)), prompt_id) is not None
]


@pytest.mark.parametrize(("recording", "channel", "prompt_id"), CASES)
def test_in_a_recording(recording: str, channel: str, prompt_id: PromptId) -> None:
    told = told_whole(list(events_of(recording, channel)), prompt_id)
    assert histories(recording)[prompt_id] == PromptResult(ending=PromptEnding.SUCCESS, outputs=told or ())


def test_the_recordings_have_runs_from_the_cache_and_of_both_versions() -> None:
    seen = {recording for recording, _, _ in CASES}
    assert len(CASES) > 10
    assert {name for name in seen if "cached_rerun" in name} == {
        "03_success_then_fully_cached_rerun.jsonl",
        "v0.3.75/03_success_then_fully_cached_rerun.jsonl",
    }


async def agrees(stream: Running, graph: dict[str, Any]) -> None:
    prompt_id = new_id()
    await stream.place.submit(prompt_id, graph)
    before, _ended = await stream.until(PromptEnded, prompt_id)
    told = told_whole(before, prompt_id)
    history = (await stream.place.lookup([prompt_id]))[prompt_id].result
    assert told
    assert history == PromptResult(ending=PromptEnding.SUCCESS, outputs=told)


async def test_on_an_engine(stream: Running) -> None:
    two = picture() | {"3": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}
    for graph in (picture(), graphs.text(), two):
        await agrees(stream, graph)
        await agrees(stream, graph)  # from the cache


async def test_on_an_engine_a_run_that_is_cached_in_part(stream: Running) -> None:
    graph = picture(color=uuid.uuid4().int % 2**24)
    await agrees(stream, graph)
    await agrees(stream, graph | {"3": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}}})


async def test_on_an_engine_that_samples(stream: Running) -> None:
    if "KSampler" in await stream.place.node_list.raw():
        await agrees(stream, json.loads((WORKFLOWS / "txt2img_tiny_ksampler.json").read_text()))
    else:
        await agrees(stream, graphs.slow(steps=3, step_ms=1))
