"""What goes out is made once."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from comfy_mcp.domain.access import ALL_RIGHTS, DEFAULT_KEY_RIGHTS
from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.domain.events import CancelRequested, JobEvent, StoredEvent
from comfy_mcp.domain.ids import ClientId, JobId
from comfy_mcp.domain.job import Job, queued
from comfy_mcp.operations.context import Caller
from comfy_mcp.operations.feed import Feed
from comfy_mcp.operations.feed.once import KEPT
from http_sidecar.streams.event_texts import EventTexts
from tests.support.jobs import completed, queued_event, started

JOB = queued(queued_event(JobId("j"), client="alice"))
ALICE = Caller(client=ClientId("alice"), surface="http", rights=DEFAULT_KEY_RIGHTS)
BOB = Caller(client=ClientId("bob"), surface="http", rights=DEFAULT_KEY_RIGHTS)
ROOT = Caller(client=ClientId("root"), surface="http", rights=ALL_RIGHTS)


class FakeStore:
    """One job, and how often it was asked for what. With `free` cleared it does not answer."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.faults = 0
        self.job: Job | None = JOB
        self.free = asyncio.Event()
        self.free.set()

    async def _ask(self, what: str) -> None:
        self.asked.append(what)
        await self.free.wait()
        if self.faults:
            self.faults -= 1
            raise StoreFault("locked", next_step="wait")

    async def get_job(self, job_id: JobId) -> Job | None:
        await self._ask("job")
        return self.job if self.job is not None and self.job.id == job_id else None

    async def view_job(self, job_id: JobId) -> Any:
        await self._ask("view")
        return self.job and SimpleNamespace(job=self.job, outputs=(), position=None)

    async def queue_position(self, job_id: JobId) -> int | None:
        await self._ask("position")
        return 1


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def texts(store: FakeStore) -> EventTexts:
    hub: Any = SimpleNamespace(listen=lambda _listener: None)
    typed: Any = store
    return EventTexts(Feed(hub, typed, foreign_ahead=lambda: 2))


def stored(event: JobEvent, seq: int = 1) -> StoredEvent:
    return StoredEvent(seq=seq, event=event)


async def test_a_text_is_made_once_for_all_who_want_it_at_the_same_time(
    store: FakeStore, texts: EventTexts
) -> None:
    store.free.clear()
    async with asyncio.TaskGroup() as tasks:
        wanted = [tasks.create_task(texts.text(stored(JOB_QUEUED))) for _ in range(50)]
        while not store.asked:
            await asyncio.sleep(0)
        store.free.set()
    assert len({task.result() for task in wanted}) == 1
    assert await texts.past_text(stored(JOB_QUEUED)) == wanted[0].result()
    assert store.asked == ["position"]


JOB_QUEUED = queued_event(JobId("j"), client="alice")


@pytest.mark.parametrize("end", ["fault", "cancel"])
async def test_who_waits_for_a_text_that_is_not_made_makes_it_itself(
    store: FakeStore, texts: EventTexts, end: str
) -> None:
    store.free.clear()
    store.faults = 1 if end == "fault" else 0

    async def first() -> None:
        if end == "fault":
            with pytest.raises(StoreFault):
                await texts.text(stored(JOB_QUEUED))
        else:
            await texts.text(stored(JOB_QUEUED))

    async with asyncio.TaskGroup() as tasks:
        making = tasks.create_task(first())
        while not store.asked:
            await asyncio.sleep(0)
        waiting = tasks.create_task(texts.text(stored(JOB_QUEUED)))
        if end == "cancel":
            making.cancel()
        store.free.set()
    assert '"queuePosition":3' in (waiting.result() or "")
    assert store.asked == ["position", "position"]


async def test_an_event_without_a_word_is_remembered_too(store: FakeStore, texts: EventTexts) -> None:
    event = stored(CancelRequested(job_id=JobId("j"), at=1))
    assert await texts.text(event) is None
    assert await texts.text(event) is None
    assert await texts.text(stored(started(JOB), 2)) is not None
    assert store.asked == []


async def test_a_replay_leaves_what_the_live_streams_need(store: FakeStore, texts: EventTexts) -> None:
    await texts.text(stored(JOB_QUEUED, 9_999))
    for seq in range(KEPT + 1):
        assert await texts.past_text(stored(started(JOB), seq)) is not None
    await texts.text(stored(JOB_QUEUED, 9_999))
    assert store.asked == ["position"]


async def test_what_is_kept_has_a_bound(store: FakeStore, texts: EventTexts) -> None:
    for seq in range(KEPT + 1):
        await texts.text(stored(completed(JOB), seq))
    await texts.text(stored(completed(JOB), KEPT))
    assert len(store.asked) == KEPT + 1
    await texts.text(stored(completed(JOB), 0))
    assert len(store.asked) == KEPT + 2


async def test_a_job_that_was_forgotten_meanwhile_still_ends(store: FakeStore, texts: EventTexts) -> None:
    store.job = None
    text = await texts.text(stored(completed(JOB)))
    assert text is not None
    assert '"outputs":[],"duration":null' in text
