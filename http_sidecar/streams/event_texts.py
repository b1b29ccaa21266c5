"""Events as the text that goes out: made once for all who follow live, and kept for replays."""

from comfy_mcp.domain.bounded import Bounded
from comfy_mcp.domain.events import StoredEvent
from comfy_mcp.operations.feed import Feed
from http_sidecar.streams.messages import message_of, wire_text

KEPT = 2_048
"""Newest events of the log of which the text is kept: clients that reconnect ask for them."""


class EventTexts:
    """One per process. None: the contract has no word for this event. Both methods raise StoreFault."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._made: Bounded[int, str | None] = Bounded(KEPT)

    async def text(self, stored: StoredEvent) -> str | None:
        """The message as JSON, when the event happens."""
        text = await self._make(stored)
        if not stored.volatile:
            self._made[stored.seq] = text
        return text

    async def past_text(self, stored: StoredEvent) -> str | None:
        """The same for a replay, which does not push out the newest."""
        if not stored.volatile and stored.seq in self._made:
            return self._made[stored.seq]
        return await self._make(stored)

    async def _make(self, stored: StoredEvent) -> str | None:
        message = message_of(stored, await self._feed.describe(stored))
        return None if message is None else wire_text(message)
