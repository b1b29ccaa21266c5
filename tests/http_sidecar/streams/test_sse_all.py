"""Server-Sent Events of all workflows: whose, from where, and back again."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.http_streams import (
    ALL_EVENTS,
    SseEvent,
    StreamHouse,
    key,
    open_house,
    sse_events,
    sse_messages,
)
from tests.support.jobs import cancelled, failed


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[StreamHouse]:
    async with open_house(tmp_path) as house:
        yield house


async def next_block(events: AsyncIterator[SseEvent]) -> SseEvent:
    """The next that is an event or a place; comments apart."""
    async for event in events:
        if event.id is not None:
            return event
    raise AssertionError("the stream ended")


async def test_it_begins_with_the_place_and_tells_what_comes_of_every_own_workflow(
    house: StreamHouse,
) -> None:
    await house.submit()
    before = house.services.hub.seq
    async with house.sse_of_all() as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        events = sse_events(response)
        assert await next_block(events) == SseEvent(id=before)
        others = await house.submit("bob")
        own = [await house.submit(), await house.submit()]
        told = [await next_block(events) for _ in own]
    assert [event.data and event.data["workflowId"] for event in told] == own
    assert others not in own


async def test_one_with_the_right_to_all_hears_of_all_and_the_stream_outlives_an_end(
    house: StreamHouse,
) -> None:
    async with house.sse_of_all("root") as response:
        events = sse_events(response)
        await next_block(events)
        for client in ("alice", "bob"):
            await house.start(client)
            (job,) = [job for job in house.jobs.values() if not job.is_final]
            await house.finish(job.id)
        told = [(await next_block(events)).data for _ in range(6)]
    kinds = ["workflow:queued", "workflow:started", "workflow:completed"]
    assert [message and message["type"] for message in told] == [*kinds, *kinds]


async def test_who_comes_back_gets_what_was_missed_and_then_the_rest(house: StreamHouse) -> None:
    first = await house.start()
    async with house.sse_of_all() as response:
        place = await next_block(sse_events(response))
    await house.write(first, failed(house.jobs[first]))
    missed = await house.submit()
    async with house.sse_of_all(last=place.id) as response:
        events = sse_events(response)
        told = [(await next_block(events)).data for _ in range(2)]
        live = await house.submit()
        told.append((await next_block(events)).data)
    assert [message and (message["type"], message["workflowId"]) for message in told] == [
        ("workflow:error", first),
        ("workflow:queued", missed),
        ("workflow:queued", live),
    ]


async def test_a_place_that_the_log_has_never_reached_means_from_now_on(house: StreamHouse) -> None:
    await house.submit()
    async with house.sse_of_all(last=10**9) as response:
        events = sse_events(response)
        assert (await next_block(events)) == SseEvent(id=house.services.hub.seq)
        job = await house.submit()
        data = (await next_block(events)).data
    assert data is not None
    assert data["workflowId"] == job


async def test_the_service_that_goes_says_so(house: StreamHouse) -> None:
    job = await house.start()
    await house.write(job, cancelled(house.jobs[job]))
    async with house.sse_of_all(last=0) as response:
        house.drain()
        messages = await sse_messages(response)
    assert [message["type"] for message in messages][-1] == "stream:closed"
    assert messages[-1]["code"] == "shutting_down"
    await house.all_closed()


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), (key("blind"), 403), ({**key("alice"), "Last-Event-ID": "last"}, 400)],
)
async def test_who_may_not_or_asks_for_nonsense_is_refused(
    house: StreamHouse, headers: dict[str, str], status: int
) -> None:
    async with house.http.get(ALL_EVENTS, headers=headers) as response:
        assert response.status == status
    assert house.open_streams.open.total() == 0
