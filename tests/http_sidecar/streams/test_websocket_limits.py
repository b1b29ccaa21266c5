"""The WebSocket under garbage, crowds, clients that do not read, and the end of the process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import WSMsgType

from comfy_mcp.domain.errors import ErrorCode, StoreFault
from comfy_mcp.domain.events import StoredEvent
from comfy_mcp.domain.ids import JobId
from http_sidecar.bounds import Bounds
from http_sidecar.streams import websocket
from http_sidecar.streams.event_texts import EventTexts
from tests.support.http_streams import DEADLINE_S, STREAM, StreamHouse, key, open_house
from tests.support.jobs import GRAPH, failed, queued_event

BULKY = "x" * 2**20
"""A message that no socket's buffers hold many of."""

IMPATIENT = Bounds(stream_send_timeout_s=0.1)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[StreamHouse]:
    async with open_house(tmp_path) as house:
        yield house


async def fail_bulkily(house: StreamHouse) -> None:
    job_id = await house.start()
    event = failed(house.jobs[job_id])
    await house.write(job_id, replace(event, failure=replace(event.failure, message=BULKY)))


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "hello",
        "{",
        "[]",
        "null",
        "7",
        "{}",
        '{"type": null}',
        '{"type": "subscribe"}',
        '{"type": "subscribe", "workflowId": 7}',
        '{"type": "subscribe", "workflowId": ""}',
        '{"type": "subscribe", "workflowId": "' + "a" * 65 + '"}',
        '{"type": "subscribe", "workflowId": "*", "since": -1}',
        '{"type": "subscribe", "workflowId": "*", "since": "1"}',
        '{"type": "subscribe", "workflowId": "*", "since": true}',
        '{"type": "subscribe", "workflowId": "*", "since": 1e400}',
        '{"type": "subscribe", "workflowId": "*", "since": 9223372036854775808}',
        '{"type": "unsubscribe"}',
        '{"type": "' + "b" * 60_000 + '"}',
        "[" * 60_000,
        "\x00",
        b"\xff\x00",
        b'{"type": "ping"}',
    ],
)
async def test_what_cannot_be_understood_is_said_to_be_so_and_the_stream_goes_on(
    house: StreamHouse, garbage: str | bytes
) -> None:
    async with house.stream() as client:
        if isinstance(garbage, str):
            await client.ws.send_str(garbage)
        else:
            await client.ws.send_bytes(garbage)
        said = await client.next()
        assert (said["type"], said["code"], said["seq"]) == ("error", "invalid_argument", 0)
        assert 10 < len(said["message"]) < 500
        await client.subscribe("*")
        job_id = await house.submit()
        assert [told["workflowId"] for told in await client.settled()] == [job_id]


async def test_unknown_members_of_a_message_are_tolerated(house: StreamHouse) -> None:
    async with house.stream() as client:
        await client.send(type="ping", id=7, workflowId=None)
        assert (await client.next())["type"] == "pong"


async def test_too_much_garbage_ends_the_stream_and_no_other(tmp_path: Path) -> None:
    async with (
        open_house(tmp_path, bounds=Bounds(invalid_messages=3)) as house,
        house.stream() as client,
        house.stream() as other,
    ):
        await other.subscribe("*")
        for _ in range(3):
            await client.ws.send_str("?")
        assert [said["type"] for said in await client.take(3)] == ["error"] * 3
        code, reason = await client.closed()
        assert (code, "invalid messages" in reason) == (1008, True)
        await house.submit()
        assert len(await other.settled()) == 1


async def test_an_id_that_does_not_exist_is_no_fault_that_counts(tmp_path: Path) -> None:
    async with open_house(tmp_path, bounds=Bounds(invalid_messages=1)) as house, house.stream() as client:
        for _ in range(3):
            await client.subscribe("gone")
            said = await client.next()
            assert (said["type"], said["code"]) == ("error", "workflow_not_found")
            assert "gone" in said["message"]


async def test_a_message_that_is_too_large_ends_the_stream(tmp_path: Path) -> None:
    async with open_house(tmp_path, bounds=Bounds(message_bytes=1_024)) as house:
        async with house.stream() as client:
            await client.ws.send_str("x" * 2_000)
            code, _ = await client.closed()
        assert code == 1009
        await house.all_closed()


async def test_a_message_that_never_ends_ends_the_stream(tmp_path: Path) -> None:
    async with (
        open_house(tmp_path, bounds=Bounds(message_bytes=1_024)) as house,
        house.stream(compress=0) as client,
    ):
        for _ in range(30):  # continuation frames without an end
            await client.ws._writer.send_frame(b"x" * 100, WSMsgType.CONTINUATION)
        code, _ = await client.closed()
        assert code in {1002, 1009}


