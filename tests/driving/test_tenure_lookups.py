"""What the events did not bring: a silent engine, reconnects, restarts, lost answers, other people."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from comfy_mcp.domain.events import (
    EngineDisconnected,
    FailureKind,
    NodeExecuted,
    PromptEnded,
    PromptSucceeded,
)
from comfy_mcp.domain.ids import NodeId, PromptId
from comfy_mcp.domain.job import JobStatus
from comfy_mcp.domain.prompt import PromptEnding, PromptResult
from comfy_mcp.driving import hearing
from comfy_mcp.places.protocol import Accepted, PromptView, PromptWhere, Rejected
from tests.driving.conftest import House, posted
from tests.support.scripted_place import PICTURE, ScriptedPlace, unreachable


async def test_a_silent_engine_is_asked_after_the_quiet_interval(house: House, place: ScriptedPlace) -> None:
    """Point 6: another client's slow reader silences everyone; polling finds the end."""
    house.drive(place)
    job_id = await house.submit()
    place.end_silently(await posted(place))
    assert (await house.final(job_id)).status is JobStatus.COMPLETED


async def test_a_stream_that_did_not_tell_the_end_is_exchanged(house: House, place: ScriptedPlace) -> None:
    """Point 3: the server unregistered the socket without a word."""
    job_id, prompt = await house.sent_to(place)
    await place.start(prompt)
    await house.until(job_id, lambda job: job.status is JobStatus.RUNNING)
    place.end_silently(prompt)
    await place.until(lambda: place.reconnects == 1)
    other = await house.submit()
    await place.finish(await posted(place, 2))
    await house.final(other)
    assert place.reconnects == 1


@pytest.mark.usefixtures("_no_polls")
async def test_after_a_reconnect_everything_in_flight_is_looked_up(
    house: House, place: ScriptedPlace
) -> None:
    """Point 4: nothing is replayed."""
    house.drive(place)
    first, second = await house.submit(), await house.submit()
    prompts = [await posted(place), await posted(place, 2)]
    await place.say(EngineDisconnected(reason="test"))
    for prompt in prompts:
        place.end_silently(prompt)
    await place.reconnect()
    assert (await house.final(first)).status is JobStatus.COMPLETED
    assert (await house.final(second)).status is JobStatus.COMPLETED


async def test_a_restarted_engine_gets_the_job_once_more_under_a_new_prompt_id(
    house: House, place: ScriptedPlace
) -> None:
    """Point 12: queue and history are gone."""
    house.drive(place)
    job_id = await house.submit()
    first = await posted(place)
    await place.start(first)
    await place.restart()
    second = await posted(place, 2)
    assert second != first
    await place.start(second)
    await place.finish(second)
    job = await house.final(job_id)
    assert (job.status, job.attempt) == (JobStatus.COMPLETED, 2)
    assert "requeued" in await house.event_types(job_id)


async def test_a_job_whose_engine_is_lost_too_often_fails_as_engine_lost(
    house: House, place: ScriptedPlace
) -> None:
    house.drive(place)
    job_id = await house.submit()
    for attempt in (1, 2):
        await place.start(await posted(place, attempt))
        await place.restart()
    job = await house.final(job_id)
    assert job.failure is not None
    assert (job.status, job.failure.kind) == (JobStatus.FAILED, FailureKind.ENGINE_LOST)
    assert len(place.posted) == 2


async def test_a_post_without_an_answer_is_looked_up_and_not_sent_again(
    house: House, place: ScriptedPlace
) -> None:
    def answer(prompt_id: PromptId) -> Accepted | Rejected:
        place.running[prompt_id] = {}  # the engine has it, and the answer is lost
        raise unreachable()

    place.answer = answer
    job_id, prompt = await house.sent_to(place)
    await house.until(job_id, lambda job: job.status is JobStatus.RUNNING)
    place.end_silently(prompt)
    job = await house.final(job_id)
    assert (job.status, job.attempt, place.posted) == (JobStatus.COMPLETED, 1, [prompt])


async def test_a_post_that_never_arrived_is_sent_again_once_its_absence_lasts(
    house: House, place: ScriptedPlace
) -> None:
    faults = [unreachable()]
    place.answer = lambda _: faults.pop() if faults else Accepted(dropped={})
    house.drive(place)
    job_id = await house.submit()
    second = await posted(place, 2)
    assert "requeued" in await house.event_types(job_id)
    await place.start(second)
    await place.finish(second)
    assert (await house.final(job_id)).attempt == 2


