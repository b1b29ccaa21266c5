"""Who may follow what, and what the store knows beside an event."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfy_mcp.domain.bounded import Bounded
from comfy_mcp.domain.events import (
    JobCompleted,
    JobQueued,
    JobRequeued,
    JobWaiting,
    PriorityChanged,
    StoredEvent,
)
from comfy_mcp.domain.ids import BatchId, ClientId, JobId
from comfy_mcp.domain.job import JobQuery
from comfy_mcp.operations.feed.reader import Reader

if TYPE_CHECKING:  # the surfaces use this module and must not load the database
    from comfy_mcp.domain.catalog import Output
    from comfy_mcp.operations.context import Caller
    from comfy_mcp.operations.feed.hub import Hub
    from comfy_mcp.store import Store

KEPT_OWNERS = 1_024
"""Jobs whose client and batch are known without a question to the store."""

MOST = 200
"""Jobs of one batch; it has fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What a message about an event says beside it. `position` is the place in the run order of a job that
    waits; `outputs` and `started_at` are those of a job that has completed."""

    position: int | None = None
    outputs: tuple[Output, ...] = ()
    started_at: int | None = None


class Feed:
    """One per process. Every coroutine raises StoreFault."""

    def __init__(self, hub: Hub, store: Store, *, foreign_ahead: Callable[[], int]) -> None:
        """`foreign_ahead`: how many prompts of others run before any queued job, as far as is known."""
        self._hub = hub
        self._store = store
        self._foreign_ahead = foreign_ahead
        self._owners: Bounded[JobId, tuple[ClientId, BatchId | None]] = Bounded(KEPT_OWNERS)
        hub.listen(self._note_owner)

    @contextlib.contextmanager
    def follow(
        self, caller: Caller, *, job_id: JobId | None = None, buffer: int = 1024, only_ends: bool = False
    ) -> Iterator[Reader]:
        """Follow one job, or all that `caller` may see, while the context is open.

        `buffer` events wait for the reader at most. `only_ends`: it gets nothing before a job's end.
        """
        with self._hub.subscribe(job_id=job_id, buffer=buffer, only_ends=only_ends) as subscription:
            # In one step with the subscription: up to here is past, after it the subscription has everything.
            yield Reader(
                self._hub, self._store, subscription, caller, job_id=job_id, may_follow=self.may_follow
            )

    async def may_follow(self, job_id: JobId, caller: Caller) -> bool:
        """Whether the caller may see the job. False for a job that does not exist, too."""
        owner = await self.owner(job_id)
        return owner is not None and caller.may_see(owner)

    async def owner(self, job_id: JobId) -> ClientId | None:
        """Whose job it is. None for a job that does not exist."""
        known = await self._known(job_id)
        return None if known is None else known[0]

    async def jobs_of(self, given: str, caller: Caller) -> list[JobId]:
        """The job with this id, or those of the batch, oldest first, that the caller may see. None at all
        where there is no such id."""
        if await self.may_follow(JobId(given), caller):
            return [JobId(given)]
        client = None if caller.sees_all else caller.client
        page = await self._store.list_jobs(JobQuery(batch=BatchId(given), client=client, limit=MOST))
        return [job.id for job in reversed(page.items)]

    async def batches_of(self, events: Iterable[StoredEvent]) -> dict[BatchId, bool]:
        """The batches whose jobs the events are about, and whether one of them is an end."""
        found: dict[BatchId, bool] = {}
        for stored in events:
            known = await self._known(stored.event.job_id)
            if known is not None and (batch := known[1]) is not None:
                found[batch] = found.get(batch, False) or stored.is_final
        return found

    async def is_over(self, job_id: JobId, since: int) -> bool:
        """Whether nothing comes of the job after `since`: it has ended, and its end is not later."""
        job = await self._store.get_job(job_id)
        if job is None or not job.is_final:
            return job is None
        return not await self._store.events_after(since, job_id=job_id, limit=1)

    async def describe(self, stored: StoredEvent) -> Described:
        """What the store knows now."""
        job_id = stored.event.job_id
        match stored.event:
            case JobCompleted():
                view = await self._store.view_job(job_id)
                if view is None:  # forgotten meanwhile
                    return Described()
                return Described(outputs=view.outputs, started_at=view.job.started_at)
            case JobQueued() | JobRequeued() | JobWaiting() | PriorityChanged():
                place = await self._store.queue_position(job_id)
                # Others' prompts count too, as in every other answer.
                return Described(position=None if place is None else place + self._foreign_ahead())
            case _:
                return Described()

    def _note_owner(self, stored: StoredEvent) -> None:
        if isinstance(stored.event, JobQueued):
            self._owners[stored.event.job_id] = stored.event.client, stored.event.batch

    async def _known(self, job_id: JobId) -> tuple[ClientId, BatchId | None] | None:
        known = self._owners.get(job_id)
        if known is None:
            job = await self._store.get_job(job_id)
            if job is not None:
                known = self._owners[job_id] = job.client, job.batch
        return known
