"""Server-Sent Events of one workflow: to its end, and again from where a client was."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import ClientError, ClientResponse

from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.domain.events import StoredEvent
from comfy_mcp.domain.ids import JobId, NodeId
from http_sidecar.bounds import Bounds
from http_sidecar.streams.event_texts import EventTexts
from tests.support.http_streams import (
    DEADLINE_S,
    SseEvent,
    StreamHouse,
    events_path,
    key,
    open_house,
    sse_events,
    sse_messages,
)
from tests.support.jobs import cancelled, failed, progressed, requeued, started

WHOLE = [
    "workflow:queued",
    "workflow:started",
    "workflow:progress",
    "workflow:progress",
    "workflow:completed",
]

IMPATIENT = Bounds(stream_send_timeout_s=0.1)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[StreamHouse]:
    async with open_house(tmp_path) as house:
        yield house


async def next_message(events: AsyncIterator[SseEvent]) -> SseEvent:
    async for event in events:
        if event.data is not None:
            return event
    raise AssertionError("the stream ended")


async def live_whole(house: StreamHouse, response: ClientResponse, job_id: JobId) -> list[SseEvent]:
    """The job's life from the start on, each step written when the one before has been heard."""
    events = sse_events(response)
    heard = [await next_message(events)]
    assert await house.claim() == job_id
    job = house.jobs[job_id]
    for step in (started(job), progressed(job, 0.25), progressed(job, 0.5)):
        await house.write(job_id, step)
        heard.append(await next_message(events))
    await house.finish(job_id)
    heard += [event async for event in events]
    return heard


async def test_a_workflow_is_told_to_its_end_and_then_the_stream_ends(house: StreamHouse) -> None:
    job_id = await house.submit()
    async with house.sse(job_id) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-store"
        heard = await live_whole(house, response, job_id)
    said = [event.data for event in heard if event.data is not None]
    assert [message["type"] for message in said] == WHOLE
    places = [message["seq"] for message in said]
    assert places == sorted(places)
    assert [event.id for event in heard] == [*places[:3], None, places[4]], "a step is not in the log"
    assert {message["workflowId"] for message in said} == {job_id}
    await house.all_closed()


async def test_the_stream_says_the_same_as_the_websocket(house: StreamHouse) -> None:
    job_id = await house.start()
    await house.write(job_id, progressed(house.jobs[job_id], 0.3))
    async with house.stream() as client, house.sse(job_id) as response:
        await client.subscribe(job_id, since=0)
        await client.settled()  # until here from the log, from here on from the hub
        await house.write(job_id, progressed(house.jobs[job_id], 0.7))
        live = await client.settled()
        await house.write(job_id, failed(house.jobs[job_id]))
        live += await client.settled()
        told = await sse_messages(response)
    assert told[-2:] == live
    assert [message["type"] for message in told] == [
        "workflow:queued", "workflow:started", "workflow:progress", "workflow:progress", "workflow:error",
    ]  # fmt: skip


@pytest.mark.parametrize("by_query", [False, True])
async def test_a_client_that_comes_again_gets_what_it_missed_and_then_the_rest(
    house: StreamHouse, by_query: bool
) -> None:
    job_id = await house.start()
    job = house.jobs[job_id]
    seqs = await house.seqs(job_id)
    await house.write(job_id, progressed(job, 0.2))
    await house.write(job_id, progressed(job, 0.4))
    path, last = events_path(job_id), seqs[-1]
    request = (
        house.http.get(f"{path}?lastEventId={last}", headers=key("alice"))
        if by_query
        else house.http.get(path, headers=key("alice") | {"Last-Event-ID": str(last)})
    )
    async with request as response:
        events = sse_events(response)
        missed = [await next_message(events), await next_message(events)]
        await house.write(job_id, progressed(job, 0.6))
        live = await next_message(events)
        await house.write(job_id, cancelled(job))
        rest = [event async for event in events]
    progress = [event.data["progress"] for event in (*missed, live) if event.data]
    assert progress == [20, 40, 60]
    assert [event.data["type"] for event in rest if event.data] == ["workflow:cancelled"]


