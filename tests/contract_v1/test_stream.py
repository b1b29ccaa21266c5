"""The WebSocket /v1/comfyui/stream: messages with their fields, filtered by subscription."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSServerHandshakeError

from tests.contract_v1.shapes import is_ms
from tests.support.graphs import failing, picture, slow
from tests.support.sidecar import WORKFLOW, Sidecar, open_sidecar
from tests.support.streams import FINAL, STREAM, server_sent, stream

FIELDS = {
    "pong": set(),
    "workflow:queued": {"workflowId", "queuePosition", "timestamp"},
    "workflow:started": {"workflowId", "timestamp"},
    "workflow:progress": {"workflowId", "progress", "currentNode", "timestamp"},
    "workflow:completed": {"workflowId", "outputs", "duration", "timestamp"},
    "workflow:error": {"workflowId", "error", "timestamp"},
    "workflow:cancelled": {"workflowId", "timestamp"},
}
KEY = "key of the stream"


def assert_message(said: dict[str, Any]) -> None:
    """Exactly the contract's fields, `type`, and `seq`."""
    assert set(said) == FIELDS[said["type"]] | {"type", "seq"}
    assert type(said["seq"]) is int
    assert is_ms(said.get("timestamp")) or said["type"] == "pong"


async def test_a_ping_is_answered(v1: Sidecar) -> None:
    async with stream(v1) as socket:
        await socket.send("ping")
        said = await socket.next()
    assert said["type"] == "pong"
    assert_message(said)


async def test_a_workflow_is_followed_from_queued_to_completed(v1: Sidecar) -> None:
    async with stream(v1) as socket:
        await socket.send("subscribe", "*")
        await socket.in_order()
        job = await v1.submit(slow(steps=10, step_ms=10))
        await socket.until(*FINAL)
    heard = socket.heard[1:]
    for said in heard:
        assert_message(said)
        assert said["workflowId"] == job
    assert [said["seq"] for said in heard] == sorted(said["seq"] for said in heard)
    logged = [
        said["seq"] for said in heard if said["type"] != "workflow:progress"
    ]  # a step has no place of its own
    assert len(set(logged)) == len(logged)
    kinds = [said["type"] for said in heard]
    assert kinds[0] == "workflow:queued"
    assert kinds[-1] == "workflow:completed"
    assert kinds.index("workflow:started") < kinds.index("workflow:progress")
    progress = [said["progress"] for said in heard if said["type"] == "workflow:progress"]
    assert progress == sorted(progress)
    assert all(0 <= value <= 100 for value in progress)
    assert "Patience" in {said["currentNode"] for said in heard if said["type"] == "workflow:progress"}


async def test_the_completed_message_has_outputs_whose_urls_are_served(v1: Sidecar) -> None:
    async with stream(v1) as socket:
        await socket.send("subscribe", "*")
        await socket.in_order()
        job = await v1.submit(picture("v1/streamed"))
        said = await socket.until("workflow:completed")
    [output] = said["outputs"]
    assert set(output) == {"filename", "type", "url"}
    assert output["type"] == "image"
    assert (await v1("GET", output["url"])).data.startswith(b"\x89PNG")
    state = (await v1("GET", f"{WORKFLOW}/{job}")).body
    assert said["duration"] == state["completionTime"] - state["startTime"]


async def test_a_queued_message_has_the_position(v1: Sidecar) -> None:
    async with stream(v1) as socket:
        await socket.send("subscribe", "*")
        await socket.in_order()
        first = await v1.submit(slow())
        said = await socket.until("workflow:queued")
        assert said["queuePosition"] in {1, None}
        await v1("DELETE", f"{WORKFLOW}/{first}")
        await socket.until("workflow:cancelled")


async def test_a_failed_workflow_is_an_error_with_the_cause(v1: Sidecar) -> None:
    async with stream(v1) as socket:
        await socket.send("subscribe", "*")
        await socket.in_order()
        await v1.submit(failing("boom"))
        said = await socket.until(*FINAL)
    assert said["type"] == "workflow:error"
    assert_message(said)
    assert "boom" in said["error"]


async def test_a_cancelled_workflow_is_cancelled_and_nothing_comes_after_it(v1: Sidecar) -> None:
    async with stream(v1) as socket:
        await socket.send("subscribe", "*")
        await socket.in_order()
        job = await v1.submit(slow())
        await socket.until("workflow:started")
        await v1("DELETE", f"{WORKFLOW}/{job}")
        said = await socket.until(*FINAL)
        assert said["type"] == "workflow:cancelled"
        assert_message(said)
        other = await v1.submit(picture())
        await socket.until("workflow:completed")
    after = socket.heard[socket.heard.index(said) + 1 :]
    assert {message["workflowId"] for message in after} == {other}


async def test_nothing_comes_without_a_subscription_and_only_what_was_subscribed(v1: Sidecar) -> None:
    """The earlier service filtered nothing."""
    async with stream(v1) as silent, stream(v1) as socket:
        unheard = await v1.submit(slow(steps=2, step_ms=1))
        wanted = await v1.submit(picture())
        await socket.send("subscribe", wanted)
        await v1.ended(unheard)
        await v1.ended(wanted)
        await socket.until("workflow:completed")
        for each in (silent, socket):
            await each.in_order()
    assert [said["type"] for said in silent.heard] == ["pong"]
    assert {said["workflowId"] for said in socket.heard if said["type"] != "pong"} == {wanted}


