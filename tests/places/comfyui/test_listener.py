"""The listener against a scripted engine: greeting, bad frames, losses, pace."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any
from unittest.mock import AsyncMock

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from comfy_mcp.domain.events import (
    EngineConnected,
    EngineDisconnected,
    EngineEvent,
    NodeProgressed,
    NodeStarted,
    PreviewFrame,
    PromptEnded,
    QueueRemaining,
)
from comfy_mcp.places import json_text
from comfy_mcp.places.comfyui.client import ComfyUIClient
from comfy_mcp.places.comfyui.listener import BURST, LARGE_CHARS, Listener
from comfy_mcp.settings import Settings
from tests.support import recordings
from tests.support.fake_engine import FakeEngine, html, reply
from tests.support.watching import DEADLINE_S, Watch, connection_of, ended, progress, send_all, watching

SettingsFor = Callable[..., Settings]


# ---------------------------------------------------------------------------- the plain path


async def test_a_recorded_run_arrives_as_events(engine: FakeEngine, watch: Watch) -> None:
    connection = await connection_of(engine)
    await watch.next(EngineConnected)
    await send_all(engine, connection.client_id, recordings.frames("01"))
    await watch.next(PromptEnded)
    assert watch.kinds()[:2] == ["EngineConnected", "PromptStarted"]
    assert watch.kinds()[-2:] == ["PromptSucceeded", "PromptEnded"]
    assert watch.listener.connected


async def test_feature_flags_are_the_first_message_on_every_connection(
    engine: FakeEngine, watch: Watch
) -> None:
    for _ in range(2):
        connection = await connection_of(engine)
        await watch.next(EngineConnected)
        async with asyncio.timeout(DEADLINE_S):
            while not connection.received:
                await asyncio.sleep(0)  # the engine has still to read it
        await connection.socket.close()
        await connection.ended.wait()
        assert connection.received == [{"type": "feature_flags", "data": {"supports_preview_metadata": True}}]


async def test_the_greeting_makes_the_connection(engine: FakeEngine, settings_for: SettingsFor) -> None:
    engine.greets = False
    async with watching(settings_for(engine.url)) as watch:
        connection = await connection_of(engine)
        assert not watch.listener.connected
        assert watch.told == []
        status = {"status": {"exec_info": {"queue_remaining": 2}}, "sid": "chosen by the engine"}
        await engine.send(connection.client_id, {"type": "status", "data": status})
        assert await watch.next(EngineConnected) == EngineConnected(sid="chosen by the engine")
        assert await watch.next(QueueRemaining) == QueueRemaining(count=2)
        assert watch.listener.client_id == "chosen by the engine"


async def test_a_connection_without_a_greeting_is_given_up(
    engine: FakeEngine, settings_for: SettingsFor
) -> None:
    engine.greets = False
    async with watching(settings_for(engine.url, request_timeout_s=0.05)) as watch:
        assert "no greeting from the engine in time" in (await watch.next(EngineDisconnected)).reason
        first, second = await connection_of(engine), await connection_of(engine)
        assert first.client_id != second.client_id


async def test_an_engine_that_answers_pings_but_does_not_greet_is_given_up_too(
    engine: FakeEngine, settings_for: SettingsFor
) -> None:
    engine.greets = False
    # A pong comes within the time for the greeting, and must not start it anew.
    async with watching(settings_for(engine.url, request_timeout_s=0.6)) as watch:
        assert "no greeting from the engine in time" in (await watch.next(EngineDisconnected)).reason


# ---------------------------------------------------------------------------- bad frames


async def test_half_a_frame_is_passed_over_and_the_connection_stays(engine: FakeEngine, watch: Watch) -> None:
    connection = await connection_of(engine)
    await watch.next(EngineConnected)
    broken: list[str | bytes] = ['{"type": "executing", "da', b"\0\0", b"\0\0\0\4\0\0\xff\xff{}"]
    await send_all(engine, connection.client_id, [*broken, json.dumps(ended())])
    await watch.next(PromptEnded)
    assert watch.kinds() == ["EngineConnected", "FrameLost", "PromptEnded"]


async def test_point_7_a_preview_above_4_mib_arrives(engine: FakeEngine, watch: Watch) -> None:
    connection = await connection_of(engine)
    image = b"\x89PNG" + b"x" * (5 * 2**20)
    await engine.send(connection.client_id, b"\0\0\0\1\0\0\0\2" + image)
    preview = await watch.next(PreviewFrame)
    assert (preview.media_type, preview.data) == ("image/png", image)


async def test_a_message_above_the_configured_size_ends_the_connection_with_its_reason(
    engine: FakeEngine, settings_for: SettingsFor
) -> None:
    async with watching(settings_for(engine.url), message_bytes=1000) as watch:
        connection = await connection_of(engine)
        await watch.next(EngineConnected)
        await engine.send(connection.client_id, b"\0\0\0\1\0\0\0\2" + b"x" * 1000)
        assert "1009" in (await watch.next(EngineDisconnected)).reason
        await watch.next(EngineConnected)


# ---------------------------------------------------------------------------- losses


@pytest.mark.parametrize("answer", [html(200), html(502), reply("", status=403), reply("", status=101)])
async def test_an_engine_that_refuses_the_socket_is_reported_once_and_tried_again(
    engine: FakeEngine, settings_for: SettingsFor, answer: Any
) -> None:
    refusals = asyncio.Semaphore(0)

    async def refuse(request: web.Request) -> web.StreamResponse:
        refusals.release()
        return await answer(request)  # type: ignore[no-any-return]

    engine.refuses_sockets = refuse
    async with watching(settings_for(engine.url)) as watch:
        async with asyncio.timeout(DEADLINE_S):
            for _ in range(3):
                await refusals.acquire()
        engine.refuses_sockets = None
        await watch.next(EngineConnected)
        assert watch.kinds() == ["EngineDisconnected", "EngineConnected"]


async def test_point_12_an_engine_that_restarts_is_found_again(engine: FakeEngine, watch: Watch) -> None:
    await watch.next(EngineConnected)
    await engine.stop()
    assert await watch.next(EngineDisconnected) == EngineDisconnected(reason="the connection broke")
    assert not watch.listener.connected
    await engine.start()
    await watch.next(EngineConnected)
    assert watch.kinds() == ["EngineConnected", "EngineDisconnected", "EngineConnected"]


async def test_point_12_an_engine_that_is_down_at_first_is_reported_once(
    engine: FakeEngine, settings_for: SettingsFor
) -> None:
    await engine.stop()
    with capture_logs() as lines:
        async with watching(settings_for(engine.url)) as watch:
            assert "Connection refused" in (await watch.next(EngineDisconnected)).reason
            await engine.start()
            await watch.next(EngineConnected)
            assert watch.kinds() == ["EngineDisconnected", "EngineConnected"]
    assert lines == []  # the driver logs what it is given: one line, not two


async def test_point_12_a_hung_engine_is_noticed_by_the_heartbeat(
    engine: FakeEngine, settings_for: SettingsFor
) -> None:
    engine.answers_pings = False
    async with watching(settings_for(engine.url, request_timeout_s=0.8)) as watch:
        while (await watch.next(EngineDisconnected)).reason != "no answer to the heartbeat":
            continue  # on a busy machine the greeting may be late
        engine.answers_pings = True
        await watch.next(EngineConnected)


async def test_a_consumer_that_fails_ends_the_listener(engine: FakeEngine, settings_for: SettingsFor) -> None:
    def hear(event: EngineEvent) -> None:
        raise LookupError

    settings = settings_for(engine.url)
    async with ComfyUIClient(settings.engines[0], settings) as client:
        with pytest.raises(LookupError):
            await Listener(client.transport, settings).run(hear)


# ---------------------------------------------------------------------------- pace


async def test_point_6_whatever_an_engine_sends_is_read_at_once(engine: FakeEngine, watch: Watch) -> None:
    """More than any socket buffer holds: an engine whose client does not read sends to nobody."""
    connection = await connection_of(engine)
    await watch.next(EngineConnected)
    async with asyncio.timeout(DEADLINE_S):
        for value in range(1, 3001):
            start = {"type": "executing", "data": {"node": str(value), "prompt_id": "p"}}
            await engine.send(connection.client_id, start)
            await engine.send(connection.client_id, progress(value))
            await engine.send(connection.client_id, b"\0\0\0\1\0\0\0\2" + b"x" * 20_000)
        await engine.send(connection.client_id, ended())
    await watch.next(PromptEnded)
    steps = [event.value for event in watch.told if isinstance(event, NodeProgressed)]
    assert steps == [*range(1, 3001)]
    nodes = [event.node for event in watch.told if isinstance(event, NodeStarted)]
    assert nodes == [*map(str, range(1, 3001))]


class Ready:
    """A socket whose frames have all come: to read one waits for nothing."""

    closed, close_code = False, None

    def __init__(self, frames: Iterable[str]) -> None:
        self._frames = iter(frames)

    async def send_str(self, text: str) -> None:
        pass

    async def receive(self) -> aiohttp.WSMessage:
        frame = next(self._frames, None)
        if frame is None:
            return aiohttp.WSMessage(aiohttp.WSMsgType.CLOSE, 1000, None)
        return aiohttp.WSMessage(aiohttp.WSMsgType.TEXT, frame, None)

    async def close(self) -> None:
        self.closed = True


async def told_between_turns(
    frames: Iterable[str], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """How many events somebody else finds told at each turn, until the socket ends."""
    turns: list[int] = []
    async with ComfyUIClient(settings.engines[0], settings) as client:
        opened = AsyncMock(side_effect=[Ready(frames), asyncio.CancelledError])
        monkeypatch.setattr(client.transport, "websocket", opened)
        told: list[EngineEvent] = []
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(Listener(client.transport, settings).run(told.append))
            while not running.done():
                turns.append(len(told))
                await asyncio.sleep(0)
    return turns


async def test_steps_of_progress_leave_others_their_turn(
    settings_for: SettingsFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many have come: an engine that reports each step of a fast node sends thousands at once."""
    frames = [json.dumps(progress(value)) for value in range(1, 20 * BURST)]
    settings = settings_for("http://127.0.0.1:9")
    turns = await told_between_turns(frames, settings, monkeypatch)
    assert max(turns) >= len(frames)
    assert max(later - sooner for sooner, later in pairwise(turns)) <= BURST + 1, "and the connection's own"


