"""Clients of the WebSocket that read slowly or never."""

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest
from aiohttp import WSMsgType

from http_sidecar.bounds import Bounds
from tests.http_sidecar.streams.test_websocket_limits import IMPATIENT, fail_bulkily
from tests.support.http_streams import DEADLINE_S, StreamClient, open_house
from tests.support.jobs import GRAPH, queued_event


async def test_a_slow_client_is_closed_with_a_reason_and_resumes_without_a_gap(tmp_path: Path) -> None:
    async with open_house(tmp_path, bounds=Bounds(stream_events=4)) as house:
        async with house.narrow_stream() as slow, house.stream() as other:
            await slow.subscribe("*")
            await other.subscribe("*")
            await slow.settled()
            for _ in range(16):  # which the slow one does not read
                await fail_bulkily(house)
                assert len(await other.settled()) == 3
            seen = []
            message = await slow.ws.receive()
            while message.type is WSMsgType.TEXT:
                seen.append(message.json())
                message = await slow.ws.receive()
            assert (message.type, message.data) == (WSMsgType.CLOSE, 4008)
            assert "slow_consumer" in (message.extra or "")
        await house.all_closed()
        assert house.cut_off("websocket") == 1
        async with house.stream() as again:
            await again.subscribe("*", since=seen[-1]["seq"])
            seen += await again.settled()
    assert [said["type"] for said in seen] == ["workflow:queued", "workflow:started", "workflow:error"] * 16
    assert all(before["seq"] < after["seq"] for before, after in pairwise(seen))


async def test_a_client_that_never_reads_is_cut_off_and_the_others_notice_nothing(tmp_path: Path) -> None:
    async with (
        open_house(tmp_path, bounds=IMPATIENT) as house,
        house.stream() as other,
    ):
        for _ in range(16):
            await fail_bulkily(house)
        await other.subscribe("*")
        async with house.narrow_stream() as deaf:
            await deaf.ask_for("*", since=0)
            async with asyncio.timeout(DEADLINE_S):
                while not house.cut_off("websocket"):
                    await other.settled()
            job_id = await house.submit()
            assert [said["workflowId"] for said in await other.settled()] == [job_id]
            await house.all_closed(but=1)
            assert house.cut_off("websocket") == 1


async def ask_for_ever(client: StreamClient) -> None:
    while True:
        await client.ask_for("nobody" * 10)


async def test_a_flood_of_requests_that_reads_no_answer_is_cut_off(tmp_path: Path) -> None:
    async with (
        open_house(tmp_path, bounds=IMPATIENT) as house,
        house.stream() as other,
    ):
        async with house.narrow_stream() as deaf, asyncio.timeout(DEADLINE_S):
            with pytest.raises(ConnectionError):
                await ask_for_ever(deaf)
        assert await other.settled() == []
        await house.all_closed(but=1)
        assert house.cut_off("websocket") == 1


async def test_a_burst_that_overflows_the_buffer_costs_a_reading_client_nothing(tmp_path: Path) -> None:
    """When this side was slow, what was dropped is read from the log."""
    async with open_house(tmp_path, bounds=Bounds(stream_events=2)) as house, house.stream() as client:
        await client.subscribe("*")
        await client.settled()
        async with house.heard(), asyncio.TaskGroup() as tasks:
            for _ in range(100):
                event = queued_event(client="alice")
                tasks.create_task(house.services.store.add_job(event, GRAPH, max_queued=10_000))
        told = await client.settled()
        seqs = [stored.seq for stored in await house.services.store.events_after(0)]
        assert [said["seq"] for said in told] == seqs
        assert len(seqs) == 100
