"""The event log from a place on: the past from the store, the rest from the hub, no gap and no duplicate."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from comfy_mcp.domain.events import StoredEvent
from comfy_mcp.domain.ids import JobId
from comfy_mcp.operations.context import Services

if TYPE_CHECKING:
    from comfy_mcp.driving.hub import Subscription

PAGE = 500
"""Events read from the store at once."""


@contextlib.contextmanager
def follow(services: Services, *, buffer: int, job_id: JobId | None = None) -> Iterator["Follower"]:
    """Follow the log of one job, or of all, while the context is open.

    `buffer` events wait for the reader at most. When there are more, the oldest are read from the log again.
    """
    with services.hub.subscribe(job_id=job_id, buffer=buffer) as subscription:
        # In one step with the subscription: up to here is past, after it the subscription has everything.
        yield Follower(services, subscription, cursor=services.hub.seq, job_id=job_id)


class Follower:
    """One reader of the log. `cursor` divides it: up to there everything has been told or is past, and the
    reader moves it as it tells. So a past that is asked for later ends exactly where the news go on."""

    def __init__(
        self, services: Services, subscription: "Subscription", *, cursor: int, job_id: JobId | None
    ) -> None:
        self.cursor = cursor
        self._store = services.store
        self._hub = services.hub
        self._subscription = subscription
        self._job_id = job_id
        self._held: list[StoredEvent] = []
        self._catching_up = False

    @property
    def overflowed(self) -> bool:
        """More came than the buffer holds, and nobody has asked for it since."""
        return self._subscription.overflowed

    @property
    def ended(self) -> bool:
        return self._subscription.ended

    def end(self) -> None:
        """`news` waits no more: it brings what is left, then nothing."""
        self._subscription.end()

    async def news(self) -> list[StoredEvent]:
        """Wait for what comes after `cursor`, in order. Empty once ended. Raises StoreFault.

        A call that was cancelled or failed loses nothing: the next one brings it.
        """
        if not self._catching_up:
            self._held = await self._subscription.changed()
            if not self._subscription.overflowed:
                return self._held
            self._subscription.overflowed = False
            self._catching_up = True
        # What is held is the newest and whole; what was dropped lies between the cursor and it.
        page = await self._store.events_after(self.cursor, job_id=self._job_id, limit=PAGE)
        oldest = self._held[0]
        lost = [stored for stored in page if stored.seq < oldest.seq + oldest.volatile]
        if lost:
            return lost
        self._catching_up = False
        return self._held

    async def past(self, since: int, job_id: JobId | None) -> list[StoredEvent]:
        """The next page of what came after `since`, up to `cursor`; empty at the end. Raises StoreFault."""
        if since >= self.cursor:
            return []
        page = await self._store.events_after(since, job_id=job_id, limit=PAGE)
        return [stored for stored in page if stored.seq <= self.cursor]

    def steps(self, job_id: JobId | None) -> list[StoredEvent]:
        """The last progress of what runs, which no page of the past has; for the end of a replay."""
        return [
            replace(stored, seq=self.cursor)
            for stored in self._hub.steps(job_id)
            if stored.seq <= self.cursor  # a later one is among the news
        ]

    async def known(self, since: int) -> bool:
        """Whether the log has got as far as `since`; if not, it comes from another store. Raises StoreFault.

        It may lie beyond `cursor`: this process may be behind one that the client spoke to before.
        """
        return since <= self.cursor or since <= await self._store.last_seq()
