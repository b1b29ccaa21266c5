"""What goes out is made once."""

from types import SimpleNamespace
from typing import Any

import pytest

from comfy_mcp.domain.access import ALL_RIGHTS, DEFAULT_KEY_RIGHTS
from comfy_mcp.domain.events import CancelRequested, JobEvent, JobProgressed, StoredEvent
from comfy_mcp.domain.ids import ClientId, JobId
from comfy_mcp.domain.job import Job
from comfy_mcp.domain.transitions import queued
from comfy_mcp.operations.context import Caller
from comfy_mcp.operations.feed import Feed
from http_sidecar.streams.event_texts import KEPT, EventTexts
from tests.support.jobs import completed, queued_event, started

JOB = queued(queued_event(JobId("j"), client="alice"))
ALICE = Caller(client=ClientId("alice"), surface="http", rights=DEFAULT_KEY_RIGHTS)
BOB = Caller(client=ClientId("bob"), surface="http", rights=DEFAULT_KEY_RIGHTS)
ROOT = Caller(client=ClientId("root"), surface="http", rights=ALL_RIGHTS)


class FakeStore:
    """One job, and how often it was asked for what."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.job: Job | None = JOB

    async def get_job(self, job_id: JobId) -> Job | None:
        self.asked.append("job")
        return self.job if self.job is not None and self.job.id == job_id else None

    async def view_job(self, job_id: JobId) -> Any:
        self.asked.append("view")
        return self.job and SimpleNamespace(job=self.job, outputs=(), position=None)

    async def queue_position(self, job_id: JobId) -> int | None:
        self.asked.append("position")
        return 1


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def texts(store: FakeStore) -> EventTexts:
    hub: Any = SimpleNamespace(listen=lambda _listener: None)
    typed: Any = store
    return EventTexts(Feed(hub, typed, foreign_ahead=lambda: 2))


def stored(event: JobEvent, seq: int = 1, *, volatile: bool = False) -> StoredEvent:
    return StoredEvent(seq=seq, event=event, volatile=volatile)


JOB_QUEUED = queued_event(JobId("j"), client="alice")


async def test_what_was_told_live_is_not_made_again_for_a_replay(store: FakeStore, texts: EventTexts) -> None:
    told = await texts.text(stored(JOB_QUEUED))
    assert '"queuePosition":3' in (told or "")
    assert await texts.past_text(stored(JOB_QUEUED)) == told
    assert store.asked == ["position"]


async def test_a_step_is_not_kept_for_it_has_the_place_of_another_event(texts: EventTexts) -> None:
    step = JobProgressed(job_id=JobId("j"), at=1, attempt=1, progress=0.5)
    assert '"workflow:progress"' in (await texts.text(stored(step, volatile=True)) or "")
    assert '"workflow:started"' in (await texts.past_text(stored(started(JOB))) or "")


async def test_an_event_without_a_word_is_remembered_too(store: FakeStore, texts: EventTexts) -> None:
    event = stored(CancelRequested(job_id=JobId("j"), at=1))
    assert await texts.text(event) is None
    assert await texts.past_text(event) is None
    assert await texts.text(stored(started(JOB), 2)) is not None
    assert store.asked == []


async def test_a_replay_leaves_what_the_live_streams_need(store: FakeStore, texts: EventTexts) -> None:
    await texts.text(stored(JOB_QUEUED, 9_999))
    for seq in range(KEPT + 1):
        assert await texts.past_text(stored(started(JOB), seq)) is not None
    await texts.past_text(stored(JOB_QUEUED, 9_999))
    assert store.asked == ["position"]


async def test_what_is_kept_has_a_bound(store: FakeStore, texts: EventTexts) -> None:
    for seq in range(KEPT + 1):
        await texts.text(stored(completed(JOB), seq))
    await texts.past_text(stored(completed(JOB), KEPT))
    assert len(store.asked) == KEPT + 1
    await texts.past_text(stored(completed(JOB), 0))
    assert len(store.asked) == KEPT + 2


async def test_a_job_that_was_forgotten_meanwhile_still_ends(store: FakeStore, texts: EventTexts) -> None:
    store.job = None
    text = await texts.text(stored(completed(JOB)))
    assert text is not None
    assert '"outputs":[],"duration":null' in text
