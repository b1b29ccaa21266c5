"""A session that does not read hurts nobody, and a closed one is forgotten."""

import asyncio
from typing import Any

import pytest
from mcp.server.connection import Connection
from mcp.server.subscriptions import ResourcesListChanged, ResourceUpdated, ToolsListChanged

from comfy_mcp.domain.errors import LimitExceeded
from comfy_mcp.server.bus import MAX_URIS, open_bus
from tests.support.mcp_surface import LIMIT_S

URI = "comfy://queue"


class Outbound:
    """A client's end: takes notifications, or doesn't, or breaks."""

    def __init__(self, *, stuck: bool = False, broken: bool = False) -> None:
        self.taken: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.asked = asyncio.Event()
        self._stuck = stuck
        self._broken = broken

    async def notify(self, method: str, params: Any, opts: Any = None) -> None:
        self.asked.set()
        if self._stuck:
            await asyncio.Event().wait()
        if self._broken:
            raise RuntimeError("a defect of the transport")
        await self.taken.put((method, params))

    async def send_raw_request(self, method: str, params: Any, opts: Any = None) -> dict[str, Any]:
        raise NotImplementedError

    async def next(self) -> tuple[str, Any]:
        async with asyncio.timeout(LIMIT_S):
            return await self.taken.get()


UPDATED = ("notifications/resources/updated", {"uri": URI})
LISTED = ("notifications/resources/list_changed", None)


async def test_a_session_hears_only_of_what_it_asked_for() -> None:
    asked, silent = Outbound(), Outbound()
    async with open_bus(send_timeout_s=LIMIT_S) as bus:
        bus.subscribe_uri(Connection.for_loop(asked), URI)
        bus.attach(Connection.for_loop(silent))
        await bus.publish(ResourceUpdated(uri=URI))
        await bus.publish(ToolsListChanged())
        await bus.publish(ResourcesListChanged())
        assert [await asked.next(), await asked.next()] == [UPDATED, LISTED]
        assert await silent.next() == LISTED
    assert asked.taken.empty()
    assert silent.taken.empty()


@pytest.mark.parametrize("trouble", ["stuck", "broken"])
async def test_a_session_that_takes_nothing_is_dropped_and_the_others_go_on(trouble: str) -> None:
    bad, good = Outbound(**{trouble: True}), Outbound()
    async with open_bus(send_timeout_s=0.01) as bus:
        for outbound in (bad, good):
            bus.subscribe_uri(Connection.for_loop(outbound), URI)
        await bus.publish(ResourceUpdated(uri=URI))
        assert await good.next() == UPDATED
        async with asyncio.timeout(LIMIT_S):
            await bad.asked.wait()
            while bus.sessions > 1:
                await bus.publish(ResourcesListChanged())
        await bus.publish(ResourceUpdated(uri=URI))
        while await good.next() != UPDATED:
            pass


async def test_what_a_slow_session_has_not_taken_is_one_notification_a_resource() -> None:
    outbound = Outbound()
    async with open_bus(send_timeout_s=LIMIT_S) as bus:
        bus.subscribe_uri(Connection.for_loop(outbound), URI)
        connection = Connection.for_loop(outbound)
        bus.subscribe_uri(connection, URI)
        peer = bus._peers[connection]
        for _ in range(1_000):
            peer.offer(ResourceUpdated(uri=URI))
        assert len(peer._pending) == 1


async def test_a_closed_connection_is_forgotten() -> None:
    async with open_bus(send_timeout_s=LIMIT_S) as bus:
        connection = Connection.for_loop(Outbound())
        bus.attach(connection)
        bus.subscribe_uri(connection, URI)
        assert bus.sessions == 1
        await connection.exit_stack.aclose()
        assert bus.sessions == 0
        bus.unsubscribe_uri(connection, URI)
        assert bus.sessions == 0


async def test_a_session_follows_a_bounded_number_of_resources() -> None:
    async with open_bus(send_timeout_s=LIMIT_S) as bus:
        connection = Connection.for_loop(Outbound())
        for number in range(MAX_URIS):
            bus.subscribe_uri(connection, f"{URI}{number}")
        with pytest.raises(LimitExceeded):
            bus.subscribe_uri(connection, URI)
        bus.subscribe_uri(connection, f"{URI}0")  # it has this one already


async def test_what_fails_inside_the_context_comes_out_as_itself() -> None:
    with pytest.raises(LookupError):
        async with open_bus(send_timeout_s=LIMIT_S):
            raise LookupError
