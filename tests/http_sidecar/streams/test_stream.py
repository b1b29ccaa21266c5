"""One client among many: its replay ends where what happens begins, and it holds up nobody."""

import asyncio
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import WSMsgType

from comfy_mcp.domain.events import StoredEvent
from comfy_mcp.domain.ids import JobId
from http_sidecar.bounds import Bounds
from http_sidecar.streams import live
from http_sidecar.streams.live import End
from http_sidecar.streams.stream import Stream
from tests.support.http_streams import StreamHouse, open_house, sse_messages
from tests.support.jobs import progressed

CLIENTS = 6


async def test_whenever_a_client_comes_it_has_every_event_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the replays of some and what is written to the others interleave."""
    monkeypatch.setattr(live, "AT_ONCE", 1)
    monkeypatch.setattr("comfy_mcp.operations.feed.reader.PAGE", 3)
    async with open_house(tmp_path) as house:

        async def client() -> list[int]:
            async with house.stream() as stream:
                await stream.subscribe("*", since=0)
                told = await stream.take(2 * CLIENTS)
                return [message["seq"] for message in told]

        async with asyncio.TaskGroup() as tasks:
            clients = []
            for _ in range(CLIENTS):
                clients.append(tasks.create_task(client()))
                await house.submit()
                await house.submit()
        seqs = [stored.seq for stored in await house.services.store.events_after(0)]
    assert [task.result() for task in clients] == [seqs] * CLIENTS


def held_replays(monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Semaphore, asyncio.Event]:
    """Replays that have begun, which wait for the event."""
    begun, go_on = asyncio.Semaphore(0), asyncio.Event()
    replay = Stream._replay

    async def held(self: Stream, *args: object) -> None:
        begun.release()
        await go_on.wait()
        await replay(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Stream, "_replay", held)
    return begun, go_on


async def test_what_happens_during_a_replay_follows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_house(tmp_path) as house, house.stream() as client:
        job_id = await house.start()
        begun, go_on = held_replays(monkeypatch)
        await client.ask_for(job_id, since=0)
        await begun.acquire()
        await house.write(job_id, progressed(house.jobs[job_id], 0.5, node="1"))
        await house.write(job_id, progressed(house.jobs[job_id], 0.6, node="1"))
        await house.finish(job_id)
        go_on.set()
        told = await client.settled()
    assert [message["type"].removeprefix("workflow:") for message in told] == [
        "queued", "started", "progress", "progress", "completed",
    ]  # fmt: skip


async def test_too_much_of_it_ends_the_stream_at_the_place_that_is_sure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_house(tmp_path, bounds=Bounds(stream_events=2)) as house, house.stream() as client:
        await house.submit()
        place = house.services.hub.seq
        begun, _ = held_replays(monkeypatch)
        await client.ask_for("*", since=0)
        await begun.acquire()
        for _ in range(3):
            await house.submit()
        assert await client.closed() == (4008, f"slow_consumer: resume with since {place}")
        assert house.cut_off("websocket") == 1


async def test_a_process_that_goes_sends_a_replay_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_house(tmp_path) as house:
        job_id = await house.start()
        begun, go_on = held_replays(monkeypatch)
        async with house.stream() as client, house.sse(job_id) as response:
            await client.ask_for(job_id, since=0)
            await begun.acquire()
            await begun.acquire()
            house.drain()
            while not live_has_ended(house):
                await asyncio.sleep(0)
            go_on.set()
            assert [message["type"] for message in await sse_messages(response)] == [
                "workflow:queued", "workflow:started", "stream:closed",
            ]  # fmt: skip
            assert [message["type"] for message in await client.take(2)] == [
                "workflow:queued", "workflow:started",
            ]  # fmt: skip
            assert (await client.closed())[0] == 1001


def live_has_ended(house: StreamHouse) -> bool:
    return house.live._ended


async def test_a_client_that_closes_is_written_to_no_more(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        async with house.stream(autoclose=False) as client:
            await client.subscribe("*")
            await client.settled()
            await client.ws.close()
        await house.all_closed()
        await house.submit()
        assert house.live.streams == 0


async def test_a_workflow_with_more_events_than_a_page_is_told_to_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comfy_mcp.operations.feed.reader.PAGE", 2)
    async with open_house(tmp_path) as house, house.stream() as client:
        job_id = await house.start()
        await house.finish(job_id)
        await client.subscribe(job_id)
        told = await client.settled()
        assert [message["type"] for message in told] == ["workflow:completed"]
        await client.send(type="ping")
        message = await client.ws.receive()
        assert message.type is WSMsgType.TEXT


class Bare(Stream):
    """A stream of nobody."""

    def __init__(self) -> None:
        self.ended, self._held, self._position = None, None, 0
        self._floors = {}
        unbounded: Any = SimpleNamespace(attached=nullcontext, watched=lambda *_: nullcontext())
        self._live = self._revocations = unbounded
        self.caller = unbounded

    async def _send(self, stored: StoredEvent, text: str) -> None:
        raise NotImplementedError

    def _workflow_ended(self, job_id: JobId) -> None:
        raise NotImplementedError


async def test_a_timeout_of_something_else_is_not_taken_for_the_streams_end() -> None:
    with pytest.raises(TimeoutError, match="another's"):
        async with Bare().attached():
            raise TimeoutError("another's")
    stream = Bare()
    async with asyncio.timeout(60), stream.attached():
        stream.end(End.SHUTTING_DOWN)
        await asyncio.Event().wait()
