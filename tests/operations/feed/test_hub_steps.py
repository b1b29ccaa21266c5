"""Steps of progress: those of this process as they come, those of others read now and then."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from unittest.mock import patch

import pytest

from comfy_mcp.domain.events import JobCompleted, StoredEvent
from comfy_mcp.domain.ids import JobId
from comfy_mcp.operations.feed import hub as module
from comfy_mcp.operations.feed.hub import Subscription
from tests.support.fake_log import FakeLog, running, step, stored, take, told


@asynccontextmanager
async def following_others() -> AsyncIterator[tuple[FakeLog, Subscription]]:
    """A log that says when others have committed, and a subscriber that has an event and a step of theirs."""
    log = FakeLog()
    log.tells = True
    async with running(log, poll_s=0.001) as hub:
        with hub.subscribe() as events:
            log.others = [step(0.5, "b")]
            log.commit(stored(1), local=False)
            log.tell()
            assert [each.seq for each in await told(events, 2)] == [1, 1]
            yield log, events


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
    async with following_others() as (log, events):
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
    async with following_others() as (log, events):
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


async def test_a_hub_that_has_ended_looks_no_more_whatever_the_store_says() -> None:
    async with following_others() as (log, _):
        pass
    with patch.object(asyncio.get_running_loop(), "call_at") as later:
        log.tell()
    later.assert_not_called()