async def test_a_thousand_subscriptions_on_one_socket_and_not_one_more(house: StreamHouse) -> None:
    ids: list[JobId] = []
    async with house.heard(), asyncio.TaskGroup() as tasks:
        for _ in range(1_001):
            event = queued_event(client="alice")
            ids.append(event.job_id)
            tasks.create_task(house.services.store.add_job(event, GRAPH, max_queued=10_000))
    async with house.stream() as client, house.stream() as other:
        await other.subscribe(ids[0])
        for job_id in ids[:1_000]:
            await client.subscribe(job_id)
        await client.settled()
        await client.subscribe(ids[1_000])
        refused = await client.next()
        assert (refused["type"], refused["code"]) == ("error", "too_many_streams")
        await client.subscribe(ids[5])  # again: no further one
        for job_id in (ids[0], ids[999], ids[1_000]):
            await house.cancel(job_id)
        assert [said["workflowId"] for said in await client.settled()] == [ids[0], ids[999]]
        assert [said["workflowId"] for said in await other.settled()] == [ids[0]]
        await client.subscribe("*")  # two have ended: there is room again
        assert await client.settled() == []


async def test_no_more_streams_than_the_setting_allows(tmp_path: Path) -> None:
    async with open_house(tmp_path, bounds=Bounds(streams=1)) as house:
        job_id = await house.submit()
        async with house.stream():
            headers = key("alice") | {"Upgrade": "websocket", "Connection": "Upgrade"}
            for path in (STREAM, f"/v1/comfyui/workflow/{job_id}/events"):
                async with house.http.get(path, headers=headers) as response:
                    assert response.status == 503
                    body = await response.json()
                    assert (body["code"], body["retryable"]) == ("too_many_streams", True)
        await house.all_closed()
        async with house.stream() as client:
            assert await client.settled() == []


PATHS = (STREAM, "/v1/comfyui/events", "/v1/comfyui/workflow/{}/events", "/api/v2/jobs/{}/events")


@pytest.mark.parametrize("path", PATHS)
async def test_a_client_that_opens_all_it_can_leaves_streams_to_others(tmp_path: Path, path: str) -> None:
    """Of whatever kind."""
    async with open_house(tmp_path, bounds=Bounds(streams=4)) as house, contextlib.AsyncExitStack() as stack:
        jobs = {name: await house.submit(client=name) for name in ("alice", "bob")}

        async def opened(name: str) -> int:
            upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
            headers = key(name) | (upgrade | {"Sec-WebSocket-Key": "A" * 22 + "=="} if path == STREAM else {})
            asked = house.http.get(path.format(jobs[name]), headers=headers)
            return (await stack.enter_async_context(asked)).status

        right, refused = 101 if path == STREAM else 200, 429 if path.startswith("/api/v2") else 503
        answers = [await opened(name) for name in ("alice", "alice", "alice", "bob")]
        assert answers == [right, right, refused, right]


async def test_a_request_that_is_no_websocket_is_told_how(house: StreamHouse) -> None:
    async with house.http.get(STREAM, headers=key("alice")) as response:
        assert response.status == 426
        assert response.headers["Upgrade"] == "websocket"
        assert (await response.json())["code"] == "upgrade_required"
    broken = key("alice") | {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "1"}
    async with house.http.get(STREAM, headers=broken) as response:
        assert response.status == 400
        assert (await response.json())["statusCode"] == 400


# ---------------------------------------------------------------------- slow clients


# ---------------------------------------------------------------------- heartbeat, faults, the end


async def test_the_server_pings(tmp_path: Path) -> None:
    async with (
        open_house(tmp_path, bounds=Bounds(stream_heartbeat_s=0.05)) as house,
        house.stream(autoping=False) as client,
        asyncio.timeout(DEADLINE_S),
    ):
        assert (await client.ws.receive()).type is WSMsgType.PING


async def test_a_client_that_answers_no_ping_is_let_go(tmp_path: Path) -> None:
    async with (
        open_house(tmp_path, bounds=Bounds(stream_heartbeat_s=0.05)) as house,
        house.stream(autoping=False) as client,
    ):
        await client.ws.receive()
        await house.all_closed()


@pytest.mark.parametrize("sign", [WSMsgType.PING, WSMsgType.PONG])
async def test_a_client_that_pings_without_end_is_let_go_and_no_other(
    tmp_path: Path, sign: WSMsgType
) -> None:
    async with (
        open_house(tmp_path, bounds=Bounds(signs=3)) as house,
        house.stream() as client,
        house.stream() as other,
    ):
        await other.subscribe("*")
        for _ in range(9):
            await client.ws._writer.send_frame(b"", sign)
        code, reason = await client.closed()
        assert (code, "pings" in reason) == (1008, True)
        await house.submit()
        assert len(await other.settled()) == 1


