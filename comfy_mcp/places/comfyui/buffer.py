"""Pure: the bounded buffer between the socket's reader and a busy consumer."""

from collections.abc import Hashable
from itertools import count

from comfy_mcp.domain.events import EngineEvent, NodeProgressed, PreviewFrame, QueueRemaining


class EventBuffer:
    """Events in order, at most `limit` of them, and at most `preview_bytes` of previews.

    Overflow, in this order of harm:
    - a step replaces the waiting step of the same node, a queue count the waiting count;
    - the oldest previews make room for new ones;
    - anything else is never dropped: `put` answers False, and whoever reads the socket must close it, empty
      the buffer and start again with a resync.
    """

    def __init__(self, *, limit: int, preview_bytes: int) -> None:
        self._limit = limit
        self._preview_limit = preview_bytes
        self._events: dict[Hashable, EngineEvent] = {}
        self._previews: dict[Hashable, int] = {}  # key -> bytes, oldest first
        self._preview_total = 0
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._events)

    def put(self, event: EngineEvent) -> bool:
        if isinstance(event, PreviewFrame):
            self._put_preview(event)
            return True
        key = _replaceable_key(event)
        if key is None or key not in self._events:
            if len(self._events) - len(self._previews) >= self._limit:
                return False
            key = next(self._numbers) if key is None else key
        self._events[key] = event
        return True

    def pop(self) -> EngineEvent | None:
        """The oldest event; None when empty."""
        if not self._events:
            return None
        key = next(iter(self._events))
        self._forget_preview(key)
        return self._events.pop(key)

    def clear(self) -> None:
        self._events.clear()
        self._previews.clear()
        self._preview_total = 0

    def _put_preview(self, event: PreviewFrame) -> None:
        size = len(event.data)
        while self._previews and self._preview_total + size > self._preview_limit:
            oldest = next(iter(self._previews))
            self._forget_preview(oldest)
            del self._events[oldest]
        if size <= self._preview_limit:
            key = next(self._numbers)
            self._events[key] = event
            self._previews[key] = size
            self._preview_total += size

    def _forget_preview(self, key: Hashable) -> None:
        self._preview_total -= self._previews.pop(key, 0)


def _replaceable_key(event: EngineEvent) -> Hashable | None:
    """The key under which a newer event of the kind replaces a waiting one, in the older one's place."""
    if isinstance(event, NodeProgressed):
        return ("step", event.prompt_id, event.node)
    if isinstance(event, QueueRemaining):
        return "queue"
    return None
