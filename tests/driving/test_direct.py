"""A submit that is written, claimed and sent in one go, where there is room and nobody waits."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from comfy_mcp.domain.errors import LimitExceeded, ShuttingDown
from comfy_mcp.domain.graph import parse_graph
from comfy_mcp.domain.graph_checks import check_graph
from comfy_mcp.domain.ids import JobId
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.driving.checked import Checked
from comfy_mcp.driving.direct import Added, DirectSubmits
from comfy_mcp.driving.driver import Driver
from comfy_mcp.driving.tenure import Tenure
from comfy_mcp.store import Claim, ClaimOffer, Submission
from tests.driving.conftest import GRAPH, House
from tests.driving.test_thrift import counted
from tests.support.jobs import queued_event, submission
from tests.support.scripted_place import ScriptedPlace

PARSED = parse_graph(GRAPH)
CHECKED = Checked(graph=PARSED, report=check_graph(PARSED, None))


async def driver_of(house: House, place: ScriptedPlace) -> tuple[Driver, asyncio.Task[None]]:
    driver, task = house.drive(place)
    await place.until(lambda: driver.connected)
    return driver, task


Written = tuple[Job, int, Claim | None]
Write = Callable[[Submission, ClaimOffer], Awaitable[Written]]


class SlowStore:
    """A store whose writes are waited for: `write` is what happens meanwhile."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def add_and_claim_now(self, submission: Submission, offer: ClaimOffer | None) -> None:
        return None

    async def add_and_claim(self, submission: Submission, offer: ClaimOffer) -> Written:
        return await self._write(submission, offer)


class WrittenStore:
    """A store that has written the job already."""

    def __init__(self, written: Written) -> None:
        self._written = written

    def add_and_claim_now(self, submission: Submission, offer: ClaimOffer | None) -> Written:
        return self._written


def new_job() -> JobId:
    return JobId(str(uuid4()))


def reserve(house: House, driver: Driver) -> tuple[Tenure, ClaimOffer, Submission, Checked]:
    job_id = new_job()
    reserved = driver.reserve(job_id)
    assert reserved is not None
    event = queued_event(job_id, at=house.clock.now_ms())
    return *reserved, submission(event), CHECKED


async def submit(house: House, driver: Driver, write: Write | None = None) -> Job:
    store: Any = house.store if write is None else SlowStore(write)
    job, _ = await DirectSubmits(house.group, store).submit(*reserve(house, driver))
    return job


async def test_where_there_is_room_the_job_is_claimed_as_it_is_written(
    house: House, place: ScriptedPlace
) -> None:
    store = counted(house)
    driver, _ = await driver_of(house, place)
    job = await submit(house, driver)
    assert job.prompt_id is not None
    await place.until(lambda: place.posted == [job.prompt_id])
    await place.start(job.prompt_id)
    await place.finish(job.prompt_id)
    assert (await house.final(job.id)).status is JobStatus.COMPLETED
    assert await house.event_types(job.id) == ["queued", "claimed", "started", "completed"]
    assert not any(store.claims)  # none of them found it


async def test_the_engine_has_the_prompt_before_the_caller_has_its_answer(
    house: House, place: ScriptedPlace
) -> None:
    driver, _ = await driver_of(house, place)
    first = await submit(house, driver)  # with it the times of these nodes were read
    await place.until(lambda: place.posted == [first.prompt_id])
    await place.finish(place.posted[0])
    await house.final(first.id)
    async with asyncio.timeout(20):
        while not driver.has_room:
            await asyncio.sleep(0)
    tenure, offer, new, checked = reserve(house, driver)
    store: Any = WrittenStore(await house.store.add_and_claim(new, offer))
    job, _ = await DirectSubmits(house.group, store).submit(tenure, offer, new, checked)
    assert place.posted == [first.prompt_id, job.prompt_id]


async def test_whoever_waits_goes_first(house: House, place: ScriptedPlace) -> None:
    driver, _ = house.drive(place, listen=False)
    await place.until(lambda: driver.connected)
    waiting = await house.submit()  # the driver has not heard of it
    job = await submit(house, driver)
    assert job.prompt_id is None
    for count, job_id in enumerate((waiting, job.id), start=1):
        await place.until(lambda count=count: len(place.posted) == count)  # type: ignore[misc]
        assert (await house.job(job_id)).prompt_id == place.posted[-1]
        await place.finish(place.posted[-1])
        driver.work_arrived()
        await house.final(job_id)


