"""Who drives: one holder at a time, fenced when it oversleeps, and never stopped by a store that fails."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from comfy_mcp.domain.catalog import Output
from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.domain.events import CancelRequested, EngineConnected, JobEvent, NodeProgressed, StoredEvent
from comfy_mcp.domain.ids import JobId, NodeId
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.domain.prompt import PromptEnding, PromptResult
from comfy_mcp.places.protocol import Hear
from comfy_mcp.store import Lease, Store
from tests.driving.conftest import House
from tests.support.scripted_place import ScriptedPlace


class FaultyStore:
    """The house's store, with faults where a test wants them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.refused_records = 0
        self.refused_claims = 0
        self.refused_leases = 0
        self.asleep = False
        self.broken_adopts = 0
        self.no_durations = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def record(
        self, lease: Lease, job_id: JobId, events: Sequence[JobEvent], *, outputs: Sequence[Output] = ()
    ) -> Job:
        if self.refused_records:
            self.refused_records -= 1
            raise StoreFault("The disk is full.", next_step="Make room.")
        return await self._store.record(lease, job_id, events, outputs=outputs)

    async def record_and_claim(self, job_id: JobId, events: Sequence[JobEvent], **given: Any) -> Any:
        if self.refused_records:
            self.refused_records -= 1
            raise StoreFault("The disk is full.", next_step="Make room.")
        return await self._store.record_and_claim(job_id, events, **given)

    async def claim_next(self, lease: Lease, **given: Any) -> Any:
        if self.refused_claims:
            self.refused_claims -= 1
            raise StoreFault("The disk is full.", next_step="Make room.")
        return await self._store.claim_next(lease, **given)

    async def acquire_lease(self, engine: Any, holder: str, ttl_s: float) -> Lease | None:
        if self.refused_leases:
            self.refused_leases -= 1
            raise StoreFault("locked", next_step="Wait.")
        return await self._store.acquire_lease(engine, holder, ttl_s)

    async def adopt(self, lease: Lease) -> Any:
        if self.broken_adopts:
            self.broken_adopts -= 1
            raise ZeroDivisionError("a defect")
        return await self._store.adopt(lease)

    async def node_durations(self, class_types: Any) -> Any:
        if self.no_durations:
            raise StoreFault("locked", next_step="Wait.")
        return await self._store.node_durations(class_types)

    async def renew_lease(self, lease: Lease, ttl_s: float) -> None:
        if self.asleep:
            await asyncio.Event().wait()
        await self._store.renew_lease(lease, ttl_s)


def with_store(house: House, store: FaultyStore) -> House:
    faulty = House(store, house.hub, house.settings, house.group)  # type: ignore[arg-type]
    faulty.drivers = house.drivers
    return faulty


def short_lease(house: House) -> None:
    house.settings = house.settings.model_copy(update={"lease_ttl_s": 1})


async def test_only_one_of_two_processes_drives_and_the_other_follows(
    house: House, place: ScriptedPlace
) -> None:
    short_lease(house)
    first, first_task = house.drive(place, holder="first")
    await place.until(lambda: first.driving)
    second_place = ScriptedPlace()
    second, _ = house.drive(second_place, holder="second")
    job_id = await house.submit()
    await place.until(lambda: bool(place.posted))
    assert not second.driving
    first_task.cancel()
    await asyncio.wait([first_task])
    second_place.running[place.posted[0]] = {}  # both places speak to the same engine
    await second_place.until(lambda: second_place.lookups > 0)
    second_place.end_silently(place.posted[0])
    assert (await house.final(job_id)).status is JobStatus.COMPLETED
    assert second_place.posted == []


async def test_a_holder_that_overslept_its_lease_is_fenced_and_stops(
    house: House, place: ScriptedPlace
) -> None:
    short_lease(house)
    sleepy = FaultyStore(house.store)
    first, _ = with_store(house, sleepy).drive(place, holder="sleepy")
    job_id = await house.submit()
    await place.until(lambda: bool(place.posted))
    sleepy.asleep = True
    second_place = ScriptedPlace()
    second_place.running[place.posted[0]] = {}
    house.drive(second_place, holder="awake")
    await house.until(job_id, lambda job: job.status is JobStatus.RUNNING)  # the new holder wrote that
    await _until(lambda: not first.driving)  # its next write was refused
    second_place.end_silently(place.posted[0])
    assert (await house.final(job_id)).status is JobStatus.COMPLETED
    assert second_place.posted == []


async def test_a_store_that_refuses_writes_for_a_while_loses_no_end(
    house: House, place: ScriptedPlace
) -> None:
    faulty = FaultyStore(house.store)
    faulty.refused_claims = 1
    with_store(house, faulty).drive(place)
    job_id = await house.submit()
    await place.until(lambda: bool(place.posted))
    faulty.refused_records = 2
    await place.start(place.posted[0])
    await place.finish(place.posted[0])
    job = await house.final(job_id)
    assert (job.status, job.output_count) == (JobStatus.COMPLETED, 1)
    assert faulty.refused_records == 0
    assert len(place.posted) == 1


