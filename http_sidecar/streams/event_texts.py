"""Events as the text that goes out, made once however many streams follow."""

from comfy_mcp.domain.events import StoredEvent
from comfy_mcp.operations.feed import Feed, OncePerEvent
from http_sidecar.streams.messages import message_of, wire_text


class EventTexts:
    """One per process. None: the contract has no word for this event. Both methods raise StoreFault."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._texts = OncePerEvent(self._make)

    async def text(self, stored: StoredEvent) -> str | None:
        """The message as JSON."""
        return await self._texts.get(stored)

    async def past_text(self, stored: StoredEvent) -> str | None:
        """The same for a replay."""
        return await self._texts.get_past(stored)

    async def _make(self, stored: StoredEvent) -> str | None:
        message = message_of(stored, await self._feed.describe(stored))
        return None if message is None else wire_text(message)
