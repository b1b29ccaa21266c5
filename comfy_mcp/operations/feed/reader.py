"""The event log from a place on: the past from the store, the rest from the hub, no gap and no duplicate."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from comfy_mcp.domain.events import StoredEvent
from comfy_mcp.domain.ids import JobId

if TYPE_CHECKING:  # the surfaces use this module and must not load the database
    from comfy_mcp.operations.context import Caller
    from comfy_mcp.operations.feed.hub import Hub, Subscription
    from comfy_mcp.store import Store

PAGE = 500
"""Events read from the store at once."""


class Reader:
    """One reader of the log, who gets what its caller may see and nothing else.

    `cursor` divides the log: up to there everything has been passed on or is past. The reader moves it with
    `passed` as it goes, so a past that is asked for later ends exactly where the news go on.

    A reader that is too slow for its buffer loses the oldest events in it. `news` reads them from the log
    again; `newest` says that some are missing, for a reader that takes a snapshot then.
    """

    def __init__(
        self,
        hub: Hub,
        store: Store,
        subscription: Subscription,
        caller: Caller,
        *,
        job_id: JobId | None,
        may_follow: Callable[[JobId, Caller], Awaitable[bool]],
    ) -> None:
        self.cursor = hub.seq
        self._hub = hub
        self._store = store
        self._subscription = subscription
        self._job_id = job_id
        self._caller = caller
        self._may_follow = may_follow
        self._held: list[StoredEvent] = []
        self._given: list[StoredEvent] = []  # news that have not been passed yet
        self._behind = False
        self._last: StoredEvent | None = None
        self._end = self.cursor

    @property
    def ended(self) -> bool:
        return self._subscription.ended

    def end(self) -> None:
        """Nobody waits for news any more: there is what is left, then nothing."""
        self._subscription.end()

    def passed(self, stored: StoredEvent) -> None:
        """An event of the news has been dealt with, and all before it."""
        self.cursor = self._end if stored is self._last else stored.seq
        del self._given[:1]

    async def news(self) -> list[StoredEvent]:
        """Wait for what comes after `cursor`, all of it and in order. Empty once ended. Raises StoreFault.

        A call that was cancelled or failed loses nothing: the next one brings it.
        """
        while True:
            await self._take()
            batch = await self._lost() or self._held
            shown = await self._shown(batch, self._caller)
            if batch is self._held:
                self._held, self._behind = [], False
            if shown or not batch:
                self._note_end(shown, batch)
                self._given = list(shown)
                return shown
            self.cursor = batch[-1].seq

    async def newest(self) -> tuple[list[StoredEvent], bool]:
        """Wait for what is new, and say whether events before it were lost. Empty once ended.

        Raises StoreFault.

        A call that was cancelled or failed loses nothing: the next one brings it.
        """
        while True:
            await self._take()
            batch, lost = self._held, self._behind
            shown = await self._shown(batch, self._caller)
            self._held, self._behind = [], False
            if shown or lost or not batch:
                return shown, lost

    async def past(self, caller: Caller, since: int, until: int, job_id: JobId | None) -> list[StoredEvent]:
        """The next page of what came after `since`, up to `until`; empty at the end. Raises StoreFault."""
        # Who sees little of the log must not read all of it.
        client = None if caller.sees_all else caller.client
        while since < until:
            found = await self._store.events_after(since, job_id=job_id, client=client, limit=PAGE)
            page = [stored for stored in found if stored.seq <= until]
            shown = await self._shown(page, caller)
            if shown or not page:
                return shown
            since = page[-1].seq
        return []

    async def steps(
        self, caller: Caller, until: int, job_id: JobId | None, *, besides: Iterable[StoredEvent] = ()
    ) -> list[StoredEvent]:
        """The last progress of what runs, which no page of the past has; for the end of a replay.

        Without the steps that are still to come as news, and those in `besides`.
        """
        news = {id(stored) for stored in (*self._given, *self._held, *self._subscription.waiting, *besides)}
        known = [
            replace(stored, seq=until)
            for stored in self._hub.steps(job_id)
            if stored.seq <= until and id(stored) not in news
        ]
        return await self._shown(known, caller)

    async def known(self, since: int) -> bool:
        """Whether the log has got as far as `since`; if not, it comes from another store. Raises StoreFault.

        It may lie beyond `cursor`: this process may be behind one that the client spoke to before.
        """
        return since <= self.cursor or since <= await self._store.last_seq()

    async def _take(self) -> None:
        if not self._held:
            self._held = await self._subscription.changed()
            self._behind, self._subscription.overflowed = self._subscription.overflowed, False

    async def _lost(self) -> list[StoredEvent]:
        """What was dropped: it lies between the cursor and what is held, which is the newest and whole."""
        if not self._behind:
            return []
        page = await self._store.events_after(self.cursor, job_id=self._job_id, limit=PAGE)
        oldest = self._held[0]
        return [stored for stored in page if stored.seq < oldest.seq + oldest.volatile]

    async def _shown(self, events: Iterable[StoredEvent], caller: Caller) -> list[StoredEvent]:
        if caller.sees_all:
            return list(events)
        return [stored for stored in events if await self._may_follow(stored.event.job_id, caller)]

    def _note_end(self, shown: list[StoredEvent], batch: list[StoredEvent]) -> None:
        """What follows the last one shown is hidden: it is passed together with that one."""
        if shown:
            self._last, self._end = shown[-1], batch[-1].seq
