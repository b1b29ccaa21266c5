"""What is made of an event, made once however many readers want it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from comfy_mcp.domain.bounded import Bounded
from comfy_mcp.domain.events import JobEvent, StoredEvent

KEPT = 2_048
"""Events of which the result is kept: readers that follow live are no further apart."""

Key = int | tuple[int, JobEvent]
"""Which event: its place in the log. A step of progress has only that of the event before it."""

T = TypeVar("T")


class OncePerEvent(Generic[T]):
    """Results of `make`, the newest kept. Both methods raise what `make` raises."""

    def __init__(self, make: Callable[[StoredEvent], Awaitable[T]]) -> None:
        self._make = make
        self._made: Bounded[Key, T] = Bounded(KEPT)
        self._making: dict[Key, asyncio.Event] = {}

    async def get(self, stored: StoredEvent) -> T:
        """For a reader that follows live."""
        key = _key(stored)
        while key not in self._made:
            under_way = self._making.get(key)
            if under_way is None:
                await self._make_once(key, stored)
            else:  # it may fail or be cancelled there: then it is made here
                await under_way.wait()
        return self._made[key]

    async def get_past(self, stored: StoredEvent) -> T:
        """For a replay, which must not push out what the live readers are about to want."""
        key = _key(stored)
        return self._made[key] if key in self._made else await self._make(stored)

    async def _make_once(self, key: Key, stored: StoredEvent) -> None:
        done = self._making[key] = asyncio.Event()
        try:
            self._made[key] = await self._make(stored)
        finally:
            del self._making[key]
            done.set()


def _key(stored: StoredEvent) -> Key:
    return (stored.seq, stored.event) if stored.volatile else stored.seq
