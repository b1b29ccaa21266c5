"""Cancels under a driver: carried out, lost, raced, and asked for while nobody drives."""

import asyncio

from comfy_mcp.domain.ids import JobId, PromptId
from comfy_mcp.domain.job import CancelAnswer, JobStatus
from comfy_mcp.domain.prompt import PromptEnding
from tests.driving.conftest import House, posted
from tests.support.scripted_place import ScriptedPlace


async def cancel(house: House, job_id: JobId) -> CancelAnswer:
    _, answer = await house.store.request_cancel(job_id, at=house.clock.now_ms(), reason=None)
    return answer


async def test_a_running_job_is_cancelled_and_the_engine_agrees(house: House, place: ScriptedPlace) -> None:
    job_id, prompt = await house.sent_to(place)
    await place.start(prompt)
    await house.until(job_id, lambda job: job.status is JobStatus.RUNNING)
    assert await cancel(house, job_id) is CancelAnswer.ASK_ENGINE
    job = await house.final(job_id)
    assert job.status is JobStatus.CANCELLED
    assert place.history[prompt].ending is PromptEnding.INTERRUPTED


async def test_a_cancel_that_gets_lost_is_repeated_until_it_takes(house: House, place: ScriptedPlace) -> None:
    """Point 9."""

    def deaf_twice(prompt_id: PromptId) -> None:
        if len(place.cancels) > 2:
            place.obey_cancel(prompt_id)

    place.on_cancel = deaf_twice
    house.drive(place)
    job_id = await house.submit()
    await place.start(await posted(place))
    await cancel(house, job_id)
    assert (await house.final(job_id)).status is JobStatus.CANCELLED
    assert len(place.cancels) == 3


async def test_a_cancel_that_loses_the_race_gives_completed(house: House, place: ScriptedPlace) -> None:
    place.on_cancel = lambda prompt_id: place.end_silently(prompt_id)
    house.drive(place)
    job_id = await house.submit()
    await place.start(await posted(place))
    await cancel(house, job_id)
    job = await house.final(job_id)
    assert (job.status, job.cancel_requested) == (JobStatus.COMPLETED, True)


async def test_a_job_pending_at_the_engine_is_deleted_there(house: House, place: ScriptedPlace) -> None:
    """Point 10: queued elsewhere is not running."""
    job_id, prompt = await house.sent_to(place)
    await cancel(house, job_id)
    assert (await house.final(job_id)).status is JobStatus.CANCELLED
    assert prompt not in place.pending
    assert prompt not in place.history


async def test_a_cancel_while_the_engine_is_down_takes_when_it_is_back(
    house: House, place: ScriptedPlace
) -> None:
    house.drive(place)
    job_id = await house.submit()
    await place.start(await posted(place))
    place.down = True
    await cancel(house, job_id)
    await place.until(lambda: bool(place.cancels))
    assert not (await house.job(job_id)).is_final
    place.down = False
    assert (await house.final(job_id)).status is JobStatus.CANCELLED


async def test_a_cancelled_queued_job_never_reaches_an_engine(house: House, place: ScriptedPlace) -> None:
    job_id = await house.submit()
    assert await cancel(house, job_id) is CancelAnswer.CANCEL_NOW
    other = await house.submit()
    house.drive(place)
    prompt = await posted(place)
    assert (await house.job(other)).prompt_id == prompt
    assert (await house.job(job_id)).attempt == 0


async def test_a_cancel_asked_for_while_nobody_drove_is_carried_out_by_the_next_holder(
    house: House, place: ScriptedPlace
) -> None:
    _, first = house.drive(place, holder="first")
    job_id = await house.submit()
    await place.start(await posted(place))
    await house.until(job_id, lambda job: job.status is JobStatus.RUNNING)
    first.cancel()
    await asyncio.wait([first])
    await cancel(house, job_id)
    house.drive(place, holder="second")
    assert (await house.final(job_id)).status is JobStatus.CANCELLED


async def test_a_cancel_between_the_loss_and_the_next_attempt_leaves_no_job_that_nobody_claims(
    house: House, place: ScriptedPlace
) -> None:
    job_id = await house.submit()
    house.drive(place, listen=False)  # the request is in the store, and the wake-up has not come
    await place.start(await posted(place))
    await house.until(job_id, lambda job: job.status is JobStatus.RUNNING)
    await cancel(house, job_id)
    await place.restart()
    job = await house.final(job_id)
    assert job.status is JobStatus.CANCELLED
    assert len(place.posted) == 1