async def test_a_prompt_deleted_in_comfyui_by_somebody_else_is_said_to_be_so(
    house: House, place: ScriptedPlace
) -> None:
    """Point 11: a deleted pending job leaves no trace; the same connection says it was no restart."""
    job_id, prompt = await house.sent_to(place)
    await place.until(lambda: place.lookups > 1)
    del place.pending[prompt]
    job = await house.final(job_id)
    assert job.failure is not None
    assert job.failure.kind is FailureKind.CANCELLED_EXTERNALLY
    assert len(place.posted) == 1


async def test_an_interrupt_by_somebody_else_fails_the_job_as_cancelled_externally(
    house: House, place: ScriptedPlace
) -> None:
    job_id, prompt = await house.sent_to(place)
    await place.start(prompt)
    await place.finish(prompt, PromptResult(ending=PromptEnding.INTERRUPTED, outputs=()))
    job = await house.final(job_id)
    assert job.failure is not None
    assert job.failure.kind is FailureKind.CANCELLED_EXTERNALLY


async def test_a_history_that_was_evicted_at_once_leaves_what_the_events_told(
    house: House, place: ScriptedPlace
) -> None:
    job_id, prompt = await house.sent_to(place)
    await place.start(prompt)
    await place.say(
        NodeExecuted(prompt_id=prompt, node=NodeId("2"), outputs=(PICTURE,)),
        PromptSucceeded(prompt_id=prompt),
    )
    place.forget_everything()
    await place.say(PromptEnded(prompt_id=prompt))
    job = await house.final(job_id)
    assert (job.status, job.output_count) == (JobStatus.COMPLETED, 1)


class HesitantLane(ScriptedPlace):
    """What it sees, it says only when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_say = asyncio.Event()

    async def lookup(self, prompt_ids: Sequence[PromptId]) -> Mapping[PromptId, PromptView]:
        views = await super().lookup(prompt_ids)
        await self.may_say.wait()
        return views


async def test_an_absence_seen_before_the_engine_had_the_prompt_counts_for_nothing(house: House) -> None:
    """A POST without an answer arrives late, while it is being looked up: its events are the newer word."""
    place = HesitantLane()
    place.answer = lambda _prompt: unreachable()
    job_id, prompt = await house.sent_to(place)
    await place.until(lambda: place.lookups > 0)
    place.pending[prompt] = {}
    await place.start(prompt)
    await house.until(job_id, lambda job: job.status is JobStatus.RUNNING)

    place.may_say.set()
    looked = place.lookups
    await place.until(lambda: place.lookups > looked)
    await place.finish(prompt)

    assert (await house.final(job_id)).status is JobStatus.COMPLETED
    assert "requeued" not in await house.event_types(job_id)
    assert place.posted == [prompt]


async def test_a_cancel_does_not_make_a_prompt_absent_that_is_on_its_way(
    house: House, place: ScriptedPlace
) -> None:
    """Its POST got no answer and arrives late: only an absence that lasts is one. Here time stands still."""
    house.clock = replace(house.clock, monotonic=lambda: 0.0)
    place.answer = lambda _prompt: unreachable()
    job_id, prompt = await house.sent_to(place)
    await place.until(lambda: place.lookups > 0)
    await house.store.request_cancel(job_id, at=house.clock.now_ms(), reason=None)
    await place.until(lambda: bool(place.cancels) and place.lookups > 1)

    place.end_silently(prompt)
    await place.reconnect()  # it is looked up again

    assert (await house.final(job_id)).status is JobStatus.COMPLETED
    assert place.posted == [prompt]


@pytest.mark.usefixtures("_no_polls")
async def test_an_engine_that_has_begun_a_prompt_is_not_said_to_run_none(
    house: House, place: ScriptedPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks between two prompts finds it idle."""
    driver, _ = house.drive(place)
    await house.submit()
    prompt = await posted(place)
    idle = PromptView(where=PromptWhere.PENDING, engine_idle=True)
    monkeypatch.setattr(place, "_view", lambda _prompt: idle)
    await place.reconnect()
    async with asyncio.timeout(20):
        while driver.trouble is None:
            house.ahead_s += hearing.WORKER_LIMIT_S
            await asyncio.sleep(0)
    await place.start(prompt)
    assert driver.trouble is None
