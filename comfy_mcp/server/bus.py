"""Resource notifications to the subscribers of both protocol eras.

2026-07-28: `subscriptions/listen` streams. Over HTTP their frames are written straight to the connections
(server/listeners.py); on stdio the SDK's ListenHandler serves them from this bus. Both bound each stream and
end one that is not read. Up to 2025-11-25: sessions that asked for a URI by resources/subscribe, and all
initialized ones for list changes. Every event means "read it again", so what a session has not
read yet is a set, not a queue: it can't grow past the session's subscriptions. A session that does not
read a notification in time is dropped, and nobody waits for it.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
)
from mcp_types import SubscriptionsListenRequestParams, SubscriptionsListenResult

from comfy_mcp.domain.errors import ErrorCode, LimitExceeded
from comfy_mcp.server.listeners import AnswerOf, Listeners, no_answer
from comfy_mcp.shares import Shares

log = structlog.get_logger(__name__)

MAX_URIS = 1_000
"""Subscriptions of one session, or of one listen stream."""

SEND_TIMEOUT_S = 10.0
"""A client that does not accept a notification within this time gets no more of them."""

ClientOf = Callable[[ServerRequestContext[Any, Any]], str | None]


def no_client(_ctx: ServerRequestContext[Any, Any]) -> None:
    """On stdio there is one."""


MAX_STREAMS = 1_024
"""Listen streams at once, where nothing else is said: the SDK's own bound."""


@asynccontextmanager
async def open_bus(
    *,
    send_timeout_s: float = SEND_TIMEOUT_S,
    max_streams: int = MAX_STREAMS,
    client_of: ClientOf = no_client,
    answer_of: AnswerOf = no_answer,
) -> AsyncIterator["ResourceBus"]:
    """A bus whose senders live as long as the context. What fails inside the context comes out as itself.

    Of a request to listen, `client_of` is whose share of the streams it takes (None: nobody's), `answer_of`
    where its frames may be written (None: the SDK carries them).
    """
    failed: BaseException | None = None
    async with asyncio.TaskGroup() as tasks:
        bus = ResourceBus(
            tasks,
            send_timeout_s=send_timeout_s,
            max_streams=max_streams,
            client_of=client_of,
            answer_of=answer_of,
        )
        try:
            yield bus
        except Exception as error:  # noqa: BLE001 - raised again below, outside the group, unwrapped
            failed = error
        finally:
            bus.close()
    if failed is not None:
        raise failed


def require_room(count: int) -> None:
    """Raises LimitExceeded for more than one session or stream may follow."""
    if count > MAX_URIS:
        raise LimitExceeded(
            f"A session can follow {MAX_URIS} resources.",
            next_step="Unsubscribe from finished workflows.",
            code=ErrorCode.INVALID_ARGUMENT,
        )


