"""Deadlines under a driver, running out of memory, and foreign prompts. The engine is scripted."""

import asyncio
from dataclasses import replace
from typing import Any
from uuid import uuid4

from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.domain.events import FailureKind, JobFailure, JobRequeued, PromptSucceeded, QueueRemaining
from comfy_mcp.domain.ids import JobId, PromptId
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.domain.prompt import PromptEnding, PromptResult
from comfy_mcp.driving.housekeeping import end_overdue_jobs
from tests.driving.conftest import GRAPH, House, posted
from tests.support.jobs import queued_event
from tests.support.scripted_place import ScriptedPlace, unreachable

OOM = JobFailure(kind=FailureKind.OOM, message="CUDA out of memory.")
OUT_OF_MEMORY = PromptResult(ending=PromptEnding.ERROR, outputs=(), failure=OOM)
SOON_MS = 60
ELECTED = asyncio.Event()
ELECTED.set()


async def submit(house: House, *, queue_ms: int | None = None, run_ms: int | None = None) -> JobId:
    event = replace(
        queued_event(JobId(str(uuid4())), at=house.clock.now_ms(), client="tester"),
        queue_timeout_ms=queue_ms,
        run_timeout_ms=run_ms,
    )
    job, _ = await house.store.add_job(event, GRAPH, max_queued=100)
    return job.id


def kind_of(job: Job) -> FailureKind | None:
    return job.failure.kind if job.failure is not None else None


# ------------------------------------------------------------------------------------------ deadlines


async def test_a_run_beyond_its_timeout_is_stopped_at_the_engine_and_fails_as_timeout(
    house: House, place: ScriptedPlace
) -> None:
    house.drive(place)
    job_id = await submit(house, run_ms=SOON_MS)
    prompt = await posted(place)
    await place.start(prompt)

    job = await house.final(job_id)

    assert (job.status, kind_of(job)) == (JobStatus.FAILED, FailureKind.TIMEOUT)
    assert place.cancels == [prompt]
    assert place.running == {}
    assert not job.cancel_requested


async def test_a_stop_for_a_deadline_that_gets_lost_is_repeated_until_it_takes(
    house: House, place: ScriptedPlace
) -> None:
    def deaf_twice(prompt_id: PromptId) -> None:
        if len(place.cancels) > 2:
            place.obey_cancel(prompt_id)

    place.on_cancel = deaf_twice
    house.drive(place)
    job_id = await submit(house, run_ms=SOON_MS)
    await place.start(await posted(place))

    job = await house.final(job_id)

    assert kind_of(job) is FailureKind.TIMEOUT
    assert len(place.cancels) == 3


async def test_a_run_that_ends_before_its_timeout_is_left_alone(house: House, place: ScriptedPlace) -> None:
    house.drive(place)
    job_id = await submit(house, queue_ms=60_000, run_ms=60_000)
    prompt = await posted(place)
    await place.start(prompt)
    running = await house.until(job_id, lambda job: job.status is JobStatus.RUNNING)
    assert running.run_deadline == (running.started_at or 0) + 60_000
    await place.finish(prompt)
    job = await house.final(job_id)
    assert (job.status, place.cancels) == (JobStatus.COMPLETED, [])


async def test_a_prompt_that_waits_at_the_engine_beyond_its_timeout_is_deleted_there(
    house: House, place: ScriptedPlace
) -> None:
    house.drive(place)
    first = await house.submit()
    await place.start(await posted(place))
    late = await submit(house, queue_ms=10_000)
    waiting = await posted(place, 2)
    house.ahead_s = 11.0

    job = await house.final(late)

    assert (kind_of(job), job.started_at) == (FailureKind.TIMEOUT, None)
    assert place.cancels == [waiting]
    assert (await house.job(first)).status is JobStatus.RUNNING


async def test_the_next_holder_stops_what_ran_too_long_while_nobody_drove(
    house: House, place: ScriptedPlace
) -> None:
    _, task = house.drive(place)
    job_id = await submit(house, run_ms=10_000)
    prompt = await posted(place)
    await place.start(prompt)
    running = await house.until(job_id, lambda job: job.status is JobStatus.RUNNING)
    task.cancel()
    await asyncio.wait([task])
    late = replace(house.clock, now_ms=lambda: (running.run_deadline or 0) + 1)
    house.clock = late
    house.drive(place, "other")

    job = await house.final(job_id)

    assert kind_of(job) is FailureKind.TIMEOUT
    assert place.posted == [prompt]


async def test_a_job_beyond_its_wait_is_never_claimed(house: House, place: ScriptedPlace) -> None:
    event = replace(queued_event(client="tester"), queue_timeout_ms=1)  # of the year 1970
    await house.store.add_job(event, GRAPH, max_queued=10)
    other = await house.submit()
    house.drive(place)
    await place.start(await posted(place))
    assert (await house.until(other, lambda job: job.status is JobStatus.RUNNING)).attempt == 1
    assert (await house.job(event.job_id)).attempt == 0
    ended = await house.store.expire_overdue(now=house.clock.now_ms())
    assert [job.id for job in ended] == [event.job_id]


# ------------------------------------------------------------------------------------- housekeeping


