"""Listen streams whose frames go straight to their answers."""

import asyncio
import json
from typing import Any

import pytest
from mcp.server.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError
from mcp_types import SubscriptionFilter

from comfy_mcp.server.listeners import AT_ONCE, Listeners
from tests.support.mcp_surface import LIMIT_S

URI = "comfy://queue"
UPDATED = "notifications/resources/updated"


class Stream:
    """A client's end of one stream, and the request that opened it. `reads` is set when the acknowledgement
    may be sent."""

    def __init__(self, listeners: Listeners, request_id: Any = 1, **wanted: Any) -> None:
        self.heard: list[Any] = []
        self.frames: list[bytes] = []
        self.reads = asyncio.Event()
        self.acknowledged = asyncio.Event()
        self.request_id = request_id
        self.session = self
        self._listeners = listeners
        self._wanted = SubscriptionFilter(**wanted)

    async def send_notification(self, notification: Any, related_request_id: Any) -> None:
        await self.reads.wait()
        assert related_request_id == self.request_id
        self.heard.append(notification.params.notifications)
        self.acknowledged.set()

    async def begun(self) -> None:
        await self.acknowledged.wait()

    def frame(self, message: bytes) -> bytes:
        return b"<%b>" % message

    def write(self, frame: bytes) -> None:
        self.frames.append(frame)
        self.heard.append(json.loads(frame[1:-1]))

    async def serve(self) -> Any:
        return await self._listeners.serve(self, self._wanted, self)  # type: ignore[arg-type]

    @property
    def methods(self) -> list[str]:
        return [each["method"] for each in self.heard[1:]]


async def opened(group: asyncio.TaskGroup, stream: Stream) -> asyncio.Task[Any]:
    task = group.create_task(stream.serve())
    stream.reads.set()
    async with asyncio.timeout(LIMIT_S):
        await stream.acknowledged.wait()
    await asyncio.sleep(0)
    return task


async def test_each_stream_hears_what_it_follows_under_its_own_id_until_all_are_closed() -> None:
    listeners = Listeners()
    queue = Stream(listeners, 1, resource_subscriptions=[URI, URI, "comfy://gpu"])
    same = Stream(listeners, 1, resource_subscriptions=[URI])
    other = Stream(listeners, "two", resource_subscriptions=[URI], resources_list_changed=True)
    lists = Stream(listeners, 3, tools_list_changed=True, prompts_list_changed=True)
    async with asyncio.TaskGroup() as group:
        tasks = [await opened(group, stream) for stream in (queue, same, other, lists)]
        for event in (
            ResourceUpdated(uri=URI),
            ResourceUpdated(uri="comfy://elsewhere"),
            ResourcesListChanged(),
            ToolsListChanged(),
            PromptsListChanged(),
        ):
            await listeners.publish(event)
        listeners.close()
        await listeners.publish(ResourceUpdated(uri=URI))
    assert queue.methods == same.methods == [UPDATED]
    assert queue.heard[1] == {
        "jsonrpc": "2.0",
        "method": UPDATED,
        "params": {"uri": URI, "_meta": {"io.modelcontextprotocol/subscriptionId": 1}},
    }
    assert queue.frames[0] is same.frames[0], "encoded once"
    assert other.methods == [UPDATED, "notifications/resources/list_changed"]
    assert other.heard[1]["params"]["_meta"] == {"io.modelcontextprotocol/subscriptionId": "two"}
    assert lists.methods == ["notifications/tools/list_changed", "notifications/prompts/list_changed"]
    assert lists.heard[0] == SubscriptionFilter(tools_list_changed=True, prompts_list_changed=True)
    assert [task.result().meta for task in tasks][2] == {"io.modelcontextprotocol/subscriptionId": "two"}


async def test_what_changes_before_the_acknowledgement_is_told_once_behind_it() -> None:
    listeners = Listeners()
    stream = Stream(listeners, resource_subscriptions=[URI])
    async with asyncio.TaskGroup() as group:
        task = group.create_task(stream.serve())
        await asyncio.sleep(0)
        for _ in range(3):
            await listeners.publish(ResourceUpdated(uri=URI))
        assert stream.heard == []
        stream.reads.set()
        async with asyncio.timeout(LIMIT_S):
            while len(stream.heard) < 2:
                await asyncio.sleep(0)
        assert stream.methods == [UPDATED]
        task.cancel()


async def test_a_request_without_an_id_is_refused() -> None:
    with pytest.raises(MCPError, match="request id"):
        await Stream(Listeners(), None).serve()


async def test_many_streams_leave_the_loop_to_others_in_between() -> None:
    listeners = Listeners()
    streams = [Stream(listeners, resource_subscriptions=[URI]) for _ in range(AT_ONCE + 1)]
    async with asyncio.TaskGroup() as group:
        for stream in streams:
            await opened(group, stream)
        publishing = group.create_task(listeners.publish(ResourceUpdated(uri=URI)))
        await asyncio.sleep(0)
        assert [len(stream.frames) for stream in streams] == [1] * AT_ONCE + [0]
        await publishing
        assert len(streams[-1].frames) == 1
        listeners.close()