async def test_a_ping_of_the_client_is_answered(house: StreamHouse) -> None:
    async with house.stream(autoping=False) as client, asyncio.timeout(DEADLINE_S):
        await client.ws.ping(b"there?")
        said = await client.ws.receive()
        assert (said.type, said.data) == (WSMsgType.PONG, b"there?")


async def test_pings_are_counted_by_the_minute(house: StreamHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house.stream() as client:
        for minute in range(3):
            monkeypatch.setattr(websocket, "monotonic", lambda minute=minute: 60.0 * minute)
            for _ in range(Bounds().signs - 1):  # and a pong of its own, if the server has asked
                await client.ws.ping()
            await client.settled()


async def test_a_client_that_goes_leaves_nothing_behind(house: StreamHouse) -> None:
    before = house.live.streams
    async with house.stream() as client:
        await client.subscribe("*")
        await client.settled()
        assert house.live.streams == before + 1
    await house.all_closed()
    assert house.live.streams == before


async def test_a_store_that_fails_meanwhile_ends_the_stream_and_says_why(
    house: StreamHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_self: EventTexts, _stored: StoredEvent) -> str | None:
        raise StoreFault("The disk is full.", next_step="Make room.")

    async with house.stream() as client:
        await client.subscribe("*")
        await client.settled()
        monkeypatch.setattr(EventTexts, "text", broken)
        await house.submit()
        code, reason = await client.closed()
    assert (code, reason) == (1013, "store_unavailable: resume with since")


async def test_a_replay_that_fails_is_an_error_and_no_subscription(
    house: StreamHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_self: EventTexts, _stored: StoredEvent) -> str | None:
        raise StoreFault("The disk is full.", next_step="Make room.")

    await house.submit()
    async with house.stream() as client:
        with monkeypatch.context() as patch:
            patch.setattr(EventTexts, "past_text", broken)
            await client.subscribe("*", since=0)
            said = await client.next()
        assert (said["type"], said["code"]) == ("error", ErrorCode.STORE_UNAVAILABLE)
        await house.submit()
        assert await client.settled() == []


async def test_what_nobody_foresaw_ends_the_stream_without_its_text(
    house: StreamHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_self: EventTexts, _stored: StoredEvent) -> str | None:
        raise RuntimeError("secret")

    async with house.stream() as client:
        await client.subscribe("*")
        await client.settled()
        monkeypatch.setattr(EventTexts, "text", broken)
        await house.submit()
        assert await client.closed() == (1011, "internal: resume with since")


async def test_when_the_process_goes_every_stream_gets_what_is_left_and_its_last_frame(
    house: StreamHouse,
) -> None:
    async with house.stream() as client, house.stream() as idle:
        await client.subscribe("*")
        await client.settled()
        job_id = await house.submit()
        house.drain()
        assert (await client.next())["workflowId"] == job_id
        for stream in (client, idle):
            code, reason = await stream.closed()
            assert code == 1001
            assert reason.startswith("shutting_down")
    await house.all_closed()


async def test_a_replay_is_not_interleaved_with_what_happens_meanwhile(house: StreamHouse) -> None:
    for _ in range(50):
        await house.submit()
    async with house.stream() as client:
        await client.subscribe("*", since=0)
        for _ in range(50):
            await house.submit()
        told = await client.settled()
    seqs = [stored.seq for stored in await house.services.store.events_after(0)]
    assert [said["seq"] for said in told] == seqs


async def test_a_replay_of_everything_counts_as_a_request_on_every_socket_of_the_client(
    tmp_path: Path,
) -> None:
    async with open_house(tmp_path, rate_limit_per_minute=6) as house:
        await house.submit()
        told: list[dict[str, object]] = []
        async with house.stream() as client, house.stream() as second:  # two requests
            for _ in range(3):
                await client.subscribe("*", since=0)
                told += await client.settled()
            await second.subscribe("*", since=0)
            told += await second.settled()
            await second.subscribe("*", since=0)
            refused = await second.next()
            assert (refused["type"], refused["code"]) == ("error", "rate_limited")
            await second.send(type="ping")
            assert (await second.next())["type"] == "pong", "the stream goes on"
        assert [each["type"] for each in told] == ["workflow:queued"] * 4
        async with house.stream("bob") as other:
            await other.subscribe("*", since=0)
            assert await other.settled() == []


async def test_who_subscribes_on_beyond_the_limit_is_closed(tmp_path: Path) -> None:
    bounds = Bounds(messages_per_request=1, invalid_messages=3)
    async with open_house(tmp_path, bounds=bounds, rate_limit_per_minute=2) as house:
        job_id = await house.submit()
        async with house.stream() as client:
            for kind in ("subscribe", "unsubscribe", "subscribe", "unsubscribe", "subscribe"):
                await client.send(type=kind, workflowId=job_id)
            assert {each["code"] for each in await client.take(3)} == {"rate_limited"}
            code, _ = await client.closed()
            assert code == 1008