async def test_with_no_engine_at_all_a_job_beyond_its_wait_fails_as_timeout(house: House) -> None:
    job_id = await submit(house, queue_ms=SOON_MS)
    patient = await submit(house, queue_ms=600_000)
    keeping = house.group.create_task(end_overdue_jobs(house.store, house.clock, ELECTED, every_s=0.01))
    job = await house.final(job_id)
    keeping.cancel()
    assert (kind_of(job), job.attempt) == (FailureKind.TIMEOUT, 0)
    assert await house.event_types(job_id) == ["queued", "failed"]
    assert (await house.job(patient)).status is JobStatus.QUEUED


class FailsOnce:
    """A store that is locked at the first look."""

    def __init__(self) -> None:
        self.looks = 0
        self.looked_again = asyncio.Event()

    async def expire_overdue(self, *, now: int) -> list[Job]:
        self.looks += 1
        if self.looks == 1:
            raise StoreFault("The store is locked.", next_step="Wait.")
        self.looked_again.set()
        return []

    async def settle_chains(self, *, now: int) -> int:
        return 0


async def test_a_store_that_refuses_once_is_looked_at_again(house: House) -> None:
    store: Any = FailsOnce()
    keeping = house.group.create_task(end_overdue_jobs(store, house.clock, ELECTED, every_s=0.01))
    async with asyncio.timeout(20):
        await store.looked_again.wait()
    keeping.cancel()
    assert store.looks >= 2


# -------------------------------------------------------------------------------------------- memory


async def test_after_running_out_of_memory_the_engine_frees_some_and_the_job_gets_its_picture(
    house: House, place: ScriptedPlace
) -> None:
    house.drive(place)
    job_id = await house.submit()
    first = await posted(place)
    await place.start(first)
    await place.finish(first, OUT_OF_MEMORY)
    second = await posted(place, 2)
    assert place.frees == 1
    await place.start(second)
    await place.finish(second)

    job = await house.final(job_id)

    assert (job.status, job.attempt, job.oom_retried) == (JobStatus.COMPLETED, 2, True)
    events = [stored.event for stored in await house.store.events_after(0, job_id=job_id)]
    (requeue,) = [event for event in events if isinstance(event, JobRequeued)]
    assert requeue.cause is FailureKind.OOM
    assert OOM.message in requeue.reason


async def test_memory_is_freed_before_the_job_waits_again(house: House, place: ScriptedPlace) -> None:
    seen: list[str] = []

    async def free() -> None:
        seen.append((await house.job(job_id)).status.value)

    place.free = free  # type: ignore[method-assign]
    house.drive(place)
    job_id = await house.submit()
    first = await posted(place)
    await place.start(first)
    await house.until(job_id, lambda job: job.status is JobStatus.RUNNING)
    await place.finish(first, OUT_OF_MEMORY)
    await posted(place, 2)
    assert seen == ["running"]


async def test_out_of_memory_twice_fails_with_the_facts(house: House, place: ScriptedPlace) -> None:
    house.drive(place)
    job_id = await house.submit()
    for count in (1, 2):
        prompt = await posted(place, count)
        await place.start(prompt)
        await place.finish(prompt, OUT_OF_MEMORY)

    job = await house.final(job_id)

    assert (kind_of(job), job.attempt, place.frees) == (FailureKind.OOM, 2, 1)
    assert len(place.posted) == 2


async def test_an_engine_that_does_not_answer_to_free_gets_the_job_again_all_the_same(
    house: House, place: ScriptedPlace
) -> None:
    async def refuse() -> None:
        raise unreachable()

    place.free = refuse  # type: ignore[method-assign]
    house.drive(place)
    await house.submit()
    first = await posted(place)
    await place.finish(first, OUT_OF_MEMORY)
    assert await posted(place, 2) != first


async def test_a_cancel_while_memory_is_freed_ends_the_job(house: House, place: ScriptedPlace) -> None:
    async def free() -> None:
        await house.store.request_cancel(job_id, at=house.clock.now_ms(), reason=None)

    place.free = free  # type: ignore[method-assign]
    house.drive(place)
    job_id = await house.submit()
    await place.finish(await posted(place), OUT_OF_MEMORY)
    job = await house.final(job_id)
    assert (job.status, len(place.posted)) == (JobStatus.CANCELLED, 1)


# ------------------------------------------------------------------------------------------- foreign


async def test_the_driver_knows_how_many_prompts_are_not_ours(house: House, place: ScriptedPlace) -> None:
    driver, _ = house.drive(place)
    known = [driver.foreign]
    job_id = await house.submit()
    prompt = await posted(place)
    await place.say(QueueRemaining(count=3))
    await place.start(prompt)
    await house.until(job_id, lambda job: job.status is JobStatus.RUNNING)
    known.append(driver.foreign)
    await place.say(PromptSucceeded(prompt_id=prompt), QueueRemaining(count=1))
    await place.finish(prompt)
    await house.final(job_id)
    known.append(driver.foreign)
    await place.reconnect()
    await house.submit()
    await posted(place, 2)
    assert [*known, driver.foreign] == [None, 2, 1, 0]
    assert place.cancels == []
