"""Events as the text that goes out, made once however many streams follow."""

import asyncio

from comfy_mcp.domain.bounded import Bounded
from comfy_mcp.domain.events import JobEvent, JobQueued, StoredEvent
from comfy_mcp.domain.ids import ClientId, JobId
from comfy_mcp.operations.context import Caller, Services
from http_sidecar.streams.messages import message_of, needs_outputs, needs_position, wire_text

KEPT_TEXTS = 2_048
KEPT_OWNERS = 8_192

Key = int | JobEvent
"""Which text: the place in the log; a step of progress has none."""


class Announcer:
    """One per process. Every method raises StoreFault."""

    def __init__(self, services: Services) -> None:
        self._store = services.store
        self._engines = services.engines
        self._texts: Bounded[Key, str | None] = Bounded(KEPT_TEXTS)
        self._owners: Bounded[JobId, ClientId] = Bounded(KEPT_OWNERS)
        self._making: dict[Key, asyncio.Event] = {}

    async def visible(self, stored: StoredEvent, caller: Caller) -> bool:
        """Whether `caller` may hear of it."""
        if caller.sees_all:
            return True
        event = stored.event
        if isinstance(event, JobQueued):
            self._owners[event.job_id] = event.client
        return await self.may_follow(event.job_id, caller)

    async def may_follow(self, job_id: JobId, caller: Caller) -> bool:
        """False for a job that does not exist, too."""
        owner = self._owners.get(job_id)
        if owner is None:
            job = await self._store.get_job(job_id)
            if job is None:
                return False
            owner = job.client
            self._owners[job_id] = owner
        return caller.may_see(owner)

    async def text(self, stored: StoredEvent) -> str | None:
        """The message as JSON. None: the contract has no word for this event."""
        key = _key(stored)
        while key not in self._texts:
            under_way = self._making.get(key)
            if under_way is None:
                await self._make_once(key, stored)
            else:  # it may fail or be cancelled there: then it is made here
                await under_way.wait()
        return self._texts.get(key)

    async def past_text(self, stored: StoredEvent) -> str | None:
        """The same for a replay, which must not push out what all streams are about to send."""
        key = _key(stored)
        return self._texts.get(key) if key in self._texts else await self._make(stored)

    async def _make_once(self, key: Key, stored: StoredEvent) -> None:
        done = self._making[key] = asyncio.Event()
        try:
            self._texts[key] = await self._make(stored)
        finally:
            del self._making[key]
            done.set()

    async def _make(self, stored: StoredEvent) -> str | None:
        if needs_outputs(stored):
            view = await self._store.view_job(stored.event.job_id)
            message = (
                message_of(stored)
                if view is None
                else message_of(stored, outputs=view.outputs, started_at=view.job.started_at)
            )
        elif needs_position(stored):
            position = await self._store.queue_position(stored.event.job_id)
            if position is not None:  # others' prompts count too, as in every other answer
                position += self._engines.foreign_ahead()
            message = message_of(stored, position=position)
        else:
            message = message_of(stored)
        return None if message is None else wire_text(message)


def _key(stored: StoredEvent) -> Key:
    return stored.event if stored.volatile else stored.seq
