"""The node list of the place over one scripted engine."""

import asyncio
from typing import Any

import pytest
from aiohttp import web

from comfy_mcp.domain.errors import EngineBadAnswer
from comfy_mcp.domain.events import EngineConnected, EngineEvent
from comfy_mcp.domain.ids import PromptId
from comfy_mcp.places.comfyui import node_list
from comfy_mcp.places.comfyui.node_list import NODES_FRESH_S
from comfy_mcp.places.comfyui.place import ComfyUIPlace
from comfy_mcp.places.protocol import NotAnswered
from tests.places.comfyui.conftest import Clock
from tests.support.fake_engine import FakeEngine, html, in_turn, reply

A, B, C = PromptId("a"), PromptId("b"), PromptId("c")
DONE: dict[str, Any] = {"outputs": {}, "status": {"status_str": "success", "messages": []}}
GRAPH = {"1": {"class_type": "EmptyImage", "inputs": {}}}
DEADLINE_S = 30.0


async def test_object_info_is_kept_for_its_time(
    engine: FakeEngine, place: ComfyUIPlace, clock: Clock
) -> None:
    engine.answers["GET /object_info"] = in_turn(reply({"A": 1}), reply({"B": 2}))
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(place.node_list.raw()) for _ in range(5)]
    assert [task.result() for task in asked] == [{"A": 1}] * 5
    clock.now = NODES_FRESH_S - 0.1
    assert await place.node_list.raw() == {"A": 1}
    assert len(engine.requests_to("GET /object_info")) == 1
    clock.now = NODES_FRESH_S
    assert await place.node_list.raw() == {"B": 2}


async def test_a_fresher_object_info_can_be_asked_for(
    engine: FakeEngine, place: ComfyUIPlace, clock: Clock
) -> None:
    engine.answers["GET /object_info"] = in_turn(reply({"A": 1}), reply({"B": 2}))
    assert await place.node_list.raw() == {"A": 1}
    clock.now = 4.9
    assert await place.node_list.raw(max_age_s=5.0) == {"A": 1}
    clock.now = 5.0
    assert await place.node_list.raw(max_age_s=5.0) == {"B": 2}
    assert await place.node_list.raw() == {"B": 2}


async def test_object_info_is_asked_again_after_a_reconnect(engine: FakeEngine, place: ComfyUIPlace) -> None:
    engine.answers["GET /object_info"] = in_turn(reply({"A": 1}), reply({"B": 2}))
    assert await place.node_list.raw() == {"A": 1}
    connected = asyncio.Event()

    def hear(event: EngineEvent) -> None:
        if isinstance(event, EngineConnected):
            connected.set()

    async with asyncio.TaskGroup() as tasks, asyncio.timeout(DEADLINE_S):
        running = tasks.create_task(place.run(hear))
        await connected.wait()
        running.cancel()
    assert await place.node_list.raw() == {"B": 2}


async def test_a_failed_object_info_is_not_kept(engine: FakeEngine, place: ComfyUIPlace) -> None:
    engine.answers["GET /object_info"] = in_turn(html(500), reply({"A": 1}))
    with pytest.raises(EngineBadAnswer):
        await place.node_list.raw()
    assert await place.node_list.raw() == {"A": 1}


async def test_what_an_engine_said_before_a_reconnect_is_not_kept(
    engine: FakeEngine, place: ComfyUIPlace
) -> None:
    """The answer of the old server comes when the new one has greeted already."""
    asked, connected = asyncio.Event(), asyncio.Event()

    async def slow(_request: web.Request) -> web.StreamResponse:
        asked.set()
        await connected.wait()
        return web.json_response({"A": 1})

    def hear(event: EngineEvent) -> None:
        if isinstance(event, EngineConnected):
            connected.set()

    engine.answers["GET /object_info"] = in_turn(slow, reply({"B": 2}))
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(DEADLINE_S):
        old = tasks.create_task(place.node_list.raw())
        await asked.wait()
        running = tasks.create_task(place.run(hear))
        assert await old == {"A": 1}
        assert await place.node_list.raw() == {"B": 2}
        running.cancel()


async def test_before_a_workflow_is_refused_the_first_list_is_waited_for(
    engine: FakeEngine, place: ComfyUIPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_list, "ASK_S", 0.0)
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_request: web.Request) -> web.StreamResponse:
        asked.set()
        await go_on.wait()
        return web.json_response({"A": {}})

    engine.answers["GET /object_info"] = slow
    for _ in range(2):
        with pytest.raises(NotAnswered):
            await place.nodes()
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(DEADLINE_S):
        patient = tasks.create_task(place.nodes(max_age_s=5.0))
        await asked.wait()
        go_on.set()
    assert set(patient.result().classes) == {"A"}


async def test_classes_that_the_engine_replaces_are_known(
    engine: FakeEngine, place: ComfyUIPlace, clock: Clock
) -> None:
    """As long as it says which; an engine before 0.33 has no such answer."""
    engine.answers["GET /object_info"] = in_turn(reply({"A": {}}), reply({"B": {}}), reply({"C": {}}))
    engine.answers["GET /node_replacements"] = in_turn(reply({"Old": []}), html(404), html(200))
    info = await place.nodes()
    assert (set(info.classes), info.replaced) == ({"A", "Old"}, frozenset({"Old"}))
    for name in ("B", "C"):
        clock.now += NODES_FRESH_S
        info = await place.nodes()
        assert (set(info.classes), info.replaced) == ({name}, frozenset())