async def test_nothing_else_is_claimed_while_a_place_is_reserved(house: House, place: ScriptedPlace) -> None:
    driver, _ = await driver_of(house, place)
    reserved = driver.reserve(new_job())
    assert reserved is not None
    assert driver.reserve(new_job()) is None
    reserved[0].give_up_reserved()
    assert driver.reserve(new_job()) is not None


async def test_without_a_connection_nothing_is_reserved(house: House, place: ScriptedPlace) -> None:
    place.down = True
    driver, _ = house.drive(place)
    assert driver.reserve(new_job()) is None
    await place.until(lambda: driver.driving)
    assert driver.reserve(new_job()) is None


async def test_a_caller_that_leaves_in_the_middle_changes_nothing(house: House, place: ScriptedPlace) -> None:
    driver, _ = await driver_of(house, place)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(submission: Submission, offer: ClaimOffer) -> Written:
        begun.set()
        await go_on.wait()
        return await house.store.add_and_claim(submission, offer)

    caller = house.group.create_task(submit(house, driver, slowly))
    await begun.wait()
    caller.cancel()
    go_on.set()
    await place.until(lambda: len(place.posted) == 1)
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_a_job_that_is_refused_gives_the_room_back(house: House, place: ScriptedPlace) -> None:
    driver, _ = await driver_of(house, place)

    async def refusing(_submission: Submission, _offer: ClaimOffer) -> Written:
        raise LimitExceeded("Too many.", next_step="Wait.")

    with pytest.raises(LimitExceeded):
        await submit(house, driver, refusing)
    tenure, offer, full, checked = reserve(house, driver)
    with pytest.raises(LimitExceeded):
        await DirectSubmits(house.group, house.store).submit(
            tenure, offer, replace(full, max_queued=0), checked
        )
    job = await submit(house, driver)
    await place.until(lambda: place.posted == [job.prompt_id])


async def test_a_tenure_that_ends_before_the_write_gets_no_job(house: House, place: ScriptedPlace) -> None:
    driver, task = await driver_of(house, place)

    async def after_the_end(submission: Submission, offer: ClaimOffer) -> Written:
        task.cancel()
        await asyncio.wait([task])
        return await house.store.add_and_claim(submission, offer)

    job = await submit(house, driver, after_the_end)
    assert job.prompt_id is None
    successor = ScriptedPlace()
    house.drive(successor, "another")
    await successor.until(lambda: len(successor.posted) == 1)
    await successor.finish(successor.posted[0])
    assert (await house.final(job.id)).attempt == 1


async def test_a_tenure_that_ends_after_the_write_leaves_the_job_to_the_next(
    house: House, place: ScriptedPlace
) -> None:
    driver, task = await driver_of(house, place)

    async def before_the_end(submission: Submission, offer: ClaimOffer) -> Written:
        added = await house.store.add_and_claim(submission, offer)
        task.cancel()
        await asyncio.wait([task])
        return added

    job = await submit(house, driver, before_the_end)
    assert job.prompt_id is not None
    assert place.posted == []
    successor = ScriptedPlace()
    house.drive(successor, "another")
    await successor.until(lambda: len(successor.posted) == 1)
    await successor.finish(successor.posted[0])
    assert (await house.final(job.id)).attempt == 2


async def test_a_process_that_stops_says_so(house: House, place: ScriptedPlace) -> None:
    driver, _ = await driver_of(house, place)
    hangs = asyncio.Event()

    async def hang(_submission: Submission, _offer: ClaimOffer) -> Written:
        hangs.set()
        await asyncio.Event().wait()
        raise AssertionError

    store: Any = SlowStore(hang)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        submitting = DirectSubmits(group, store).submit(*reserve(house, driver))
        caller = house.group.create_task(_refused(submitting))
        await hangs.wait()
        for task in asyncio.all_tasks():
            if task.get_name() == "direct submit":
                task.cancel()
    assert await caller


async def _refused(submitting: Awaitable[Added]) -> bool:
    with pytest.raises(ShuttingDown):
        await submitting
    return True