async def test_a_long_frame_is_decoded_beside_the_loop_and_in_its_place(
    settings_for: SettingsFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node may show thousands of files."""
    here, decoded_here = threading.get_ident(), list[int]()
    parse = json_text.parse

    def watched(raw: bytes | str) -> Any:
        if threading.get_ident() == here:
            decoded_here.append(len(raw))
        return parse(raw)

    monkeypatch.setattr(json_text, "parse", watched)
    files = [{"filename": f"a{at}.png", "subfolder": "", "type": "output"} for at in range(9_000)]
    shown = {"type": "executed", "data": {"node": "1", "output": {"images": files}, "prompt_id": "p"}}
    frames = [json.dumps(each) for each in (progress(1), shown, progress(2), ended())]
    assert len(frames[1]) > LARGE_CHARS
    told: list[EngineEvent] = []
    settings = settings_for("http://127.0.0.1:9")
    async with ComfyUIClient(settings.engines[0], settings) as client:
        opened = AsyncMock(side_effect=[Ready(frames), asyncio.CancelledError])
        monkeypatch.setattr(client.transport, "websocket", opened)
        with pytest.raises(asyncio.CancelledError):
            await Listener(client.transport, settings).run(told.append)
    kinds = [type(event).__name__ for event in told]
    assert kinds == [
        "EngineConnected", "NodeProgressed", "NodeExecuted", "NodeProgressed", "PromptEnded",
        "EngineDisconnected",
    ]  # fmt: skip
    assert max(decoded_here) < LARGE_CHARS


async def test_a_listener_may_run_again(engine: FakeEngine, settings_for: SettingsFor) -> None:
    settings = settings_for(engine.url)
    async with ComfyUIClient(settings.engines[0], settings) as client:
        watch = Watch(Listener(client.transport, settings))
        for _ in range(2):
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(watch.listener.run(watch.hear))
                await watch.next(EngineConnected)
                running.cancel()
            assert not watch.listener.connected
