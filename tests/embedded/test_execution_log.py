"""The engine's own record of what it did, for tests that kill processes."""

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from comfy_mcp.embedded import EmbeddedEngine, EngineConfig
from comfy_mcp.embedded.prompts import Finished, PromptQueue, QueuedPrompt
from comfy_mcp.embedded.reporter import RunReporter
from comfy_mcp.embedded.sockets import SocketHub
from tests.support import graphs


async def _run(session: aiohttp.ClientSession, url: str, graph: dict[str, Any]) -> str:
    prompt_id = str(uuid4())
    async with session.post(f"{url}/prompt", json={"prompt": graph, "prompt_id": prompt_id}) as answer:
        assert answer.status == 200
    async with asyncio.timeout(30):
        while True:
            async with session.get(f"{url}/history/{prompt_id}") as answer:
                if await answer.json():
                    return prompt_id


async def test_every_step_of_a_prompt_is_in_the_log_by_the_time_its_history_shows(tmp_path: Path) -> None:
    log = tmp_path / "log"
    config = EngineConfig(base_directory=tmp_path / "engine", execution_log=log)
    async with EmbeddedEngine(config) as engine, aiohttp.ClientSession() as session:
        good = await _run(session, engine.url, graphs.picture())
        bad = await _run(session, engine.url, graphs.failing())
        lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["what"], line["prompt_id"]) for line in lines] == [
        *(("accepted", good), ("start", good), ("success", good)),
        *(("accepted", bad), ("start", bad), ("error", bad)),
    ]


def test_deleted_and_interrupted_prompts_are_told_apart() -> None:
    notes: list[tuple[str, str]] = []
    queue = PromptQueue(10, lambda: None, lambda *note: notes.append(note))
    for name in ("first", "second", "third"):
        queue.put(QueuedPrompt(number=1, prompt_id=name, prompt={}, extra_data={}, outputs=[]))
    running = queue.take()
    assert running is not None
    queue.delete("second")
    queue.finish(running, Finished(success=False, messages=[("execution_interrupted", {})]))
    queue.clear()
    assert notes[3:] == [
        ("start", "first"),
        ("deleted", "second"),
        ("interrupted", "first"),
        ("deleted", "third"),
    ]


@pytest.mark.parametrize(
    ("event", "what"),
    [
        ("execution_success", "success"),
        ("execution_error", "error"),
        ("execution_interrupted", "interrupted"),
    ],
)
async def test_an_end_is_in_the_log_before_its_event_is_sent(event: str, what: str, tmp_path: Path) -> None:
    order: list[str] = []

    class Hub(SocketHub):
        def send(self, event: str, data: dict[str, Any], client_id: str | None) -> None:
            order.append(event)

    item = QueuedPrompt(number=1, prompt_id="p", prompt={}, extra_data={"client_id": "c"}, outputs=[])
    hub = Hub(EngineConfig(base_directory=tmp_path), dict)
    RunReporter(hub, item, 64, order.append).note(event, {})
    assert order == [what, event]


async def test_without_a_path_nothing_is_written(tmp_path: Path) -> None:
    config = EngineConfig(base_directory=tmp_path / "engine")
    async with EmbeddedEngine(config) as engine, aiohttp.ClientSession() as session:
        await _run(session, engine.url, graphs.picture())
    assert [path.name for path in tmp_path.iterdir()] == ["engine"]