async def test_however_often_a_client_is_cut_off_it_hears_each_event_once(house: StreamHouse) -> None:
    job_id = await house.start()
    heard = [0]
    for step in range(6):
        job = house.jobs[job_id]
        await house.write(job_id, progressed(job, step / 10, node="1"), progressed(job, step / 10, node="2"))
        async with house.sse(job_id, last=heard[-1]) as response:
            events = sse_events(response)
            for _ in range(1 + step % 2):  # and goes, though there is more to hear
                event = await next_message(events)
                assert event.id is not None
                heard.append(event.id)
    written = await house.seqs(job_id)
    async with house.sse(job_id, last=heard[-1]) as response:
        await hear(response, heard, to=written[-1])
    del written[1]  # the claim, for which the contract has no word
    assert heard[1:] == written


async def hear(response: ClientResponse, heard: list[int], *, to: int | None) -> None:
    """The ids that come, up to `to`."""
    async for event in sse_events(response):
        if event.id is not None:
            heard.append(event.id)
            if event.id == to:
                return


async def test_a_workflow_that_has_ended_is_told_from_the_log(house: StreamHouse) -> None:
    job_id = await house.start()
    await house.write(job_id, requeued(house.jobs[job_id]))
    await house.cancel(job_id)
    async with house.sse(job_id) as response:
        told = await sse_messages(response)
    assert [message["type"] for message in told] == [
        "workflow:queued", "workflow:started", "workflow:queued", "workflow:cancelled",
    ]  # fmt: skip
    assert [message.get("queuePosition", "-") for message in told] == [None, "-", None, "-"]


async def test_who_has_heard_the_end_is_told_to_ask_no_more(house: StreamHouse) -> None:
    job_id = await house.start()
    await house.finish(job_id)
    last = (await house.seqs(job_id))[-1]
    for shown in (last, last + 1, 2**63 - 1):
        async with house.sse(job_id, last=shown) as response:
            assert (response.status, await response.read()) == (204, b"")
    async with house.sse(job_id, last=last - 1) as response:
        assert [message["type"] for message in await sse_messages(response)] == ["workflow:completed"]


async def test_from_a_place_that_the_log_does_not_know_everything_is_told(house: StreamHouse) -> None:
    job_id = await house.start()
    async with house.sse(job_id, last=2**62) as response:
        await house.finish(job_id)
        assert [message["type"] for message in await sse_messages(response)] == [
            "workflow:queued", "workflow:started", "workflow:completed",
        ]  # fmt: skip


@pytest.mark.parametrize("shown", ["-1", "x", "1.5", "9223372036854775808", "1" * 5_000, "²", "0x1"])
async def test_a_place_that_is_none_is_refused(house: StreamHouse, shown: str) -> None:
    job_id = await house.submit()
    async with house.http.get(
        events_path(job_id), headers=key("alice"), params={"lastEventId": shown}
    ) as response:
        assert response.status == 400
        assert (await response.json())["code"] == "invalid_argument"


@pytest.mark.parametrize("path_id", ["gone", "%00", "a" * 3_000, "%2e%2e%2f"])
async def test_an_unknown_workflow_is_not_found(house: StreamHouse, path_id: str) -> None:
    async with house.http.get(f"/v1/comfyui/workflow/{path_id}/events", headers=key("alice")) as response:
        assert response.status in {400, 404}
        assert len(await response.read()) < 10_000


async def test_a_quiet_stream_shows_that_it_lives(tmp_path: Path) -> None:
    async with open_house(tmp_path, bounds=Bounds(stream_heartbeat_s=0.02)) as house:
        job_id = await house.submit()
        async with house.sse(job_id) as response:
            events = sse_events(response)
            first = await anext(events)
            assert first.retry == 2_000
            assert (await next_message(events)).id is not None
            for _ in range(3):
                assert (await anext(events)).comments == ("alive",)
            await house.cancel(job_id)
            assert [event.data["type"] async for event in events if event.data] == ["workflow:cancelled"]


async def test_when_the_process_goes_the_stream_says_so_and_keeps_its_place(house: StreamHouse) -> None:
    job_id = await house.start()
    async with house.sse(job_id) as response:
        events = sse_events(response)
        place = [await next_message(events), await next_message(events)][-1].id
        await house.write(job_id, progressed(house.jobs[job_id], 0.5))
        house.drain()
        rest = [event async for event in events]
    assert [event.data["type"] for event in rest if event.data] == ["workflow:progress", "stream:closed"]
    closed = rest[-1]
    assert closed.id is None
    assert closed.data == {
        "type": "stream:closed", "seq": rest[0].id, "code": "shutting_down",
        "message": "Connect again with Last-Event-ID.",
    }  # fmt: skip
    assert place is not None
    assert rest[0].id == place + 1


