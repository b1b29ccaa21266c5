"""Input files on their way to the engine: nothing else waits for them, and nothing is lost with them."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from comfy_mcp.domain.deadlines import Deadline
from comfy_mcp.domain.errors import LimitExceeded, NotFound, StoreFault
from comfy_mcp.domain.events import EngineConnected, EngineDisconnected, FailureKind
from comfy_mcp.domain.ids import EngineId, JobId
from comfy_mcp.domain.job import JobStatus
from comfy_mcp.domain.needs import Equipment, Needs
from comfy_mcp.driving import errands
from comfy_mcp.driving.bringing import PATIENCE_S
from comfy_mcp.driving.claiming import MAX_UNSENT
from comfy_mcp.driving.containment import MAX_CONCLUDE_TRIES, RETRY_S
from tests.driving.conftest import GRAPH, WITH_FILE, House, posted
from tests.support.scripted_place import ScriptedPlace, unreachable

BRINGS = Needs(node_classes=("LoadImage", "SaveImage"), models=(), shape="", brings=True)


class Slow:
    """Preparations that last until the test says so. `stopped`: those that were cancelled."""

    def __init__(self, place: ScriptedPlace) -> None:
        self.under_way = 0
        self.stopped = 0
        self.fails: list[Exception] = []
        self._place = place
        self._go_on = asyncio.Event()
        place.bring = self.bring

    async def bring(self, graph: Mapping[str, Any]) -> Mapping[str, Any]:
        self.under_way += 1
        self._place.changed.set()
        try:
            await self._go_on.wait()
        except asyncio.CancelledError:
            self.stopped += 1
            raise
        finally:
            self.under_way -= 1
            self._place.changed.set()
        if self.fails:
            raise self.fails.pop(0)
        return {**graph, "brought": {"class_type": "Note", "inputs": {}}}

    def go_on(self) -> None:
        self._go_on.set()

    async def until(self, count: int) -> None:
        await self._place.until(lambda: self.under_way == count)


@pytest.fixture
def slow(place: ScriptedPlace) -> Slow:
    return Slow(place)


def pass_time(house: House, by_s: float) -> None:
    house.ahead_s += by_s
    for driver, _ in house.drivers:
        driver.work_arrived()


async def one_under_way(house: House, place: ScriptedPlace, slow: Slow, **more: Any) -> JobId:
    house.drive(place)
    job_id = await house.submit(WITH_FILE, needs=BRINGS, **more)
    await slow.until(1)
    return job_id


async def failed(house: House, job_id: JobId) -> tuple[JobStatus, FailureKind | None]:
    """How it ends while time flies."""
    async with asyncio.timeout(20):
        while not (await house.job(job_id)).is_final:
            pass_time(house, RETRY_S)
            await asyncio.sleep(0.01)
    job = await house.job(job_id)
    return job.status, job.failure.kind if job.failure else None


async def test_other_jobs_go_on_meanwhile(house: House, place: ScriptedPlace, slow: Slow) -> None:
    first = await one_under_way(house, place, slow)
    others = [await house.submit() for _ in range(3)]
    pass_time(house, PATIENCE_S)
    for number, job_id in enumerate(others, start=1):
        prompt = await posted(place, number)
        await place.start(prompt)
        await place.finish(prompt)
        assert (await house.final(job_id)).status is JobStatus.COMPLETED
    slow.go_on()
    prompt = await posted(place, 4)
    assert (await house.job(first)).prompt_id == prompt
    assert "brought" in place.pending[prompt]
    await place.finish(prompt)
    job = await house.final(first)
    assert (job.status, job.attempt) == (JobStatus.COMPLETED, 1)


async def test_files_that_are_there_at_once_keep_the_order(house: House, place: ScriptedPlace) -> None:
    first = await house.submit(WITH_FILE, needs=BRINGS)
    second = await house.submit()
    house.drive(place)
    await posted(place, 2)
    assert [(await house.job(each)).prompt_id for each in (first, second)] == place.posted


async def test_a_cancel_ends_it_at_once(house: House, place: ScriptedPlace, slow: Slow) -> None:
    job_id = await one_under_way(house, place, slow)
    await house.store.request_cancel(job_id, at=house.clock.now_ms(), reason=None)
    assert (await house.final(job_id)).status is JobStatus.CANCELLED
    await place.until(lambda: slow.stopped == 1)
    assert (place.posted, place.cancels) == ([], [])


async def test_its_queue_timeout_ends_it(house: House, place: ScriptedPlace, slow: Slow) -> None:
    job_id = await one_under_way(house, place, slow, queue_timeout_ms=60_000)
    pass_time(house, 61)
    job = await house.final(job_id)
    assert job.failure is not None
    assert (job.status, job.failure.kind) == (JobStatus.FAILED, FailureKind.TIMEOUT)
    assert Deadline.QUEUE.value in job.failure.message
    await place.until(lambda: slow.stopped == 1)
    assert (place.posted, place.cancels) == ([], [])


async def test_a_job_that_is_abandoned_needs_no_files(house: House, place: ScriptedPlace, slow: Slow) -> None:
    job_id = await one_under_way(house, place, slow)
    await house.store.abandon(job_id, at=house.clock.now_ms(), reason="enough")
    await place.until(lambda: slow.stopped == 1)
    assert (await house.job(job_id)).status is JobStatus.CANCELLED


async def test_they_are_bounded_and_jobs_without_files_pass(
    house: House, place: ScriptedPlace, slow: Slow
) -> None:
    house.drive(place)
    with_files = []
    for number in range(MAX_UNSENT + 2):
        with_files.append(await house.submit(WITH_FILE, needs=BRINGS))
        await slow.until(min(number + 1, MAX_UNSENT))
        pass_time(house, PATIENCE_S)
    other = await house.submit()
    prompt = await posted(place)
    assert (await house.job(other)).prompt_id == prompt
    assert slow.under_way == MAX_UNSENT
    assert [(await house.job(each)).attempt for each in with_files[MAX_UNSENT:]] == [0, 0]
    await place.finish(prompt)
    slow.go_on()
    for number in range(len(with_files)):
        await place.finish(await posted(place, number + 2))
    for each in with_files:
        assert (await house.final(each)).attempt == 1


async def test_the_next_process_brings_them_when_this_one_dies(
    house: House, place: ScriptedPlace, slow: Slow
) -> None:
    job_id = await one_under_way(house, place, slow)
    _, task = house.drivers[0]
    task.cancel()
    await asyncio.wait([task])
    assert slow.stopped == 1
    slow.go_on()
    house.drive(place, "another")
    await place.finish(await posted(place))
    job = await house.final(job_id)
    assert (job.status, job.attempt) == (JobStatus.COMPLETED, 2)
    assert len(place.posted) == 1


@pytest.mark.parametrize("fault", [unreachable(), StoreFault("The disk is away.", next_step="Wait.")])
async def test_what_may_pass_is_tried_again_after_a_pause(
    house: House, place: ScriptedPlace, slow: Slow, fault: Exception
) -> None:
    slow.fails = [fault] * (MAX_CONCLUDE_TRIES - 1)
    slow.go_on()
    house.drive(place)
    job_id = await house.submit(WITH_FILE)
    for tries in range(1, MAX_CONCLUDE_TRIES):
        await place.until(lambda count=tries: len(place.prepared) == count and not slow.under_way)  # type: ignore[misc]
        assert place.posted == []
        pass_time(house, RETRY_S)
    await place.finish(await posted(place))
    assert (await house.final(job_id)).attempt == 1
    assert len(place.prepared) == MAX_CONCLUDE_TRIES


async def test_nothing_is_tried_while_the_engine_is_away(
    house: House, place: ScriptedPlace, slow: Slow
) -> None:
    slow.fails = [unreachable()]
    job_id = await one_under_way(house, place, slow)
    await place.say(EngineDisconnected(reason="scripted"))
    slow.go_on()
    await slow.until(0)
    pass_time(house, 100 * RETRY_S)
    await place.until(lambda: not slow.fails)
    assert len(place.prepared) == 1
    await place.say(EngineConnected(sid="again"))
    pass_time(house, RETRY_S)
    await place.finish(await posted(place))
    assert (await house.final(job_id)).attempt == 1


async def test_files_that_never_get_there_end_it_as_a_missing_input(
    house: House, place: ScriptedPlace, slow: Slow
) -> None:
    slow.fails = [unreachable()] * 100
    slow.go_on()
    house.drive(place)
    job_id = await house.submit(WITH_FILE)
    assert await failed(house, job_id) == (JobStatus.FAILED, FailureKind.MISSING_INPUT)
    job = await house.job(job_id)
    assert job.failure is not None
    assert job.failure.message.startswith("The input files could not be put on the engine. The engine does")
    assert len(place.prepared) == MAX_CONCLUDE_TRIES * house.settings.max_attempts


async def test_no_preparation_lasts_for_ever(
    house: House, place: ScriptedPlace, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errands, "BRING_LIMIT_S", 0.0)
    house.drive(place)
    job_id = await house.submit(WITH_FILE)
    assert await failed(house, job_id) == (JobStatus.FAILED, FailureKind.MISSING_INPUT)
    failure = (await house.job(job_id)).failure
    assert failure is not None
    assert "not there within" in failure.message


async def test_a_file_that_is_gone_ends_it_at_once(house: House, place: ScriptedPlace, slow: Slow) -> None:
    slow.fails = [NotFound("It is gone.", next_step="Give it again.")]
    slow.go_on()
    house.drive(place)
    job = await house.final(await house.submit(WITH_FILE))
    assert job.failure is not None
    assert (job.failure.kind, job.failure.message) == (
        FailureKind.MISSING_INPUT,
        "It is gone. Give it again.",
    )
    assert (job.attempt, job.refused_by, place.posted) == (1, (), [])


@pytest.mark.parametrize("another", [True, False])
async def test_a_file_that_is_too_large_for_this_engine_may_suit_another(
    house: House, place: ScriptedPlace, slow: Slow, another: bool
) -> None:
    for name in ("engine-1", "engine-2") if another else ("engine-1",):
        house.fleet.enter(
            EngineId(name),
            equipment=lambda name=name: Equipment(engine=EngineId(name)),  # type: ignore[misc]
            is_there=lambda: True,
            driven_here=lambda: True,
        )
    slow.fails = [LimitExceeded("It is too large.", next_step="Raise it.")]
    slow.go_on()
    house.drive(place)
    job_id = await house.submit(WITH_FILE, needs=BRINGS)
    if another:
        job = await house.until(job_id, lambda job: job.refused_by == (place.engine,))
        assert job.status is JobStatus.QUEUED
        await house.store.request_cancel(job_id, at=house.clock.now_ms(), reason=None)
    assert (await house.final(job_id)).status is (JobStatus.CANCELLED if another else JobStatus.FAILED)
    assert place.posted == []


async def test_another_engine_behind_the_address_gets_the_files_again(
    house: House, place: ScriptedPlace
) -> None:
    driver, _ = house.drive(place)
    running = [await house.submit(GRAPH) for _ in range(house.settings.pipeline_depth)]
    await posted(place, len(running))
    slow = Slow(place)
    # There is no room, so it waits with its files; a job ends only after the engine has come back.
    await place.finish(place.posted[0])
    job_id = await house.submit(WITH_FILE)
    await slow.until(1)
    await house.submit()
    pass_time(house, PATIENCE_S)
    await posted(place, len(running) + 1)
    slow.go_on()
    await place.until(lambda: not slow.under_way)
    tenure = driver._tenure
    assert tenure is not None
    assert tenure._bringing.next_ready(tenure._hearing.connection) is not None
    await place.reconnect()  # from here on, though the tenure may be waiting for the store
    assert tenure._bringing.next_ready(tenure._hearing.connection) is None
    await place.until(lambda: len(place.prepared) == 2)
    for prompt in list(place.pending):
        await place.finish(prompt)
    await place.finish(await posted(place, len(running) + 2))
    assert (await house.final(job_id)).attempt == 1


async def test_an_engine_that_leaves_still_gets_what_is_on_its_way_and_nothing_else(
    house: House, place: ScriptedPlace, slow: Slow
) -> None:
    first = await one_under_way(house, place, slow)
    ((driver, _),) = house.drivers
    driver.leaving = True
    behind = await house.submit()
    pass_time(house, PATIENCE_S)
    slow.go_on()
    await place.finish(await posted(place, 1))
    assert (await house.final(first)).status is JobStatus.COMPLETED
    assert (driver.in_flight, (await house.job(behind)).prompt_id) == (0, None)
    driver.leaving = False
    driver.work_arrived()
    await place.finish(await posted(place, 2))
    assert (await house.final(behind)).status is JobStatus.COMPLETED


async def test_the_jobs_of_an_engine_that_is_lost_are_queued_again(
    house: House, place: ScriptedPlace
) -> None:
    house.drive(place)
    job_id = await house.submit()
    first = await posted(place, 1)
    ((driver, _),) = house.drivers
    driver.hand_back("Engine a was removed and does not answer.")
    assert await posted(place, 2)
    job = await house.job(job_id)
    assert (job.status, job.attempt, job.prompt_id == first) == (JobStatus.QUEUED, 2, False)
