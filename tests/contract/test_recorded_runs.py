"""The whole bridge against what real servers said: recorded runs of 0.33.0 and 0.3.75, played back.

The engine answers each POST with the recorded answer and sends the recorded frames, in order, under the id
that the bridge chose. What the bridge says of the job is compared with the recorded history.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from comfy_mcp.domain.ids import ClientId, PromptId
from comfy_mcp.domain.prompt import PromptEnding
from comfy_mcp.operations.context import Caller
from comfy_mcp.places.comfyui.answers import prompt_result
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import load_settings
from tests.operations.conftest import Bench
from tests.support import recordings
from tests.support.constants import constants
from tests.support.fake_engine import FakeEngine

RUNS = ("01", "03", "04", "06", "19", "v0.3.75/01", "v0.3.75/03", "v0.3.75/04", "v0.3.75/06")


@dataclass
class Run:
    """One prompt of a recording, and what it was answered with."""

    graph: dict[str, Any]
    answer: dict[str, Any]
    frames: list[str | bytes] = field(default_factory=list)
    history: dict[str, Any] | None = None

    @property
    def prompt_id(self) -> str:
        return str(self.answer["prompt_id"])


def runs_of(name: str) -> list[Run]:
    """Those that were taken, followed to their end, and looked up."""
    runs: dict[str, Run] = {}
    for exchange in recordings.exchanges(name):
        if exchange.path == "/prompt" and exchange.status == 200 and exchange.sent:
            run = Run(graph=exchange.sent["prompt"], answer=exchange.body)
            runs[run.prompt_id] = run
        elif exchange.path.startswith("/history/") and exchange.body:
            for prompt_id, entry in exchange.body.items():
                if prompt_id in runs:
                    runs[prompt_id].history = entry
    current: Run | None = None
    for frame in recordings.frames(name, "ws:a"):
        message = json.loads(frame) if isinstance(frame, str) else {}
        data = message.get("data", {})
        if message.get("type") == "execution_start":
            current = runs.get(data["prompt_id"])
        if current is not None and message.get("type") != "status":
            current.frames.append(frame)
        if message.get("type") == "executing" and data["node"] is None:
            current = None
    return [run for run in runs.values() if run.history is not None and run.frames]


CRASHES = ("15", "16", "17")


def crash_of(name: str) -> tuple[Run, Run]:
    """The run that the engine's end cut off, with its frames so far, and one after the restart."""
    posts = [each for each in recordings.exchanges(name) if each.path == "/prompt" and each.method == "POST"]
    runs = [Run(graph=each.sent["prompt"], answer=each.body) for each in posts if each.status == 200]
    for run in runs:
        for frame in (*recordings.frames(name, "ws:a"), *recordings.frames(name, "ws:a2")):
            message = json.loads(frame) if isinstance(frame, str) else {}
            if message.get("data", {}).get("prompt_id") == run.prompt_id:
                run.frames.append(frame)
    (cut,) = [run for run in runs if run.frames and "execution_success" not in str(run.frames)]
    return cut, runs[-1]


