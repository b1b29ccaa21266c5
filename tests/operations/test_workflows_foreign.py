"""Prompts of other people at the engine: shown, counted, and left alone."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from comfy_mcp.domain.access import Right
from comfy_mcp.domain.events import JobClaimed
from comfy_mcp.domain.ids import ClientId, EngineId, PromptId
from comfy_mcp.domain.job import Job
from comfy_mcp.domain.transitions import evolve, queued
from comfy_mcp.driving.engines import EnginePrompt
from comfy_mcp.embedded import EmbeddedEngine
from comfy_mcp.operations.context import Caller
from comfy_mcp.operations.workflows import FOREIGN_SHOWN, foreign_before
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import Settings
from tests.operations.conftest import CALLER, Bench
from tests.support import graphs
from tests.support.jobs import queued_event


async def ended(call: Bench, submitted: Any, **arguments: Any) -> Any:
    return await call("wait_for_workflow", workflow_id=submitted.workflow_id, **arguments)


async def status(call: Bench, workflow_id: str) -> Any:
    return await call("workflow_status", workflow_id=workflow_id, attempts=True)


@pytest.fixture
async def somebody(engine: EmbeddedEngine) -> AsyncIterator["Somebody"]:
    async with aiohttp.ClientSession() as http:
        yield Somebody(engine, http)


class Somebody:
    """A person at ComfyUI itself."""

    def __init__(self, engine: EmbeddedEngine, http: aiohttp.ClientSession) -> None:
        self.engine = engine
        self.http = http

    async def queue(self, graph: dict[str, Any]) -> str:
        prompt_id = str(uuid.uuid4())
        body = {"prompt": graph, "prompt_id": prompt_id}
        async with self.http.post(f"{self.engine.url}/prompt", json=body) as answer:
            assert answer.status == 200, await answer.text()
        return prompt_id

    async def stop(self, prompt_id: str) -> None:
        async with self.http.post(f"{self.engine.url}/interrupt", json={"prompt_id": prompt_id}) as answer:
            assert answer.status == 200


async def test_prompts_of_other_people_are_shown_counted_and_left_alone(
    settings: Settings, somebody: Somebody
) -> None:
    async with open_runtime(settings) as services:
        call = Bench(services, CALLER)
        theirs = await somebody.queue(graphs.slow())
        waiting = await somebody.queue(graphs.picture())
        ours = await call("submit_workflow", workflow=graphs.picture())
        seen = await call("queue")
        assert [(item.prompt_id, item.state) for item in seen.foreign] == [
            (theirs, "running"),
            (waiting, "pending"),
        ]
        assert {item.engine for item in seen.foreign} == {settings.engines[0].id}
        assert seen.foreign_count == 2
        assert "2 submitted in ComfyUI itself" in seen.text()
        (mine,) = seen.queued
        assert mine.workflow_id == ours.workflow_id
        assert (await call("workflow_status", workflow_id=ours.workflow_id)).status == "queued"
        await call("cancel_workflow", workflow_id=ours.workflow_id)
        after = await call("queue")
        assert [item.prompt_id for item in after.foreign] == [theirs, waiting]
        limited = Bench(
            services, Caller(client=ClientId("x"), surface="test", rights=frozenset({Right.READ}))
        )
        hidden = await limited("queue")
        assert (hidden.foreign, hidden.foreign_count) == ([], 2)
        await somebody.stop(theirs)


async def test_a_place_in_the_queue_counts_the_prompts_of_other_people(
    settings: Settings, somebody: Somebody
) -> None:
    async with open_runtime(settings) as services:
        call = Bench(services, CALLER)
        await ended(call, await call("submit_workflow", workflow=graphs.picture()))  # the engine is driven
        theirs = await somebody.queue(graphs.slow())
        await somebody.queue(graphs.picture())
        async with asyncio.timeout(20):
            while services.engines.foreign_ahead() != 2:
                await call("system_status")  # the engine's word is on its way
        submitted = await call("submit_workflow", workflow=graphs.picture())
        assert submitted.queue_position == 3
        state = await call("workflow_status", workflow_id=submitted.workflow_id)
        assert state.queue_position == 3
        (listed,) = (await call("queue")).queued
        assert listed.queue_position in {1, 3}
        await somebody.stop(theirs)


async def test_only_so_many_foreign_prompts_are_listed(settings: Settings, somebody: Somebody) -> None:
    theirs = await somebody.queue(graphs.slow(steps=10_000))
    for _ in range(FOREIGN_SHOWN + 2):
        await somebody.queue(graphs.text())
    async with open_runtime(settings, drive=False) as services:
        seen = await Bench(services, CALLER)("queue")
    assert (len(seen.foreign), seen.foreign_count) == (FOREIGN_SHOWN, FOREIGN_SHOWN + 3)
    await somebody.stop(theirs)


async def test_an_engine_that_is_down_has_no_foreign_prompts_to_show(call_without_engine: Bench) -> None:
    seen = await call_without_engine("queue")
    assert (seen.foreign, seen.foreign_count) == ([], 0)


def at_the_engine(engine: str, prompt_id: str) -> Job:
    event = queued_event()
    claim = JobClaimed(
        job_id=event.job_id, at=2, attempt=1, engine=EngineId(engine), prompt_id=PromptId(prompt_id)
    )
    return evolve(queued(event), claim)


def test_foreign_prompts_count_only_in_front_of_a_job_that_an_engine_has() -> None:
    def prompts(*ids: str) -> list[EnginePrompt]:
        return [
            EnginePrompt(prompt_id=PromptId(each), running=place == 0, ours=each.startswith("ours"))
            for place, each in enumerate(ids)
        ]

    engines = {
        EngineId("busy"): prompts("x", "ours 1", "y", "ours 2", "z"),
        EngineId("free"): prompts("ours 3", "w"),
    }
    waiting = queued(queued_event())
    assert foreign_before(waiting, engines) == 1
    assert foreign_before(waiting, {}) == 0
    assert foreign_before(at_the_engine("busy", "ours 1"), engines) == 1
    assert foreign_before(at_the_engine("busy", "ours 2"), engines) == 2
    assert foreign_before(at_the_engine("busy", "not there yet"), engines) == 0
    assert foreign_before(at_the_engine("down", "ours 9"), engines) == 0
