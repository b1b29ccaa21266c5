"""A write that is refused, and a defect behind one: the job ends, and the others go on."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from comfy_mcp.domain.errors import ErrorCode, StoreFault
from comfy_mcp.domain.events import (
    JobEvent,
    JobFailed,
)
from comfy_mcp.domain.ids import JobId
from comfy_mcp.domain.job import JobStatus
from comfy_mcp.driving.attempt import Attempt
from comfy_mcp.driving.containment import RETRY_S
from comfy_mcp.driving.learning import Durations
from comfy_mcp.driving.ledger import Ledger
from comfy_mcp.driving.sizes import OutputSizes
from comfy_mcp.gpu import GpuUsage
from comfy_mcp.store import Lease, Store
from tests.driving.conftest import House, posted
from tests.driving.spoiled import INTERNAL, Defect, Spoiled, another_completes, ended


@pytest.fixture
def place() -> Spoiled:
    return Spoiled()


class Picky:
    """A store that raises at the calls that a test names."""

    def __init__(
        self, store: Store, refuses: Callable[[JobId, Sequence[JobEvent]], Exception | None]
    ) -> None:
        self._store = store
        self._refuses = refuses

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def record(self, lease: Lease, job_id: JobId, events: Sequence[JobEvent], **more: Any) -> Any:
        if (error := self._refuses(job_id, events)) is not None:
            raise error
        return await self._store.record(lease, job_id, events, **more)

    async def record_and_claim(self, job_id: JobId, events: Sequence[JobEvent], **more: Any) -> Any:
        if (error := self._refuses(job_id, events)) is not None:
            raise error
        return await self._store.record_and_claim(job_id, events, **more)


def refused() -> StoreFault:
    return StoreFault("A constraint.", next_step="", code=ErrorCode.INTERNAL)


def locked() -> StoreFault:
    return StoreFault("Somebody has it.", next_step="")


async def tenures(house: House) -> int:
    lease = await house.store.lease_of(house.drivers[0][0].engine)
    assert lease is not None
    return lease.fence


@pytest.mark.parametrize("error", [UnicodeError("half"), OverflowError("int too large"), refused()])
async def test_an_end_that_cant_be_written_gives_way_to_one_that_can(
    house: House, place: Spoiled, error: Exception
) -> None:
    store: Any = Picky(
        house.store,
        lambda job_id, events: error if job_id == bad and not isinstance(events[-1], JobFailed) else None,
    )
    house.store, real = store, house.store
    house.drive(place)
    house.store = real
    bad = await house.submit()
    prompt = await posted(place)
    await place.finish(prompt)
    assert await ended(house, bad) == INTERNAL
    await another_completes(house, place, posts=2)


async def test_a_store_that_is_locked_when_the_last_end_is_written_is_asked_again(
    house: House, place: Spoiled
) -> None:
    errors = [Defect(), locked()]

    def refuses(_job_id: JobId, events: Sequence[JobEvent]) -> Exception | None:
        if isinstance(events[-1], JobFailed):
            return errors.pop(0) if errors else None
        return Defect()

    store: Any = Picky(house.store, refuses)
    house.store, real = store, house.store
    house.drive(place)
    house.store = real
    bad = await house.submit()
    await place.finish(await posted(place))
    assert await ended(house, bad) == INTERNAL
    assert not errors
    assert await tenures(house) == 1


@pytest.mark.parametrize("error", [Defect(), refused()])
async def test_a_job_that_nothing_can_be_written_of_is_left_and_can_be_abandoned(
    house: House, place: Spoiled, error: Exception
) -> None:
    store: Any = Picky(house.store, lambda job_id, _events: error if job_id == bad else None)
    house.store, real = store, house.store
    house.drive(place)
    house.store = real
    bad = await house.submit()
    await place.finish(await posted(place))
    for _ in range(20):
        house.ahead_s += RETRY_S
        house.drivers[0][0].work_arrived()
        await asyncio.sleep(0.01)
    await another_completes(house, place, posts=2)
    assert await tenures(house) == 1
    job = await house.store.abandon(bad, at=5, reason="enough")
    assert job is not None
    assert job.status is JobStatus.CANCELLED


async def test_a_job_that_can_neither_be_prepared_nor_ended_is_left(house: House, place: Spoiled) -> None:
    bad = await house.submit()
    store: Any = Picky(house.store, lambda job_id, _events: refused() if job_id == bad else None)

    def spoil(connection: Any) -> None:
        connection.exec_driver_sql("UPDATE graphs SET graph = '{'")

    await house.store._writer.do(spoil)
    house.store, real = store, house.store
    house.drive(place)
    house.store = real
    await another_completes(house, place, posts=1)
    assert await tenures(house) == 1
    assert not (await house.job(bad)).is_final


async def test_a_record_that_cant_be_read_ends_its_job_and_the_others_are_adopted(
    house: House, place: Spoiled
) -> None:
    """A newer version, or a damaged page, left what this one can't decode."""
    driver, task = house.drive(place)
    bad, good = await house.submit(), await house.submit()
    await posted(place, 2)
    task.cancel()
    await asyncio.wait([task])
    house.drivers.remove((driver, task))

    def spoil(connection: Any) -> None:
        connection.exec_driver_sql("UPDATE jobs SET warnings = '{' WHERE id = ?", (bad,))

    await house.store._writer.do(spoil)
    driver, _ = house.drive(place, holder="another")
    await place.until(lambda: driver.connected)
    await place.finish(place.posted[1])
    assert await ended(house, good) == (JobStatus.COMPLETED, None)
    assert await ended(house, bad) == INTERNAL