class Played(FakeEngine):
    def __init__(self, runs: list[Run]) -> None:
        super().__init__()
        self._waiting = list(runs)
        self.answers["POST /prompt"] = self._run
        self.answers["POST /upload/image"] = self._take

    async def _run(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        run, ours = self._waiting.pop(0), body["prompt_id"]
        assert body["prompt"] == run.graph
        if run.history is not None:
            self.histories[ours] = run.history
        for frame in run.frames:
            await self.send(body["client_id"], _as_to_us(frame, run.prompt_id, ours))
        return web.json_response(run.answer | {"prompt_id": ours})

    async def _take(self, request: web.Request) -> web.StreamResponse:
        named = re.search(rb'filename="([^"]+)"', await request.read())
        assert named is not None
        return web.json_response({"name": named[1].decode(), "subfolder": "websocket", "type": "output"})


def _as_to_us(frame: str | bytes, theirs: str, ours: str) -> str | bytes:
    """A client that asks for it gets each picture with its node and prompt, as recording 01 has them."""
    if isinstance(frame, str):
        return frame.replace(theirs, ours)
    if frame[:4] == b"\0\0\0\4":
        return frame.replace(theirs.encode(), ours.encode())
    image_type = "image/png" if frame[4:8] == b"\0\0\0\2" else "image/jpeg"
    metadata = json.dumps(
        {"node_id": "3", "display_node_id": "3", "prompt_id": ours, "image_type": image_type}
    )
    return b"\0\0\0\4" + len(metadata).to_bytes(4, "big") + metadata.encode() + frame[8:]


@asynccontextmanager
async def bridge(engine: FakeEngine, folder: Path) -> AsyncIterator[Bench]:
    settings = load_settings(engine_urls=engine.url, state_dir=folder / "state")
    with constants(PROGRESS_S=0.01):
        async with open_runtime(settings) as services:
            yield Bench(services, Caller(client=ClientId("tester"), surface="test"))


class Crashing(Played):
    """Sends a run's frames as far as they were recorded; the same graph waits in its queue from then on."""

    def __init__(self, cut: Run, after: Run) -> None:
        super().__init__([after])
        self.cut = cut
        self.cut_ids: list[str] = []
        self.answers["POST /prompt"] = self._first

    async def _first(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if body["prompt"] != self.cut.graph:
            return await self._run(request)
        ours = body["prompt_id"]
        self.cut_ids.append(ours)
        if len(self.cut_ids) > 1:
            self.pending.append(ours)
            return web.json_response(self.cut.answer | {"prompt_id": ours})
        self.running.append(ours)
        for frame in self.cut.frames:
            await self.send(body["client_id"], _as_to_us(frame, self.cut.prompt_id, ours))
        return web.json_response(self.cut.answer | {"prompt_id": ours})


@pytest.mark.parametrize("name", CRASHES)
async def test_a_run_that_the_engines_recorded_end_cut_off_is_submitted_again(
    name: str, tmp_path: Path
) -> None:
    cut, after = crash_of(name)
    async with Crashing(cut, after) as engine, bridge(engine, tmp_path) as call:
        lost = (await call("submit_workflow", workflow=cut.graph)).workflow_id
        while (state := await call("workflow_status", workflow_id=lost)).progress == 0:
            await asyncio.sleep(0)
        assert state.status == "running"
        await engine.stop()
        engine.running.clear()
        await engine.start()
        while len(engine.cut_ids) < 2:
            await asyncio.sleep(0)
        assert len(set(engine.cut_ids)) == 2, "a new attempt, under an id of its own"
        await call("cancel_workflow", workflow_id=lost)
        done = await call("submit_workflow", workflow=after.graph)
        state = await call("wait_for_workflow", workflow_id=done.workflow_id, timeout_s=30)
        assert state.status == "completed"
        recorded = next(each for each in map(str, after.frames) if '"executed"' in each)
        assert {each.filename for each in state.outputs} == {
            each["filename"] for each in json.loads(recorded)["data"]["output"]["images"]
        }
        assert (await call("workflow_status", workflow_id=lost)).status == "cancelled"


@pytest.mark.parametrize("name", RUNS)
async def test_a_recorded_run_ends_in_the_bridge_as_it_ended_there(name: str, tmp_path: Path) -> None:
    runs = runs_of(name)
    assert runs
    async with Played(runs) as engine, bridge(engine, tmp_path) as call:
        for run in runs:
            seen: list[float] = []

            async def follow(state: Any, seen: list[float] = seen) -> None:
                seen.append(state.progress)

            submitted = await call("submit_workflow", workflow=run.graph)
            state = await call(
                "wait_for_workflow", workflow_id=submitted.workflow_id, timeout_s=30, on_progress=follow
            )
            there = prompt_result({run.prompt_id: run.history}, PromptId(run.prompt_id))
            assert there is not None
            assert seen == sorted(seen)
            assert state.status == ("completed" if there.ending is PromptEnding.SUCCESS else "failed")
            files = [file for file in there.outputs if file.text is None]
            named = [
                (each.filename, each.subfolder, each.type) for each in state.outputs if each.content is None
            ]
            sent = [each for each in named if each[1] == "websocket"]
            assert sorted(set(named) - set(sent)) == sorted(
                (file.filename, file.subfolder, file.kind.value) for file in files
            )
            assert bool(sent) == ("SaveImageWebsocket" in {node["class_type"] for node in run.graph.values()})
            if there.failure is not None:
                assert (state.failure.node_id, state.failure.message) == (
                    there.failure.node_id,
                    there.failure.message,
                )
