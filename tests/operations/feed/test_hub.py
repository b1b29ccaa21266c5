"""Fan-out of the event log: in order, bounded, from whichever process wrote it."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from comfy_mcp.domain.events import JobCancelled, StoredEvent
from comfy_mcp.domain.ids import JobId
from comfy_mcp.operations.feed.hub import COMMITS_KEPT, READ_LIMIT, Hub, Subscription
from comfy_mcp.settings import load_settings
from comfy_mcp.store import Store
from tests.support.fake_log import FakeLog, running, stored, take
from tests.support.jobs import GRAPH, queued_event


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


async def test_a_subscription_to_ends_hears_nothing_else() -> None:
    log = FakeLog()
    end = StoredEvent(seq=2, event=JobCancelled(job_id=JobId("a"), at=2, attempt=1))
    async with running(log) as hub:
        with (
            hub.subscribe(job_id=JobId("a"), only_ends=True) as one,
            hub.subscribe(only_ends=True) as all_jobs,
        ):
            log.commit(stored(1, "a"), end, stored(3, "b"))
            assert await take(one, 1) == [2]
            assert await take(all_jobs, 1) == [2]
            assert (list(one.waiting), list(all_jobs.waiting)) == ([], [])
            assert hub.subscribers == 2
        assert hub.subscribers == 0


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
    subscription = Subscription(10)
    subscription.offer(stored(1))
    subscription.end()
    assert subscription.ended
    assert await take(subscription, 1) == [1]
    subscription.offer(stored(2))
    assert await take(subscription, 1) == [2]
    async with asyncio.timeout(20):
        assert await subscription.changed() == []