async def test_a_job_that_is_abandoned_is_let_go_and_the_engine_is_not_asked(
    house: House, place: Spoiled
) -> None:
    house.drive(place)
    job_id = await house.submit()
    prompt = await posted(place)
    await place.start(prompt)
    await house.until(job_id, lambda job: job.status is JobStatus.RUNNING)
    await house.store.abandon(job_id, at=5, reason="enough")
    await place.finish(prompt)
    assert (await house.job(job_id)).status is JobStatus.CANCELLED
    assert await house.store.abandon(job_id, at=6, reason="again") is None
    assert place.cancels == []
    await another_completes(house, place, posts=2)


# ------------------------------------------------------------------------------------- behind a commit

BEHIND = [
    (Attempt, "written"),
    (Ledger, "let_go"),
    (GpuUsage, "forget"),
    (Durations, "observe"),
    (OutputSizes, "want"),
]


@pytest.mark.parametrize("is_lost", [False, True], ids=["its end", "its requeue"])
@pytest.mark.parametrize(("owner", "name"), BEHIND, ids=[name for _, name in BEHIND])
async def test_what_raises_behind_a_commit_loses_neither_a_job_nor_the_claim_that_came_with_it(
    house: House, place: Spoiled, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, is_lost: bool
) -> None:
    """For ever, from the moment at which the engine has done with the first prompt."""
    spoils = False
    original = getattr(owner, name)

    def spoil(*args: Any, **more: Any) -> Any:
        original(*args, **more)
        if spoils:
            raise Defect(name)

    monkeypatch.setattr(owner, name, spoil)
    house.drive(place)
    jobs = [await house.submit() for _ in range(6)]
    await posted(place, 2)
    spoils = True
    if is_lost:
        await place.restart()
    done = 2 if is_lost else 0
    async with asyncio.timeout(60):
        while not all([(await house.job(job_id)).is_final for job_id in jobs]):
            for prompt in place.posted[done:]:
                await place.start(prompt)
                await place.finish(prompt)
            done = len(place.posted)
            house.ahead_s += RETRY_S
            for driver, _ in house.drivers:
                driver.work_arrived()
            await asyncio.sleep(0.01)
    assert await tenures(house) == 1
