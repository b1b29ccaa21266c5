"""The WebSocket: the contract's messages, subscriptions, resuming."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from http_sidecar.bounds import Bounds
from tests.support.http_streams import StreamHouse, open_house
from tests.support.jobs import completed, failed, output_of_job, progressed, requeued, started


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[StreamHouse]:
    async with open_house(tmp_path) as house:
        yield house


async def test_a_workflow_is_told_in_the_contracts_words(house: StreamHouse) -> None:
    async with house.stream() as client:
        await client.subscribe("*")
        assert await client.settled() == []
        job_id = await house.submit()
        (queued,) = await client.take(1)
        assert await house.claim() == job_id
        job = house.jobs[job_id]
        output = output_of_job(job, "t_00001_.png")
        await house.write(job_id, started(job, at=2_000), progressed(job, 0.257, at=2_100))
        begun, moved = await client.take(2)
        await house.write(job_id, completed(job, at=3_500, output_count=1), outputs=[output])
        (done,) = await client.take(1)
    about = {"workflowId": job_id}
    at = house.jobs[job_id].created_at
    assert queued == about | {
        "type": "workflow:queued", "queuePosition": 1, "timestamp": at, "seq": queued["seq"],
    }  # fmt: skip
    assert begun == about | {"type": "workflow:started", "timestamp": 2_000, "seq": begun["seq"]}
    assert moved == about | {
        "type": "workflow:progress", "progress": 25.7, "currentNode": "Empty", "timestamp": 2_100,
        "seq": moved["seq"],
    }  # fmt: skip
    assert done == about | {
        "type": "workflow:completed", "duration": 1_500, "timestamp": 3_500, "seq": done["seq"],
        "outputs": [
            {"filename": "t_00001_.png", "type": "image", "url": f"/v1/comfyui/output/{output.id}"}
        ],
    }  # fmt: skip
    assert queued["seq"] < begun["seq"] < moved["seq"] < done["seq"]


async def test_a_failure_brings_its_short_cause(house: StreamHouse) -> None:
    async with house.stream() as client:
        job_id = await house.start()
        await client.subscribe(job_id)
        await client.settled()
        await house.write(job_id, failed(house.jobs[job_id], at=4_000))
        said = await client.next()
    assert said == {
        "type": "workflow:error", "workflowId": job_id, "error": "It broke.", "timestamp": 4_000,
        "seq": said["seq"],
    }  # fmt: skip


async def test_a_cancel_is_told(house: StreamHouse) -> None:
    job_id = await house.submit()
    async with house.stream() as client:
        await client.subscribe(job_id)
        await client.settled()
        await house.cancel(job_id, at=5_000)
        said = await client.next()
    assert said == {
        "type": "workflow:cancelled", "workflowId": job_id, "timestamp": 5_000, "seq": said["seq"],
    }  # fmt: skip


async def test_a_job_that_lost_its_engine_is_queued_again(house: StreamHouse) -> None:
    job_id = await house.start()
    async with house.stream() as client:
        await client.subscribe(job_id)
        await client.settled()
        await house.write(job_id, requeued(house.jobs[job_id], at=2_500))
        said = await client.next()
    assert (said["type"], said["queuePosition"], said["timestamp"]) == ("workflow:queued", 1, 2_500)


async def test_a_pong_says_how_far_the_stream_is(house: StreamHouse) -> None:
    async with house.stream() as client:
        await client.send(type="ping")
        assert await client.next() == {"type": "pong", "seq": 0}
        await client.subscribe("*")
        await client.settled()
        await house.submit()
        told = await client.next()
        await client.send(type="ping")
        assert await client.next() == {"type": "pong", "seq": told["seq"]}


async def test_only_what_was_subscribed_is_told(house: StreamHouse) -> None:
    wanted, other = await house.submit(), await house.submit()
    async with house.stream() as client, house.stream() as everything:
        await everything.subscribe("*")
        await everything.settled()
        await client.subscribe(wanted)
        await client.settled()
        for job_id in (other, wanted):
            await house.cancel(job_id)
        assert [said["workflowId"] for said in await everything.take(2)] == [other, wanted]
        assert (await client.next())["workflowId"] == wanted
        assert await client.settled() == []


async def test_nothing_is_told_before_a_subscription_nor_after_it(house: StreamHouse) -> None:
    async with house.stream() as client:
        first = await house.submit()
        assert await client.settled() == []
        await client.subscribe("*")
        await client.subscribe(first)
        await client.settled()
        second = await house.submit()
        assert (await client.next())["workflowId"] == second
        await client.send(type="unsubscribe", workflowId="*")
        await client.settled()
        await house.submit()
        await house.cancel(first)
        assert [said["workflowId"] for said in await client.settled()] == [first]


async def test_an_event_is_told_once_however_often_it_was_subscribed(house: StreamHouse) -> None:
    job_id = await house.submit()
    async with house.stream() as client:
        for wanted in (job_id, "*", job_id, "*"):
            await client.subscribe(wanted)
        await client.settled()
        await house.cancel(job_id)
        assert (await client.next())["type"] == "workflow:cancelled"
        assert await client.settled() == []


async def test_since_brings_what_was_missed_and_then_the_rest(house: StreamHouse) -> None:
    job_id = await house.start()
    async with house.stream() as client:
        await client.subscribe(job_id, since=0)
        queued, begun = await client.take(2)
    job = house.jobs[job_id]
    await house.write(job_id, progressed(job, 0.2))
    await house.write(job_id, progressed(job, 0.4))
    async with house.stream() as client:
        await client.subscribe(job_id, since=begun["seq"])
        missed = await client.take(2)
        await house.write(job_id, progressed(job, 0.6))
        await house.finish(job_id)
        rest = await client.take(2)
        assert await client.settled() == []
    assert [said["type"] for said in (queued, begun)] == ["workflow:queued", "workflow:started"]
    assert [said.get("progress") for said in (*missed, *rest)] == [20, 40, 60, None]
    seqs = [said["seq"] for said in (queued, begun, *missed, *rest)]
    assert seqs == sorted(seqs)
    assert seqs[2:5] == [seqs[2]] * 3, "a step has the place of the event before it"


async def test_since_with_a_star_brings_every_workflow_that_was_missed(house: StreamHouse) -> None:
    ids = [await house.submit() for _ in range(3)]
    async with house.stream() as client:
        await client.subscribe("*", since=0)
        before = await client.take(3)
        later = await house.submit()
        assert [said["workflowId"] for said in (*before, await client.next())] == [*ids, later]


async def test_a_log_of_many_pages_is_replayed_whole(
    house: StreamHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comfy_mcp.operations.feed.reader.PAGE", 3)
    ids = [await house.submit() for _ in range(10)]
    async with house.stream() as client:
        await client.subscribe("*", since=0)
        assert [said["workflowId"] for said in await client.take(10)] == ids
        assert await client.settled() == []


async def test_a_workflow_that_has_ended_brings_its_last_message(house: StreamHouse) -> None:
    job_id = await house.start()
    await house.finish(job_id)
    async with house.stream() as client:
        await client.subscribe(job_id)
        told = await client.settled()
    assert [(said["type"], said["workflowId"]) for said in told] == [("workflow:completed", job_id)]


async def test_a_place_beyond_the_log_means_from_now_on(house: StreamHouse) -> None:
    """A client that comes from another store must not wait for ever."""
    await house.submit()
    async with house.stream() as client:
        await client.subscribe("*", since=2**62)
        assert await client.settled() == []
        job_id = await house.submit()
        assert (await client.next())["workflowId"] == job_id


async def test_a_subscription_to_one_workflow_ends_with_it(tmp_path: Path) -> None:
    async with open_house(tmp_path, bounds=Bounds(subscriptions=1)) as house, house.stream() as client:
        for _ in range(3):
            job_id = await house.start()
            await client.subscribe(job_id)
            await client.settled()
            await house.finish(job_id)
            assert (await client.next())["type"] == "workflow:completed"


async def test_a_batch_is_followed_by_its_id(tmp_path: Path) -> None:
    """What a submit of several returns. Its workflows count against the limit of subscriptions."""
    async with open_house(tmp_path, bounds=Bounds(subscriptions=2)) as house, house.stream() as client:
        other = await house.submit()
        first, second = [await house.submit(batch="b") for _ in range(2)]
        await house.submit("bob", batch="bobs")
        await client.subscribe("b")
        assert await client.settled() == []
        for job_id in (other, second, first):
            await house.cancel(job_id)
        told = await client.settled()
        assert [(each["type"], each["workflowId"]) for each in told] == [
            ("workflow:cancelled", second),
            ("workflow:cancelled", first),
        ]
        await client.subscribe("b")
        assert [each["workflowId"] for each in await client.settled()] == [first, second]
        await client.subscribe("b", since=0)
        replayed = await client.settled()
        assert [each["seq"] for each in replayed] == sorted(each["seq"] for each in replayed)
        assert [each.get("batch") for each in replayed] == ["b", "b", None, None]
        for unknown in ("bobs", "c"):
            await client.subscribe(unknown)
            assert (await client.next())["code"] == "workflow_not_found"


async def test_a_batch_is_unsubscribed_and_is_refused_where_it_is_too_large(tmp_path: Path) -> None:
    async with open_house(tmp_path, bounds=Bounds(subscriptions=2)) as house, house.stream() as client:
        jobs = [await house.submit(batch="b") for _ in range(2)]
        await client.subscribe("b")
        await client.send(type="unsubscribe", workflowId="b")
        assert await client.settled() == []
        await house.cancel(jobs[0])
        assert await client.settled() == []
        for _ in range(3):
            await house.submit(batch="large")
        await client.subscribe("large")
        assert (await client.next())["code"] == "too_many_streams"


async def test_what_other_processes_write_is_told_too(house: StreamHouse, tmp_path: Path) -> None:
    async with house.stream() as client, open_house(tmp_path) as neighbour:
        await client.subscribe("*")
        await client.settled()
        job_id = await neighbour.submit()
        assert (await client.next())["workflowId"] == job_id


async def test_a_title_that_is_no_proper_text_stops_no_stream(house: StreamHouse) -> None:
    job_id = await house.start()
    async with house.stream() as client:
        await client.subscribe("*")
        await client.settled()
        await house.write(job_id, replace(progressed(house.jobs[job_id], 0.5), node_title="half \ud83d"))
        await house.finish(job_id)
        told = await client.settled()
    assert [said.get("currentNode") for said in told] == ["half ?", None]