async def test_after_unsubscribe_nothing_comes(v1: Sidecar) -> None:
    async with stream(v1) as socket:
        await socket.send("subscribe", "*")
        await socket.in_order()
        await v1.ended(await v1.submit(picture()))
        await socket.until("workflow:completed")
        await socket.send("unsubscribe", "*")
        await socket.in_order()
        heard = len(socket.heard)
        await v1.ended(await v1.submit(picture()))
        await socket.in_order()
    assert [said["type"] for said in socket.heard[heard:]] == ["pong"]


async def test_a_client_that_comes_again_hears_what_it_missed(v1: Sidecar) -> None:
    async with stream(v1) as socket:
        await socket.send("subscribe", "*")
        await socket.in_order()
        job = await v1.submit(slow(steps=10, step_ms=10))
        last = (await socket.until("workflow:started"))["seq"]
    await v1.ended(job)
    async with stream(v1) as socket:
        await socket.send("subscribe", job, since=last)
        await socket.until(*FINAL)
    assert socket.heard[-1]["type"] == "workflow:completed"
    assert all(said["seq"] > last for said in socket.heard)


async def test_server_sent_events_tell_the_same(v1: Sidecar) -> None:
    async with stream(v1) as socket:
        await socket.send("subscribe", "*")
        await socket.in_order()
        job = await v1.submit(slow(steps=10, step_ms=10))
        by_event = [(number, said) async for number, said in server_sent(v1, job)]
        await socket.until(*FINAL)
    assert [said for _, said in by_event] == [said for said in socket.heard if said["type"] != "pong"]
    steps = [number for number, said in by_event if said["type"] == "workflow:progress" and not number]
    assert steps, "a step has no place in the log, and so no id"
    assert [number for number, _ in by_event if number] == [
        str(said["seq"]) for number, said in by_event if number
    ]
    assert all(number for number, said in by_event if said["type"] != "workflow:progress")


async def test_last_event_id_replays_what_was_missed(v1: Sidecar) -> None:
    """Steps are kept while the workflow runs; of one that has ended, the changes of state."""
    job = await v1.submit(slow(steps=10, step_ms=10))
    first = [(number, said) async for number, said in server_sent(v1, job)]
    lasting = [item for item in first if item[1]["type"] != "workflow:progress"]
    assert [said["type"] for _, said in lasting] == [
        "workflow:queued",
        "workflow:started",
        "workflow:completed",
    ]
    for place, (number, _) in enumerate(lasting[:-1]):
        again = [item async for item in server_sent(v1, job, last_event_id=number)]
        assert again == lasting[place + 1 :]
    seen_all = await v1("GET", f"{WORKFLOW}/{job}/events", headers={"Last-Event-ID": lasting[-1][0]})
    assert (seen_all.status, seen_all.data) == (204, b"")


@pytest.mark.parametrize("garbage", ["{", "null", "[]", '{"type": "dance"}', '{"type": "subscribe"}'])
async def test_garbage_is_answered_and_the_stream_goes_on(v1: Sidecar, garbage: str) -> None:
    async with stream(v1) as socket:
        await socket.ws.send_str(garbage)
        said = await socket.next()
        assert said["type"] == "error"
        assert said["message"]
        await socket.in_order()


async def test_an_unknown_workflow_is_said_to_be_unknown(v1: Sidecar) -> None:
    async with stream(v1) as socket:
        await socket.send("subscribe", "nope")
        said = await socket.next()
    assert (said["type"], said["code"]) == ("error", "workflow_not_found")


def subprotocol(key: str) -> str:
    return "comfy-bridge.key." + base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "how",
    [
        {"headers": {"X-API-Key": KEY}},
        {"headers": {"Authorization": f"Bearer {KEY}"}},
        {"protocols": ("comfy-bridge.v1", subprotocol(KEY))},
    ],
)
async def test_with_keys_the_stream_asks_for_one(tmp_path: Path, how: dict[str, Any]) -> None:
    """By header, or by subprotocol where a browser can't send headers."""
    async with open_sidecar(tmp_path, http_key=KEY) as v1:
        async with stream(v1, **how) as socket:
            await socket.in_order()
        for wrong in ({}, {"headers": {"X-API-Key": "no"}}, {"protocols": (subprotocol("no"),)}):
            with pytest.raises(WSServerHandshakeError) as refused:
                await v1.session.ws_connect(f"{v1.url}{STREAM}", **wrong)
            assert refused.value.status == 401


async def test_a_ticket_opens_one_stream_once(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path, http_key=KEY) as v1:
        assert (await v1("POST", f"{STREAM}/ticket")).status == 401
        ticket = (await v1("POST", f"{STREAM}/ticket", headers={"X-API-Key": KEY})).body["ticket"]
        async with stream(v1, f"{STREAM}?ticket={ticket}") as socket:
            await socket.in_order()
        with pytest.raises(WSServerHandshakeError) as refused:
            await v1.session.ws_connect(f"{v1.url}{STREAM}?ticket={ticket}")
        assert refused.value.status == 401


async def test_many_clients_hear_the_same(v1: Sidecar) -> None:
    async def listen(ready: asyncio.Semaphore) -> list[dict[str, Any]]:
        async with stream(v1) as socket:
            await socket.send("subscribe", "*")
            await socket.in_order()
            ready.release()
            await socket.until(*FINAL)
            return socket.heard[1:]

    ready = asyncio.Semaphore(0)
    async with asyncio.TaskGroup() as group:
        listening = [group.create_task(listen(ready)) for _ in range(20)]
        for _ in listening:
            await ready.acquire()
        await v1.submit(slow(steps=5, step_ms=5))
    [first, *others] = [task.result() for task in listening]
    assert len(first) >= 4
    assert all(heard == first for heard in others)