async def test_a_client_that_goes_leaves_nothing_behind(house: StreamHouse) -> None:
    before = house.live.streams
    job_id = await house.submit()
    async with house.sse(job_id) as response:
        await next_message(sse_events(response))
        assert house.live.streams == before + 1
        response.close()
    await house.all_closed()
    assert house.live.streams == before


async def test_a_client_that_never_reads_is_cut_off_and_the_others_notice_nothing(tmp_path: Path) -> None:
    async with (
        open_house(tmp_path, bounds=IMPATIENT) as house,
        house.stream() as other,
    ):
        job_id = await house.start()
        bulky = replace(progressed(house.jobs[job_id], 0.1), node_title="x" * 2**20)
        for step in range(16):
            await house.write(job_id, replace(bulky, node_id=NodeId(str(step))))
        await other.subscribe("*")
        async with house.narrow_sse(job_id):
            async with asyncio.timeout(DEADLINE_S):
                while not house.cut_off("sse"):
                    await other.settled()
            await house.all_closed(but=1)
        await house.finish(job_id)
        assert [said["type"] for said in await other.settled()][-1] == "workflow:completed"


async def test_a_slow_client_is_let_go_and_resumes_without_a_gap(tmp_path: Path) -> None:
    async with open_house(tmp_path, bounds=Bounds(stream_events=2)) as house:
        job_id = await house.start()
        bulky = replace(progressed(house.jobs[job_id], 0.1), node_title="x" * 2**18)
        heard: list[int] = []
        async with house.narrow_sse(job_id) as response:
            for step in range(48):
                await house.write(job_id, replace(bulky, node_id=NodeId(str(step))))
            with pytest.raises(ClientError):
                await hear(response, heard, to=None)
        await house.all_closed()
        assert house.cut_off("sse") == 1
        written = await house.seqs(job_id)
        async with house.sse(job_id, last=heard[-1]) as response:
            await hear(response, heard, to=written[-1])
    del written[1]  # the claim, for which the contract has no word
    assert heard == written


async def test_a_store_that_fails_meanwhile_ends_the_stream_and_says_so(
    house: StreamHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_self: EventTexts, _stored: StoredEvent) -> str | None:
        raise StoreFault("The disk is full.", next_step="Make room.")

    job_id = await house.submit()
    async with house.sse(job_id) as response:
        events = sse_events(response)
        await next_message(events)
        monkeypatch.setattr(EventTexts, "text", broken)
        await house.cancel(job_id)
        rest = [event async for event in events]
    assert [event.data["code"] for event in rest if event.data] == ["store_unavailable"]


async def test_only_get_is_answered(house: StreamHouse) -> None:
    job_id = await house.submit()
    for method in ("HEAD", "POST", "DELETE"):
        async with house.http.request(method, events_path(job_id), headers=key("alice")) as response:
            assert response.status == 405


async def test_a_batch_is_told_until_all_of_it_has_ended(house: StreamHouse) -> None:
    """A client that comes again gets what it missed, in the order of the log, and no more once it has seen
    all ends."""
    first, second = [await house.submit(batch="b") for _ in range(2)]
    async with house.sse("b") as response:
        events = sse_events(response)
        queued = [await next_message(events) for _ in range(2)]
        await house.cancel(second)
        heard = await next_message(events)
    assert [event.data and event.data["workflowId"] for event in queued] == [first, second]
    assert heard.data is not None
    assert heard.data["type"] == "workflow:cancelled"
    await house.cancel(first)
    async with house.sse("b", last=queued[1].id) as response:
        missed = [event async for event in sse_events(response) if event.data is not None]
    assert [event.data and event.data["workflowId"] for event in missed] == [second, first]
    async with house.sse("b", last=heard.id) as response:
        rest = [event async for event in sse_events(response) if event.data is not None]
    assert [event.data and event.data["workflowId"] for event in rest] == [first]
    async with house.sse("b", last=missed[1].id) as response:
        assert response.status == 204
    async with house.sse("b", "bob") as response:
        assert response.status == 404
