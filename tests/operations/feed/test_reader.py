"""The log from a place on: whatever interleaves, no gap and no duplicate."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.access import DEFAULT_KEY_RIGHTS
from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.domain.events import JobProgressed, JobStarted, StoredEvent
from comfy_mcp.domain.ids import ClientId, JobId
from comfy_mcp.operations.context import Caller
from comfy_mcp.operations.feed.hub import Subscription
from comfy_mcp.operations.feed.reader import Reader

HIDDEN = "hidden"
"""A job that the reader's caller may not see."""


ME = Caller(client=ClientId("me"), surface="test", rights=DEFAULT_KEY_RIGHTS)


class FakeLog:
    """A log in memory. `hand_out` is what the hub does, some time after the commit."""

    def __init__(self) -> None:
        self.events: list[StoredEvent] = []
        self.last_steps: list[StoredEvent] = []
        self.faults = 0
        self.seq = 0
        self.asked = asyncio.Event()
        self.free = asyncio.Event()
        self.free.set()

    def commit(self, job: str = "a") -> StoredEvent:
        seq = self.events[-1].seq + 2 if self.events else 1  # gaps are normal
        stored = StoredEvent(seq=seq, event=JobStarted(job_id=JobId(job), at=seq, attempt=1))
        self.events.append(stored)
        return stored

    async def events_after(
        self, seq: int, *, job_id: JobId | None = None, client: ClientId | None = None, limit: int
    ) -> list[StoredEvent]:
        self.asked.set()
        await self.free.wait()
        if self.faults:
            self.faults -= 1
            raise StoreFault("locked", next_step="wait")
        return [
            stored
            for stored in self.events
            if stored.seq > seq and (job_id is None or stored.event.job_id == job_id)
        ][:limit]

    async def may_follow(self, job_id: JobId, _caller: Caller) -> bool:
        await self.free.wait()
        return job_id != HIDDEN

    def steps(self, _job_id: JobId | None) -> list[StoredEvent]:
        return self.last_steps

    async def last_seq(self) -> int:
        return self.events[-1].seq if self.events else 0


def reader_of(log: FakeLog, subscription: Subscription, cursor: int, job: str | None = None) -> Reader:
    """Of a caller that may see all jobs but `hidden` ones."""
    log.seq = cursor
    typed: Any = log
    return Reader(
        typed, typed, subscription, ME, job_id=JobId(job) if job else None, may_follow=log.may_follow
    )


async def past_of(reader: Reader, since: int, job: str | None = None) -> list[int]:
    seqs: list[int] = []
    while page := await reader.past(ME, since, reader.cursor, JobId(job) if job else None):
        since = page[-1].seq
        seqs += [stored.seq for stored in page]
    return seqs


