"""Fan-out of the event log: in order, bounded, from whichever process wrote it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.domain.events import JobCompleted, JobProgressed, JobStarted, StoredEvent
from comfy_mcp.domain.ids import JobId, NodeId
from comfy_mcp.operations.feed import hub as module
from comfy_mcp.operations.feed.hub import COMMITS_KEPT, READ_LIMIT, Hub, Subscription
from comfy_mcp.settings import load_settings
from comfy_mcp.store import Store
from tests.support.jobs import GRAPH, queued_event


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


@profile(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("own"), st.integers(1, 3), st.integers(0, 1)),
            st.tuples(st.just("other"), st.integers(1, 3), st.integers(0, 1)),
            st.tuples(st.sampled_from(["fault", "turn", "turn", "many"]), st.just(0), st.just(0)),
        ),
        max_size=30,
    )
)
def test_whoever_writes_and_whatever_fails_each_event_is_told_once_and_in_order(
    happens: list[tuple[str, int, int]],
) -> None:
    """`own` and `other` commit so many events behind a gap; `many` is more than waits to be handed out."""

    async def follow() -> None:
        log = FakeLog()
        hub = Hub(log, poll_s=0.001)
        await hub.open()
        with hub.subscribe(buffer=10_000) as events:
            async with asyncio.TaskGroup() as group:
                running = group.create_task(hub.run())
                seq = 0
                for what, count, gap in happens:
                    match what:
                        case "turn":
                            await asyncio.sleep(0)
                        case "fault":
                            log.faults += 1
                        case "many":
                            for _ in range(COMMITS_KEPT + 2):
                                seq += 1
                                log.commit(stored(seq))
                        case _:
                            seqs = range(seq + gap + 1, seq + gap + count + 1)
                            log.commit(*map(stored, seqs), local=what == "own")
                            seq = seqs[-1]
                last = seq + 1
                log.commit(stored(last), local=False)
                expected = [event.seq for event in log.events]
                assert await take(events, len(expected)) == expected
                running.cancel()

    asyncio.run(follow())


async def test_what_this_process_commits_is_told_without_a_look_at_the_log() -> None:
    log = FakeLog()
    async with running(log, poll_s=60.0) as hub:
        with hub.subscribe() as events:
            log.commit(stored(1), stored(2))
            log.commit(stored(3))
            assert await take(events, 3) == [1, 2, 3]
            assert log.reads == 0
            log.commit(stored(4), local=False)
            log.commit(stored(5))
            assert await take(events, 2) == [4, 5]
            assert log.reads == 1


async def test_what_waited_for_the_log_is_handed_out_once_it_follows() -> None:
    log = FakeLog()
    hub = Hub(log, poll_s=60.0)
    await hub.open()
    async with asyncio.TaskGroup() as group:
        with hub.subscribe() as events:
            log.commit(stored(1), local=False)
            log.commit(stored(2))  # it waits for the first
            hub._hand_out(stored(1))
            task = group.create_task(hub.run())
            assert await take(events, 2) == [1, 2]
            assert log.reads == 0
            log.commit(stored(3))
            assert await take(events, 1) == [3]
        task.cancel()


@pytest.mark.parametrize("local", [True, False])
async def test_every_subscriber_gets_every_event_in_order(local: bool) -> None:
    log = FakeLog()
    log.commit(stored(1))
    async with running(log) as hub:
        with hub.subscribe() as one, hub.subscribe() as two:
            assert hub.subscribers == 2
            log.commit(*[stored(seq) for seq in range(2, READ_LIMIT + 200)], local=local)
            expected = list(range(2, READ_LIMIT + 200))
            assert await take(one, len(expected)) == expected
            assert await take(two, len(expected)) == expected
        assert hub.subscribers == 0


async def test_a_change_counter_that_can_not_be_asked_for_a_while_loses_nothing() -> None:
    log = FakeLog()
    async with running(log, poll_s=0.001) as hub:
        with hub.subscribe() as all_jobs:
            log.unknown = 3
            log.events.append(stored(1))  # by another process
            log.version += 1
            assert await take(all_jobs, 1) == [1]
            assert log.unknown == 0


async def test_a_subscription_to_one_job_hears_only_that_job() -> None:
    log = FakeLog()
    async with running(log) as hub:
        with hub.subscribe(job_id=JobId("b")) as only_b:
            log.commit(stored(1, "a"), stored(2, "b"), stored(3, "a"), stored(4, "b"))
            assert await take(only_b, 2) == [2, 4]


async def test_a_reader_that_is_too_slow_loses_the_oldest_and_is_told() -> None:
    log = FakeLog()
    async with running(log) as hub:
        with hub.subscribe(buffer=3) as slow, hub.subscribe() as quick:
            log.commit(*[stored(seq) for seq in range(1, 11)])
            assert await take(quick, 10) == list(range(1, 11))
            assert await take(slow, 3) == [8, 9, 10]
            assert (slow.overflowed, quick.overflowed) == (True, False)


async def test_a_log_that_can_not_be_read_for_a_while_loses_nothing() -> None:
    log = FakeLog()
    async with running(log) as hub:
        with hub.subscribe() as events:
            log.faults = 2
            log.commit(stored(1), stored(2))
            assert await take(events, 2) == [1, 2]


async def test_listeners_are_called_before_subscribers_wake() -> None:
    log = FakeLog()
    heard: list[int] = []
    hub = Hub(log, poll_s=0.01)
    hub.listen(lambda event: heard.append(event.seq))
    await hub.open()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(hub.run())
        with hub.subscribe() as events:
            log.commit(stored(1))
            await take(events, 1)
            assert heard == [1]
        task.cancel()


async def test_what_another_process_writes_is_heard_here(tmp_path: Path) -> None:
    settings = load_settings(state_dir=tmp_path)
    store, other = await Store.open(settings), await Store.open(settings)
    hub = Hub(store, poll_s=0.01)
    await hub.open()
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(hub.run())
            with hub.subscribe() as events:
                job, _ = await other.add_job(queued_event(), GRAPH, max_queued=10)
                async with asyncio.timeout(20):
                    (event,) = await events.changed()
                assert event.event.job_id == job.id
            task.cancel()
    finally:
        await other.close()
        await store.close()


async def test_a_subscription_brings_what_comes_after_the_place_that_the_hub_names() -> None:
    log = FakeLog()
    log.commit(stored(1), stored(2))
    hub = Hub(log, poll_s=0.01)
    await hub.open()
    assert hub.seq == 2
    with hub.subscribe() as events:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(hub.run())
            log.commit(stored(3))
            assert await take(events, 1) == [3]
            assert hub.seq == 3
            running.cancel()


async def test_each_event_that_a_slow_reader_loses_is_told() -> None:
    log, lost = FakeLog(), []
    hub = Hub(log, poll_s=0.01, on_drop=lambda: lost.append(1))
    await hub.open()
    with hub.subscribe(buffer=2) as slow, hub.subscribe(buffer=5) as quick:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(hub.run())
            log.commit(*(stored(seq) for seq in range(1, 6)))
            assert await take(quick, 5) == [1, 2, 3, 4, 5]
            running.cancel()
        assert slow.overflowed
        assert not quick.overflowed
    assert len(lost) == 3


async def test_a_subscription_that_was_ended_waits_no_more_but_loses_nothing() -> None:
    subscription = Subscription(None, 10)
    subscription.offer(stored(1))
    subscription.end()
    assert subscription.ended
    assert await take(subscription, 1) == [1]
    subscription.offer(stored(2))
    assert await take(subscription, 1) == [2]
    async with asyncio.timeout(20):
        assert await subscription.changed() == []


async def told(subscription: Subscription, count: int) -> list[StoredEvent]:
    found: list[StoredEvent] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found += await subscription.changed()
    return found


async def test_steps_come_between_the_events_with_the_place_that_they_came_at() -> None:
    log = FakeLog()
    async with running(log) as hub:
        with hub.subscribe() as events:
            log.commit(stored(1))
            log.step(0.1)
            log.step(0.2)
            log.commit(stored(2, "b"))
            log.step(0.3, "b")
            heard = await told(events, 5)
            assert [(each.seq, each.volatile) for each in heard] == [
                (1, False),
                (1, True),
                (1, True),
                (2, False),
                (2, True),
            ]
            assert log.reads == 0
            assert hub.steps(JobId("a")) == [heard[2]]
            assert hub.steps(None) == [heard[2], heard[4]]
            assert hub.steps(JobId("c")) == []
            log.commit(StoredEvent(seq=3, event=JobCompleted(job_id=JobId("a"), at=3, attempt=1)))
            await told(events, 1)
            assert hub.steps(JobId("a")) == []


async def test_a_step_that_is_told_again_when_it_is_written_is_told_once() -> None:
    log = FakeLog()
    async with running(log) as hub:
        with hub.subscribe() as events:
            log.step(0.1)
            log.step(0.1)
            log.commit(stored(1, "b"))
            assert [each.volatile for each in await told(events, 2)] == [True, False]


async def test_what_other_processes_write_of_progress_is_told_once_and_never_too_early() -> None:
    log = FakeLog()
    async with running(log, poll_s=0.001) as hub:
        with hub.subscribe() as events:
            log.others = [step(0.0, "waits"), step(0.5, at=7)]
            log.others[0] = replace(log.others[0], node_id=None)
            log.commit(stored(1), local=False)
            heard = await told(events, 2)
            assert [(each.seq, each.volatile) for each in heard] == [(1, False), (1, True)]
            log.others = [step(0.5, at=8), step(0.7, "b", at=9)]
            log.version += 1
            assert [each.event for each in await told(events, 1)] == [step(0.7, "b", at=9)]


async def test_a_step_that_was_read_before_its_jobs_end_is_not_told_after_it() -> None:
    log = FakeLog()
    async with running(log, poll_s=0.001) as hub:
        with hub.subscribe() as events:
            log.others = [step(0.5, "ends"), step(0.7, "b")]

            def the_job_ends() -> None:
                log.others = [step(0.7, "b")]
                log.commit(stored(2, "ends"))

            log.meanwhile = the_job_ends
            log.commit(stored(1, "ends"), local=False)
            heard = await told(events, 3)
    assert [(each.seq, each.event.job_id, each.volatile) for each in heard] == [
        (1, "ends", False), (2, "ends", False), (2, "b", True),
    ]  # fmt: skip


async def test_a_store_that_says_when_others_have_committed_is_not_asked_all_the_time() -> None:
    log = FakeLog()
    log.tells = True
    async with running(log, poll_s=0.001) as hub:
        with hub.subscribe() as events:
            log.others = [step(0.5, "b")]
            log.commit(stored(1), local=False)
            log.tell()
            assert [each.seq for each in await told(events, 2)] == [1, 1]
            reads, log.others = log.reads, [step(0.7, "b")]
            log.version += 1
            log.tell()
            log.tell()
            assert [each.event for each in await told(events, 1)] == [step(0.7, "b")]
            assert log.reads == reads + 1
            log.faults = 1
            log.commit(stored(2), local=False)
            log.tell()
            assert await take(events, 1) == [2]


async def test_an_event_does_not_wait_until_steps_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    log = FakeLog()
    log.tells = True
    async with running(log, poll_s=0.001) as hub:
        with hub.subscribe() as events:
            log.others = [step(0.5, "b")]
            log.commit(stored(1), local=False)
            log.tell()
            await told(events, 2)
            monkeypatch.setattr(module, "STEPS_S", 3_600.0)
            log.others = [step(0.7, "b")]
            log.commit(stored(2), local=False)
            log.tell()
            assert [each.seq for each in await told(events, 2)] == [2, 2]
            log.others = [step(0.8, "b")]
            for seq in (3, 4):
                log.commit(stored(seq), local=False)
                log.tell()
                assert [each.seq for each in await told(events, 1)] == [seq]
