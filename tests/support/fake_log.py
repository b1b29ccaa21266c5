"""An event log in memory for a hub, and what its subscribers get."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.domain.events import JobProgressed, JobStarted, StoredEvent
from comfy_mcp.domain.ids import JobId, NodeId
from comfy_mcp.operations.feed.hub import Hub, Subscription


def stored(seq: int, job: str = "a") -> StoredEvent:
    return StoredEvent(seq=seq, event=JobStarted(job_id=JobId(job), at=seq, attempt=1))


@asynccontextmanager
async def running(log: "FakeLog", *, poll_s: float = 0.01) -> AsyncIterator[Hub]:
    """A hub that follows the log from its end on."""
    hub = Hub(log, poll_s=poll_s)
    await hub.open()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(hub.run())
        yield hub
        task.cancel()


class FakeLog:
    """An event log in memory that can fail."""

    def __init__(self) -> None:
        self.events: list[StoredEvent] = []
        self.version = 0
        self.faults = 0
        self.unknown = 0
        self.reads = 0
        self.others: list[JobProgressed] = []
        self.meanwhile: Callable[[], None] = lambda: None  # happens once, while steps are read
        self.callbacks: list[Callable[[Sequence[StoredEvent]], None]] = []
        self.tells = False
        self.tell: Callable[[], None] = lambda: None

    async def events_after(
        self, seq: int, *, job_id: JobId | None = None, limit: int = 500
    ) -> list[StoredEvent]:
        self.reads += 1
        found = [event for event in self.events if event.seq > seq][:limit]
        await asyncio.sleep(0)  # meanwhile others go on
        if self.faults:
            self.faults -= 1
            raise StoreFault("locked", next_step="wait")
        return found

    async def last_seq(self) -> int:
        return self.events[-1].seq if self.events else 0

    def data_version(self) -> int:
        if self.unknown:
            self.unknown -= 1
            raise StoreFault("locked", next_step="wait")
        return self.version

    def on_change(self, callback: Callable[[], None]) -> bool:
        self.tell = callback
        return self.tells

    async def others_steps(self) -> tuple[int, list[JobProgressed]]:
        read = await self.last_seq(), list(self.others)
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return read

    def on_commit(self, callback: Callable[[Sequence[StoredEvent]], None]) -> None:
        self.callbacks.append(callback)

    def commit(self, *events: StoredEvent, local: bool = True) -> None:
        self.events.extend(events)
        self.version += 1
        if local:
            for callback in self.callbacks:
                callback(events)

    def step(self, progress: float, job: str = "a") -> None:
        """As the store tells one of this process."""
        for callback in self.callbacks:
            callback([StoredEvent(seq=0, event=step(progress, job), volatile=True)])


def step(progress: float, job: str = "a", at: int = 1) -> JobProgressed:
    return JobProgressed(job_id=JobId(job), at=at, attempt=1, progress=progress, node_id=NodeId("n"))


async def take(subscription: Subscription, count: int) -> list[int]:
    seqs: list[int] = []
    async with asyncio.timeout(20):
        while len(seqs) < count:
            seqs += [event.seq for event in await subscription.changed()]
    return seqs


async def told(subscription: Subscription, count: int) -> list[StoredEvent]:
    found: list[StoredEvent] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found += await subscription.changed()
    return found
