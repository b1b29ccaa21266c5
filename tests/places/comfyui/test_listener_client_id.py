"""Which client id the listener comes back with (docs/decisions/0005-websocket-client-id.md)."""

import asyncio
from collections.abc import Callable

import pytest
from aiohttp import WSCloseCode

from comfy_mcp.domain.events import (
    EngineConnected,
    EngineDisconnected,
    EngineEvent,
    PromptEnded,
)
from comfy_mcp.places.comfyui.client import ComfyUIClient
from comfy_mcp.places.comfyui.listener import Listener
from comfy_mcp.settings import Settings
from tests.support.fake_engine import FakeEngine
from tests.support.watching import DEADLINE_S, Watch, connection_of, ended, watching

SettingsFor = Callable[..., Settings]


async def test_point_3_and_5_after_a_confirmed_close_the_same_id_gets_the_running_prompts_events(
    engine: FakeEngine, watch: Watch
) -> None:
    first = await connection_of(engine)
    await watch.next(EngineConnected)
    await first.socket.close()
    reason = (await watch.next(EngineDisconnected)).reason
    assert reason == "closed by the engine with code 1000"
    second = await connection_of(engine)
    await watch.next(EngineConnected)
    assert second.client_id == first.client_id == watch.listener.client_id
    assert await engine.send(first.client_id, ended())
    await watch.next(PromptEnded)


@pytest.mark.parametrize("code", [WSCloseCode.GOING_AWAY, WSCloseCode.INTERNAL_ERROR])
async def test_a_close_with_any_code_is_a_confirmed_one(
    engine: FakeEngine, watch: Watch, code: WSCloseCode
) -> None:
    first = await connection_of(engine)
    await watch.next(EngineConnected)
    await first.socket.close(code=code)
    assert str(int(code)) in (await watch.next(EngineDisconnected)).reason
    assert (await connection_of(engine)).client_id == first.client_id


async def test_point_3_after_a_hung_connection_the_id_is_a_fresh_one_and_stays_registered(
    engine: FakeEngine, settings_for: SettingsFor
) -> None:
    """The engine still holds the old socket; when it ends there, the new one must not go deaf."""
    engine.answers_pings = False
    async with watching(settings_for(engine.url, request_timeout_s=2)) as watch:
        old = await connection_of(engine)
        await watch.next(EngineDisconnected)
        engine.answers_pings = True
        await watch.next(EngineConnected)
        new = await connection_of(engine)
        while new.client_id != watch.listener.client_id:
            new = await connection_of(engine)
        assert new.client_id != old.client_id
        async with asyncio.timeout(DEADLINE_S):
            await old.ended.wait()
        assert await engine.send(new.client_id, ended())
        await watch.next(PromptEnded)


async def test_point_3_a_deaf_socket_can_be_exchanged_under_the_same_id(
    engine: FakeEngine, watch: Watch
) -> None:
    first = await connection_of(engine)
    await watch.next(EngineConnected)
    del engine.sockets[first.client_id]  # what a late clean-up does
    assert not await engine.send(first.client_id, ended())
    await watch.listener.reconnect()
    await first.ended.wait()
    assert (await watch.next(EngineDisconnected)).reason == "closed by the bridge"
    await watch.next(EngineConnected)
    assert watch.listener.client_id == first.client_id
    assert await engine.send(first.client_id, ended())
    await watch.next(PromptEnded)


async def test_a_reconnect_that_the_engine_does_not_confirm_takes_a_fresh_id(
    engine: FakeEngine, settings_for: SettingsFor
) -> None:
    engine.answers_closes = False
    async with watching(settings_for(engine.url, connect_timeout_s=0.2)) as watch:
        first = await connection_of(engine)
        await watch.next(EngineConnected)
        engine.answers_closes = True
        await watch.listener.reconnect()
        await watch.next(EngineConnected)
        assert watch.listener.client_id != first.client_id


async def test_without_a_socket_there_is_nothing_to_reconnect(settings_for: SettingsFor) -> None:
    settings = settings_for("http://127.0.0.1:1")
    client = ComfyUIClient(settings.engines[0], settings)
    listener = Listener(client.transport, settings)
    await listener.reconnect()
    assert not listener.connected


async def test_a_connection_that_broke_comes_back_under_a_fresh_id(engine: FakeEngine, watch: Watch) -> None:
    first = await connection_of(engine)
    await watch.next(EngineConnected)
    engine.drop(first)
    await watch.next(EngineDisconnected)
    await watch.next(EngineConnected)
    assert watch.listener.client_id != first.client_id


async def test_a_listener_that_runs_again_takes_a_fresh_id(
    engine: FakeEngine, settings_for: SettingsFor
) -> None:
    """Whoever drove the engine meanwhile may still follow the old one, and would unregister it."""
    settings = settings_for(engine.url)
    ids = []
    async with ComfyUIClient(settings.engines[0], settings) as client:
        listener = Listener(client.transport, settings)
        for _ in range(2):
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(listener.run(_ignore))
                ids.append((await connection_of(engine)).client_id)
                running.cancel()
    assert ids[0] != ids[1]


def _ignore(_event: EngineEvent) -> None:
    pass


def test_two_listeners_never_share_an_id(settings_for: SettingsFor) -> None:
    settings = settings_for("http://127.0.0.1:1")
    client = ComfyUIClient(settings.engines[0], settings)
    ids = {Listener(client.transport, settings).client_id for _ in range(100)}
    assert len(ids) == 100
