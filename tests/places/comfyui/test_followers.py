"""Sockets that listen to client ids of before."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from comfy_mcp.domain.events import EngineEvent, PromptEnded
from comfy_mcp.domain.ids import PromptId
from comfy_mcp.places.comfyui.client import ComfyUIClient
from comfy_mcp.places.comfyui.followers import Followers
from comfy_mcp.settings import Settings
from tests.support.fake_engine import FakeEngine
from tests.support.watching import DEADLINE_S, connection_of, ended

SettingsFor = Callable[..., Settings]


@asynccontextmanager
async def following(settings: Settings) -> AsyncIterator[tuple[Followers, "asyncio.Queue[EngineEvent]"]]:
    told: asyncio.Queue[EngineEvent] = asyncio.Queue()
    async with ComfyUIClient(settings.engines[0], settings) as client:
        followers = Followers(client.transport, settings)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(followers.run(told.put_nowait))
            yield followers, told
            running.cancel()


async def test_what_is_sent_to_an_id_of_before_is_heard_and_nothing_else(
    engine: FakeEngine, settings_for: SettingsFor
) -> None:
    async with following(settings_for(engine.url)) as (followers, told):
        followers.want({"a", "b"})
        ids = {(await connection_of(engine)).client_id for _ in range(2)}
        assert ids == {"a", "b"}
        for client_id in sorted(ids):
            await engine.send(client_id, {"type": "status", "data": {"status": {}}})
            await engine.send(client_id, ended(f"prompt of {client_id}"))
        async with asyncio.timeout(DEADLINE_S):
            heard = {await told.get(), await told.get()}
    assert heard == {PromptEnded(prompt_id=PromptId(f"prompt of {client_id}")) for client_id in "ab"}
    assert told.empty()


async def test_one_that_is_no_longer_wanted_is_closed_and_the_others_stay(
    engine: FakeEngine, settings_for: SettingsFor
) -> None:
    async with following(settings_for(engine.url)) as (followers, told):
        followers.want({"a", "b"})
        sockets = {each.client_id: each for each in [await connection_of(engine) for _ in range(2)]}
        followers.want({"b"})
        async with asyncio.timeout(DEADLINE_S):
            await sockets["a"].ended.wait()
        await engine.send("b", ended())
        async with asyncio.timeout(DEADLINE_S):
            await told.get()


async def test_after_a_break_the_id_is_the_same(engine: FakeEngine, settings_for: SettingsFor) -> None:
    """Unlike the listener's: nothing is posted under it, so a deaf socket would cost nothing more."""
    async with following(settings_for(engine.url)) as (followers, told):
        followers.want({"a"})
        engine.drop(await connection_of(engine))
        assert (await connection_of(engine)).client_id == "a"
        await engine.send("a", ended())
        async with asyncio.timeout(DEADLINE_S):
            await told.get()