@pytest.mark.usefixtures("_no_polls")
async def test_an_end_that_the_store_refuses_is_kept_and_not_asked_for_again(
    house: House, place: ScriptedPlace
) -> None:
    faulty = FaultyStore(house.store)
    with_store(house, faulty).drive(place)
    job_id = await house.submit()
    await place.until(lambda: bool(place.posted))
    faulty.refused_records = 1
    await place.finish(place.posted[0])
    await place.until(lambda: place.lookups == 1)
    place.history.clear()
    job = await house.final(job_id)
    assert (job.status, job.output_count, place.lookups) == (JobStatus.COMPLETED, 1, 1)


async def test_a_cancel_that_comes_while_the_start_is_written_is_not_forgotten(
    house: House, place: ScriptedPlace
) -> None:
    """The store's answer to the write is older than the request."""

    class SlowToAnswer(FaultyStore):
        wrote = asyncio.Event()
        answers = asyncio.Event()

        async def record(self, *given: Any, **more: Any) -> Job:
            job = await super().record(*given, **more)
            self.wrote.set()
            await self.answers.wait()
            return job

    store = SlowToAnswer(house.store)
    driver, _ = with_store(house, store).drive(place, listen=False)
    job_id = await house.submit()
    driver.work_arrived()
    await place.until(lambda: bool(place.posted))
    await place.start(place.posted[0])
    async with asyncio.timeout(20):
        await store.wrote.wait()
    await house.store.request_cancel(job_id, at=1, reason=None)
    driver.hear(StoredEvent(seq=1, event=CancelRequested(job_id=job_id, at=1)))
    place.on_cancel = lambda _prompt: None
    store.answers.set()
    await place.until(lambda: bool(place.cancels))
    await place.finish(place.posted[0], PromptResult(ending=PromptEnding.INTERRUPTED, outputs=()))
    assert (await house.final(job_id)).status is JobStatus.CANCELLED


async def test_a_claimed_job_is_followed_even_if_nothing_is_known_of_its_durations(
    house: House, place: ScriptedPlace
) -> None:
    faulty = FaultyStore(house.store)
    faulty.no_durations = True
    with_store(house, faulty).drive(place)
    job_id = await house.submit()
    await place.until(lambda: bool(place.posted))
    await place.finish(place.posted[0])
    assert (await house.final(job_id)).status is JobStatus.COMPLETED


async def test_a_lease_that_can_not_be_asked_for_is_asked_for_again(
    house: House, place: ScriptedPlace
) -> None:
    short_lease(house)
    faulty = FaultyStore(house.store)
    faulty.refused_leases = 2
    driver, _ = with_store(house, faulty).drive(place)
    await place.until(lambda: driver.driving)
    assert faulty.refused_leases == 0


async def test_a_defect_in_a_tenure_ends_that_tenure_only(house: House, place: ScriptedPlace) -> None:
    short_lease(house)
    faulty = FaultyStore(house.store)
    faulty.broken_adopts = 1
    with_store(house, faulty).drive(place)
    job_id = await house.submit()
    await place.until(lambda: bool(place.posted))
    await place.finish(place.posted[0])
    assert (await house.final(job_id)).status is JobStatus.COMPLETED


async def test_the_stream_of_what_is_in_flight_is_followed_until_it_is_over(
    house: House, place: ScriptedPlace
) -> None:
    """Also by who takes over, though nothing but the store tells where the engine sends its events."""
    _, task = house.drive(place)
    job_id = await house.submit()
    await place.until(lambda: bool(place.posted))
    prompt = place.posted[0]
    await place.start(prompt)
    task.cancel()
    await asyncio.wait([task])

    successor = ScriptedPlace(str(place.engine))
    successor.running, successor.pending, successor.history = place.running, place.pending, place.history
    _, task = house.drive(successor, "another")
    await successor.until(lambda: successor.followed == {place.stream_id})
    await successor.say(NodeProgressed(prompt_id=prompt, node=NodeId("2"), value=1, maximum=2))
    moved = await house.until(job_id, lambda job: job.progress > 0.5)
    assert moved.status is JobStatus.RUNNING
    await successor.finish(prompt)
    assert (await house.final(job_id)).status is JobStatus.COMPLETED
    await successor.until(lambda: successor.followed == set())


async def test_the_lease_is_given_back_at_once_when_a_process_ends(
    house: House, place: ScriptedPlace
) -> None:
    driver, task = house.drive(place)
    await place.until(lambda: driver.driving)
    task.cancel()
    await asyncio.wait([task])
    lease = await house.store.lease_of(place.engine)
    assert lease is not None
    assert not lease.live


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


async def test_a_driver_that_is_cancelled_as_its_tenure_fails_ends(house: House) -> None:
    """What a group of tasks raises then is the failure, and not that it was cancelled."""
    driven: list[asyncio.Task[None]] = []

    class Fails(ScriptedPlace):
        async def run(self, hear: Hear) -> None:
            hear(EngineConnected(sid="scripted"))
            await self.until(lambda: bool(driven))
            driven[0].cancel()
            raise RuntimeError("a defect in that moment")

    place = Fails()
    _, task = house.drive(place)
    driven.append(task)
    place.changed.set()
    done, _ = await asyncio.wait({task}, timeout=20)
    assert done == {task}