@given(
    steps=st.lists(st.sampled_from(["commit", "commit hidden", "hand out", "read"]), max_size=60),
    before=st.integers(0, 9),
    since=st.integers(0, 20),
    buffer=st.integers(1, 4),
    page=st.integers(1, 3),
)
async def test_past_and_news_are_the_log_in_order_and_once(
    steps: list[str], before: int, since: int, buffer: int, page: int
) -> None:
    log = FakeLog()
    for _ in range(before):
        log.commit()
    handed_out = before // 2  # the hub lags behind
    subscription = Subscription(buffer)
    reader = reader_of(log, subscription, cursor=log.events[handed_out - 1].seq if handed_out else 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("comfy_mcp.operations.feed.reader.PAGE", page)
        floor = since if await reader.known(since) else reader.cursor
        told = await past_of(reader, since)

        async def read() -> None:
            for stored in await reader.news():
                if stored.seq > floor:
                    told.append(stored.seq)
                reader.passed(stored)

        for step in steps:
            if step.startswith("commit"):
                log.commit(HIDDEN if step == "commit hidden" else "a")
            elif step == "hand out" and handed_out < len(log.events):
                subscription.offer(log.events[handed_out])
                handed_out += 1
            elif step == "read" and any(
                stored.seq > reader.cursor and stored.event.job_id != HIDDEN
                for stored in log.events[:handed_out]
            ):
                await read()
        for stored in log.events[handed_out:]:
            subscription.offer(stored)
        subscription.end()
        while log.events and reader.cursor < log.events[-1].seq:
            await read()
    shown = [stored for stored in log.events if stored.event.job_id != HIDDEN]
    assert told == [stored.seq for stored in shown if stored.seq > floor]


async def test_a_past_ends_where_the_news_begin() -> None:
    log = FakeLog()
    for _ in range(3):
        log.commit()
    reader = reader_of(log, Subscription(9), cursor=3)
    assert await past_of(reader, 0) == [1, 3]
    assert await past_of(reader, 3) == []
    assert await past_of(reader, 99) == []


async def test_what_was_dropped_of_one_job_is_read_of_that_job_alone() -> None:
    log, subscription = FakeLog(), Subscription(1)
    reader = reader_of(log, subscription, cursor=0, job="a")
    for job in "aba":
        subscription.offer(log.commit(job))
    before = subscription.overflowed
    assert [stored.seq for stored in await reader.news()] == [1]
    assert (before, subscription.overflowed) == (True, False)
    reader.cursor = 1
    assert [stored.seq for stored in await reader.news()] == [5]


@pytest.mark.parametrize("cause", ["fault", "cancel"])
async def test_a_look_at_the_log_that_fails_loses_nothing(cause: str) -> None:
    log, subscription = FakeLog(), Subscription(1)
    reader = reader_of(log, subscription, cursor=0)
    subscription.offer(log.commit())
    subscription.offer(log.commit())
    if cause == "fault":
        log.faults = 1
        with pytest.raises(StoreFault):
            await reader.news()
    else:
        log.free.clear()
        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(reader.news())
            await log.asked.wait()
            looking.cancel()
        log.free.set()
    seqs: list[int] = []
    while len(seqs) < 2:
        news = await reader.news()
        reader.cursor = news[-1].seq
        seqs += [stored.seq for stored in news]
    assert seqs == [1, 3]


async def test_what_is_hidden_is_passed_with_what_is_shown_before_it() -> None:
    log, subscription = FakeLog(), Subscription(9)
    reader = reader_of(log, subscription, cursor=0)
    for job in ("a", HIDDEN, "a", HIDDEN):
        subscription.offer(log.commit(job))
    for stored in await reader.news():
        reader.passed(stored)
    assert reader.cursor == log.events[-1].seq
    assert await past_of(reader, 0) == [1, 5]
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(reader.news())
        subscription.offer(log.commit(HIDDEN))
        while reader.cursor < log.events[-1].seq:
            await asyncio.sleep(0)
        assert not waiting.done()
        subscription.offer(log.commit())
    assert [stored.seq for stored in waiting.result()] == [11]


async def test_a_past_of_hidden_events_goes_on_to_what_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("comfy_mcp.operations.feed.reader.PAGE", 2)
    log = FakeLog()
    for job in (HIDDEN, HIDDEN, HIDDEN, "a", HIDDEN):
        log.commit(job)
    reader = reader_of(log, Subscription(9), cursor=9)
    assert await past_of(reader, 0) == [7]


async def test_a_reader_of_the_newest_is_told_what_it_lost_and_reads_no_log() -> None:
    log, subscription = FakeLog(), Subscription(2)
    reader = reader_of(log, subscription, cursor=0)
    for job in ("a", "a", HIDDEN):
        subscription.offer(log.commit(job))
    log.free.clear()
    async with asyncio.TaskGroup() as tasks:
        leaving = tasks.create_task(reader.newest())
        await asyncio.sleep(0)
        leaving.cancel()
    log.free.set()
    events, lost = await reader.newest()
    assert ([stored.seq for stored in events], lost) == ([3], True)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(reader.newest())
        subscription.offer(log.commit(HIDDEN))
        await asyncio.sleep(0)
        subscription.offer(log.commit())
    events, lost = waiting.result()
    assert ([stored.seq for stored in events], lost) == ([9], False)
    assert not log.asked.is_set()
    reader.end()
    assert await reader.newest() == ([], False)


async def test_an_ended_reader_brings_what_is_left_and_then_nothing() -> None:
    log, subscription = FakeLog(), Subscription(9)
    reader = reader_of(log, subscription, cursor=0)
    subscription.offer(log.commit())
    reader.end()
    assert [stored.seq for stored in await reader.news()] == [1]
    assert await reader.news() == []
    assert reader.ended


@pytest.mark.parametrize(
    ("since", "known"), [(0, True), (1, True), (3, True), (5, True), (6, False), (2**62, False)]
)
async def test_a_place_is_known_if_the_log_has_got_so_far(since: int, known: bool) -> None:
    log = FakeLog()
    for _ in range(3):
        log.commit()
    reader = reader_of(log, Subscription(9), cursor=3)
    assert await reader.known(since) is known


def step(seq: int) -> StoredEvent:
    event = JobProgressed(job_id=JobId("a"), at=1, attempt=1, progress=0.5)
    return StoredEvent(seq=seq, event=event, volatile=True)


async def test_a_step_that_displaced_events_of_its_own_place_loses_none_of_them() -> None:
    log = FakeLog()
    subscription = Subscription(1)
    reader = reader_of(log, subscription, cursor=0)
    for _ in range(2):
        subscription.offer(log.commit())
    subscription.offer(step(3))
    assert [each.seq for each in await reader.news()] == [1, 3]
    reader.cursor = 3
    assert await reader.news() == [step(3)]


async def test_the_last_steps_are_told_at_the_place_that_the_reader_has_reached() -> None:
    log = FakeLog()
    reader = reader_of(log, Subscription(1), cursor=5)
    log.last_steps = [step(3), step(7)]
    assert await reader.steps(ME, 5, None) == [step(5)], "the other one is among the news"
    assert await reader.steps(ME, 5, None, besides=log.last_steps[:1]) == []
    assert await reader.steps(ME, 4, None) == [step(4)], "a replay that ends earlier"


async def test_a_step_that_is_among_the_news_is_not_told_at_the_end_of_a_replay_too() -> None:
    """It has the place of the event before it: the place does not say which of the two tells it."""
    log, subscription = FakeLog(), Subscription(9)
    reader = reader_of(log, subscription, cursor=5)
    news = step(5)
    log.last_steps = [news]
    subscription.offer(news)
    assert await reader.steps(ME, 5, None) == [], "it waits in the buffer"
    assert await reader.news() == [news]
    assert await reader.steps(ME, 5, None) == [], "it is in the hands of who tells the news"
    reader.passed(news)
    assert await reader.steps(ME, 5, None) == [news]
