"""Who may follow which job is looked up once; what the store knows beside an event."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from comfy_mcp.domain.access import ALL_RIGHTS, DEFAULT_KEY_RIGHTS
from comfy_mcp.domain.events import StoredEvent
from comfy_mcp.domain.ids import BatchId, ClientId, JobId
from comfy_mcp.domain.job import Job, JobQuery
from comfy_mcp.domain.transitions import evolve, queued
from comfy_mcp.operations.context import Caller
from comfy_mcp.operations.feed import Described, Feed
from comfy_mcp.operations.feed.feed import KEPT_OWNERS
from tests.support.jobs import cancelled, completed, output_of_job, queued_event, started

SUBMITTED = queued_event(JobId("j"), client="alice")
JOB = queued(SUBMITTED)
ALICE = Caller(client=ClientId("alice"), surface="http", rights=DEFAULT_KEY_RIGHTS)
BOB = Caller(client=ClientId("bob"), surface="http", rights=DEFAULT_KEY_RIGHTS)
ROOT = Caller(client=ClientId("root"), surface="http", rights=ALL_RIGHTS)


class FakeStore:
    """One job, and what was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.job: Job | None = JOB
        self.place: int | None = 1
        self.events: list[StoredEvent] = []
        self.batch: list[Job] = []

    async def get_job(self, job_id: JobId) -> Job | None:
        self.asked.append("job")
        return self.job if self.job is not None and self.job.id == job_id else None

    async def list_jobs(self, query: JobQuery) -> Any:
        found = [each for each in self.batch if query.client in {None, each.client}]
        return SimpleNamespace(items=[each for each in found if each.batch == query.batch])

    async def view_job(self, job_id: JobId) -> Any:
        self.asked.append("view")
        return self.job and SimpleNamespace(job=self.job, outputs=(output_of_job(JOB),))

    async def queue_position(self, job_id: JobId) -> int | None:
        self.asked.append("position")
        return self.place

    async def events_after(self, seq: int, *, job_id: JobId, limit: int) -> list[StoredEvent]:
        return [stored for stored in self.events if stored.seq > seq][:limit]


class FakeHub:
    def __init__(self) -> None:
        self.listeners: list[Callable[[StoredEvent], None]] = []

    def listen(self, listener: Callable[[StoredEvent], None]) -> None:
        self.listeners.append(listener)

    def hand_out(self, *events: Any) -> None:
        for event in events:
            for listener in self.listeners:
                listener(stored(event))


def stored(event: Any, seq: int = 1) -> StoredEvent:
    return StoredEvent(seq=seq, event=event)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture
def feed(store: FakeStore, hub: FakeHub) -> Feed:
    typed_hub: Any = hub
    typed_store: Any = store
    return Feed(typed_hub, typed_store, foreign_ahead=lambda: 2)


async def test_the_owner_is_known_from_the_submit_or_looked_up_once(
    store: FakeStore, hub: FakeHub, feed: Feed
) -> None:
    hub.hand_out(SUBMITTED, started(JOB))
    assert not await feed.may_follow(JOB.id, BOB)
    assert await feed.may_follow(JOB.id, ALICE)
    assert await feed.may_follow(JOB.id, ROOT)
    assert store.asked == []
    assert not await feed.may_follow(JobId("k"), ROOT)
    assert store.asked == ["job"]  # it does not exist, so there is nothing to remember
    assert not await feed.may_follow(JobId("k"), ROOT)
    assert store.asked == ["job", "job"]


async def test_an_id_is_a_job_or_the_jobs_of_a_batch_that_the_caller_may_see(
    store: FakeStore, feed: Feed
) -> None:
    first, second = (replace(JOB, id=JobId(each), batch=BatchId("b")) for each in "12")
    store.batch = [second, first]  # the newest first, as a list is
    assert await feed.jobs_of("j", ALICE) == ["j"]
    assert await feed.jobs_of("b", ALICE) == await feed.jobs_of("b", ROOT) == ["1", "2"]
    assert await feed.jobs_of("b", BOB) == await feed.jobs_of("j", BOB) == []
    assert await feed.jobs_of("k", ROOT) == []


async def test_the_batches_of_events_are_known_from_the_submits_or_looked_up(
    store: FakeStore, hub: FakeHub, feed: Feed
) -> None:
    hub.hand_out(replace(queued_event(JobId("1")), batch=BatchId("b")))
    store.job = replace(JOB, batch=BatchId("c"))
    other, gone = replace(JOB, id=JobId("1")), replace(JOB, id=JobId("gone"))
    assert await feed.batches_of([stored(started(JOB)), stored(started(other)), stored(started(gone))]) == {
        "b": False,
        "c": False,
    }
    assert await feed.batches_of([stored(cancelled(other)), stored(started(other))]) == {"b": True}
    assert store.asked == ["job", "job"]
    store.job = replace(JOB, id=JobId("alone"))
    assert await feed.batches_of([stored(started(store.job))]) == {}


async def test_many_owners_push_out_the_oldest(store: FakeStore, hub: FakeHub, feed: Feed) -> None:
    assert await feed.may_follow(JOB.id, ALICE)
    assert await feed.may_follow(JOB.id, ALICE)
    assert store.asked == ["job"]
    hub.hand_out(*(queued_event(JobId(f"j{number}")) for number in range(KEPT_OWNERS)))
    assert await feed.may_follow(JOB.id, ALICE)
    assert store.asked == ["job", "job"]


async def test_a_job_is_over_when_its_end_has_been_seen(store: FakeStore, feed: Feed) -> None:
    assert not await feed.is_over(JOB.id, 0)
    store.job, store.events = evolve(JOB, cancelled(JOB)), [stored(cancelled(JOB), 7)]
    assert not await feed.is_over(JOB.id, 6)
    assert await feed.is_over(JOB.id, 7)
    store.job = None  # it was forgotten meanwhile
    assert await feed.is_over(JOB.id, 0)


async def test_an_end_is_told_with_its_outputs_and_a_wait_with_its_place(
    store: FakeStore, feed: Feed
) -> None:
    assert await feed.describe(stored(SUBMITTED)) == Described(position=3)
    store.place = None  # it no longer waits
    assert await feed.describe(stored(SUBMITTED)) == Described()
    end = await feed.describe(stored(completed(JOB)))
    assert (len(end.outputs), end.started_at) == (1, JOB.started_at)
    store.job = None
    assert await feed.describe(stored(completed(JOB))) == Described()
    store.asked.clear()
    assert await feed.describe(stored(started(JOB))) == Described()
    assert store.asked == []