class ResourceBus:
    """One per process; servers of all transports share it."""

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        *,
        send_timeout_s: float,
        max_streams: int,
        client_of: ClientOf,
        answer_of: AnswerOf,
    ) -> None:
        self.streams = 0
        """`subscriptions/listen` streams that are open."""
        self._tasks = tasks
        self._send_timeout_s = send_timeout_s
        self._modern = InMemorySubscriptionBus()
        self._peers: dict[Connection, _Peer] = {}
        self._followed: Counter[str] = Counter()
        self._listen = ListenHandler(self, max_subscriptions=max_streams)
        self._listeners = Listeners()
        self._places = Shares(max_streams, "subscription streams", next_step="Close some.")
        self._client_of = client_of
        self._answer_of = answer_of

    async def listen(
        self, ctx: ServerRequestContext[Any, Any], params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """`subscriptions/listen`: one stream, as long as its client stays. Raises LimitExceeded."""
        with self._places.place(self._client_of(ctx)):
            return await self._serve_stream(ctx, params)

    async def _serve_stream(
        self, ctx: ServerRequestContext[Any, Any], params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        uris = set(params.notifications.resource_subscriptions or ())
        self._followed.update(uris)
        self.streams += 1
        try:
            if (answer := self._answer_of(ctx)) is not None:
                return await self._listeners.serve(ctx, params.notifications, answer)
            return await self._listen(ctx, params)
        finally:
            self.streams -= 1
            self._followed.subtract(uris)
            self._followed += Counter()  # what nobody follows is forgotten

    def is_followed(self, uri: str) -> bool:
        """By a stream or a session: else nobody needs to find out whether it changed."""
        return self._followed[uri] > 0 or any(uri in peer.uris for peer in self._peers.values())

    async def publish(self, event: ServerEvent) -> None:
        """To whoever asked for it. Waits for no client."""
        for peer in list(self._peers.values()):
            peer.offer(event)
        await self._listeners.publish(event)
        await self._modern.publish(event)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """The SDK's side: one listen stream."""
        return self._modern.subscribe(listener)

    def attach(self, connection: Connection) -> None:
        """A legacy session exists: send it list changes until it closes."""
        self._peer(connection)

    def subscribe_uri(self, connection: Connection, uri: str) -> None:
        """Raises LimitExceeded."""
        peer = self._peer(connection)
        require_room(len(peer.uris | {uri}))
        peer.uris.add(uri)

    def unsubscribe_uri(self, connection: Connection, uri: str) -> None:
        peer = self._peers.get(connection)
        if peer is not None:
            peer.forget(uri)

    @property
    def idle(self) -> bool:
        """Nobody follows anything."""
        return not self.streams and not self._peers

    @property
    def sessions(self) -> int:
        """Legacy sessions that are served and have said that they are initialized."""
        return len(self._peers)

    def close(self) -> None:
        """End all streams: listeners get the protocol's graceful end."""
        self._listen.close()
        self._listeners.close()
        for connection in list(self._peers):
            self._drop(connection)

    def _peer(self, connection: Connection) -> "_Peer":
        peer = self._peers.get(connection)
        if peer is None:
            peer = self._peers[connection] = _Peer(connection)
            peer.task = self._tasks.create_task(self._serve(peer))
            connection.exit_stack.callback(self._drop, connection)
        return peer

    def _drop(self, connection: Connection) -> None:
        peer = self._peers.pop(connection, None)
        if peer is not None and peer.task is not None:
            peer.task.cancel()

    async def _serve(self, peer: "_Peer") -> None:
        try:
            await peer.send_all(self._send_timeout_s)
        except TimeoutError:
            log.warning("session_dropped", reason="the client did not accept a notification in time")
        except Exception:
            log.exception("session_dropped", reason="sending failed")
        self._peers.pop(peer.connection, None)


class _Peer:
    """A legacy session: what it follows, and the notifications that it has not read yet."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.uris: set[str] = set()
        self.task: asyncio.Task[None] | None = None
        self._pending: dict[ServerEvent, None] = {}
        self._wake = asyncio.Event()

    def offer(self, event: ServerEvent) -> None:
        match event:
            case ResourceUpdated(uri=uri):
                wanted = uri in self.uris
            case ResourcesListChanged():
                wanted = True
            case _:
                wanted = False
        if wanted:
            self._pending[event] = None
            self._wake.set()

    def forget(self, uri: str) -> None:
        self.uris.discard(uri)
        self._pending.pop(ResourceUpdated(uri=uri), None)

    async def send_all(self, timeout_s: float) -> None:
        """Until cancelled. Raises TimeoutError when the client reads nothing for `timeout_s`."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                event = next(iter(self._pending))
                del self._pending[event]
                async with asyncio.timeout(timeout_s):
                    await self._send(event)

    async def _send(self, event: ServerEvent) -> None:
        if isinstance(event, ResourceUpdated):
            await self.connection.send_resource_updated(event.uri)
        else:
            await self.connection.send_resource_list_changed()
