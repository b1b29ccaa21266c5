"""A job under a driver: followed live, lost and found again, cancelled, raced. The engine is scripted."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from comfy_mcp.domain.events import (
    EngineDisconnected,
    FailureKind,
    FrameLost,
    JobFailure,
    JobProgressed,
    NodeExecuted,
    NodeProgressed,
    NodesCached,
    NodeStarted,
    PreviewFrame,
    Priority,
    PromptEnded,
    PromptFailed,
    PromptStarted,
    PromptSucceeded,
)
from comfy_mcp.domain.extra_data import ExtraData, Submitted
from comfy_mcp.domain.ids import ClientId, JobId, NodeId, PromptId
from comfy_mcp.domain.job import CancelAnswer, JobStatus
from comfy_mcp.domain.prompt import PromptEnding, PromptResult
from comfy_mcp.driving import attempt as attempt_module
from comfy_mcp.places.protocol import Accepted, PromptView, Rejected
from tests.driving.conftest import House
from tests.support.jobs import outputs_of
from tests.support.scripted_place import PICTURE, ScriptedPlace, success, unreachable


async def posted(place: ScriptedPlace, count: int = 1) -> PromptId:
    await place.until(lambda: len(place.posted) >= count)
    return place.posted[count - 1]


async def test_a_job_is_followed_from_the_queue_to_its_picture(house: House, place: ScriptedPlace) -> None:
    house.drive(place)
    job_id = await house.submit()
    prompt = await posted(place)
    await place.start(prompt)
    await place.say(
        NodesCached(prompt_id=prompt, nodes=()),
        NodeStarted(prompt_id=prompt, node=NodeId("1")),
        NodeProgressed(prompt_id=prompt, node=NodeId("1"), value=1, maximum=2),
    )
    running = await house.until(job_id, lambda job: job.progress > 0)
    assert running.status is JobStatus.RUNNING
    assert running.current_node_title == "Blank"
    await place.say(
        NodeExecuted(prompt_id=prompt, node=NodeId("2"), outputs=(PICTURE,)),
        PromptSucceeded(prompt_id=prompt),
    )
    await place.finish(prompt)

    job = await house.final(job_id)

    assert (job.status, job.progress, job.output_count) == (JobStatus.COMPLETED, 1.0, 1)
    (output,) = await house.outputs(job_id)
    assert (output.file, output.size, output.engine) == (PICTURE, 100, place.engine)
    assert await house.event_types(job_id) == ["queued", "claimed", "started", "completed"]
    assert place.posted == [prompt]


async def test_the_prompt_id_is_in_the_store_before_the_post(house: House, place: ScriptedPlace) -> None:
    known: list[asyncio.Task[list[str]]] = []

    def answer(prompt_id: PromptId) -> Accepted:
        known.append(house.group.create_task(house.event_types(job_id)))
        return Accepted(dropped={})

    place.answer = answer
    job_id = await house.submit()
    house.drive(place)
    prompt = await posted(place)
    assert "claimed" in await known[0]
    assert (await house.job(job_id)).prompt_id == prompt


async def test_events_that_come_before_the_posts_answer_count(house: House, place: ScriptedPlace) -> None:
    """Point 2: the answer is still on its way and the prompt is already done."""
    told = asyncio.Event()

    def answer(prompt_id: PromptId) -> Accepted:
        async def run() -> None:
            await place.start(prompt_id)
            await place.finish(prompt_id)
            told.set()

        house.group.create_task(run())
        return Accepted(dropped={})

    original = place.submit

    async def slow_answer(
        prompt_id: PromptId, graph: Mapping[str, Any], extra_data: ExtraData | None = None
    ) -> Accepted | Rejected:
        accepted = await original(prompt_id, graph, extra_data)
        await told.wait()
        return accepted

    place.answer = answer
    place.submit = slow_answer  # type: ignore[method-assign]
    job_id = await house.submit()
    house.drive(place)
    assert (await house.final(job_id)).status is JobStatus.COMPLETED


async def test_the_end_is_read_from_the_history_at_executing_null_not_at_success(
    house: House, place: ScriptedPlace
) -> None:
    """Point 1: the history lags `execution_success`."""
    house.drive(place)
    job_id = await house.submit()
    prompt = await posted(place)
    await place.start(prompt)
    await house.until(job_id, lambda job: job.status is JobStatus.RUNNING)
    looked = place.lookups
    await place.say(FrameLost(type="executed"), PromptSucceeded(prompt_id=prompt))
    await place.finish(prompt)
    assert (await house.final(job_id)).output_count == 1
    assert place.lookups >= looked + 1


async def test_a_silent_engine_is_asked_after_the_quiet_interval(house: House, place: ScriptedPlace) -> None:
    """Point 6: another client's slow reader silences everyone; polling finds the end."""
    house.drive(place)
    job_id = await house.submit()
    place.end_silently(await posted(place))
    assert (await house.final(job_id)).status is JobStatus.COMPLETED


async def test_a_stream_that_did_not_tell_the_end_is_exchanged(house: House, place: ScriptedPlace) -> None:
    """Point 3: the server unregistered the socket without a word."""
    house.drive(place)
    job_id = await house.submit()
    prompt = await posted(place)
    await place.start(prompt)
    await house.until(job_id, lambda job: job.status is JobStatus.RUNNING)
    place.end_silently(prompt)
    await place.until(lambda: place.reconnects == 1)
    other = await house.submit()
    await place.finish(await posted(place, 2))
    await house.final(other)
    assert place.reconnects == 1


async def test_after_a_reconnect_everything_in_flight_is_looked_up(
    house: House, place: ScriptedPlace
) -> None:
    """Point 4: nothing is replayed."""
    house.settings = house.settings.model_copy(update={"quiet_poll_s": 1000.0})
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
    house.drive(place)
    job_id = await house.submit()
    prompt = await posted(place)
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
    house.drive(place)
    job_id = await house.submit()
    prompt = await posted(place)
    await place.until(lambda: place.lookups > 1)
    del place.pending[prompt]
    job = await house.final(job_id)
    assert job.failure is not None
    assert job.failure.kind is FailureKind.CANCELLED_EXTERNALLY
    assert len(place.posted) == 1


async def test_an_interrupt_by_somebody_else_fails_the_job_as_cancelled_externally(
    house: House, place: ScriptedPlace
) -> None:
    house.drive(place)
    job_id = await house.submit()
    prompt = await posted(place)
    await place.start(prompt)
    await place.finish(prompt, PromptResult(ending=PromptEnding.INTERRUPTED, outputs=()))
    job = await house.final(job_id)
    assert job.failure is not None
    assert job.failure.kind is FailureKind.CANCELLED_EXTERNALLY


async def test_a_history_that_was_evicted_at_once_leaves_what_the_events_told(
    house: House, place: ScriptedPlace
) -> None:
    house.drive(place)
    job_id = await house.submit()
    prompt = await posted(place)
    await place.start(prompt)
    await place.say(
        NodeExecuted(prompt_id=prompt, node=NodeId("2"), outputs=(PICTURE,)),
        PromptSucceeded(prompt_id=prompt),
    )
    place.forget_everything()
    await place.say(PromptEnded(prompt_id=prompt))
    job = await house.final(job_id)
    assert (job.status, job.output_count) == (JobStatus.COMPLETED, 1)


async def test_a_refused_graph_fails_with_the_engines_reason(house: House, place: ScriptedPlace) -> None:
    failure = JobFailure(kind=FailureKind.VALIDATION, message="Node 2: value not in list")
    place.answer = lambda _: Rejected(failure=failure)
    house.drive(place)
    job = await house.final(await house.submit())
    assert (job.status, job.failure, job.attempt) == (JobStatus.FAILED, failure, 1)


async def test_a_node_error_fails_the_job_and_keeps_what_it_had_written(
    house: House, place: ScriptedPlace
) -> None:
    failure = JobFailure(kind=FailureKind.NODE_ERROR, message="boom", node_id=NodeId("2"))
    house.drive(place)
    job_id = await house.submit()
    prompt = await posted(place)
    await place.start(prompt)
    await place.say(PromptFailed(prompt_id=prompt, failure=failure))
    await place.finish(prompt, PromptResult(ending=PromptEnding.ERROR, outputs=(PICTURE,), failure=failure))
    job = await house.final(job_id)
    assert (job.status, job.failure) == (JobStatus.FAILED, failure)
    assert [output.file for output in await outputs_of(house.store, job_id)] == [PICTURE]


async def cancel(house: House, job_id: JobId) -> CancelAnswer:
    _, answer = await house.store.request_cancel(job_id, at=house.clock.now_ms(), reason=None)
    return answer


async def test_a_running_job_is_cancelled_and_the_engine_agrees(house: House, place: ScriptedPlace) -> None:
    house.drive(place)
    job_id = await house.submit()
    prompt = await posted(place)
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
    house.drive(place)
    job_id = await house.submit()
    prompt = await posted(place)
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


async def test_no_more_than_the_pipelines_depth_is_handed_over_and_priority_decides(
    house: House, place: ScriptedPlace
) -> None:
    low = await house.submit(priority=Priority.LOW)
    normal = await house.submit()
    high = await house.submit(priority=Priority.HIGH)
    house.drive(place)
    prompts = [await posted(place, 1), await posted(place, 2)]
    assert [(await house.job(job)).prompt_id for job in (high, normal)] == prompts
    assert (await house.job(low)).attempt == 0
    place.end_silently(prompts[0])
    third = await posted(place, 3)
    assert (await house.job(low)).prompt_id == third


async def test_nothing_is_claimed_while_the_engine_is_down(house: House, place: ScriptedPlace) -> None:
    place.down = True
    job_id = await house.submit()
    driver, _ = house.drive(place)
    await place.until(lambda: driver.driving)
    assert (await house.job(job_id)).attempt == 0
    place.down = False
    await place.reconnect()
    await place.finish(await posted(place))
    assert (await house.final(job_id)).status is JobStatus.COMPLETED


async def test_progress_in_the_store_only_grows_and_ends_at_one(house: House, place: ScriptedPlace) -> None:
    house.drive(place)
    job_id = await house.submit()
    prompt = await posted(place)
    seen: list[float] = []
    with house.hub.subscribe(job_id=job_id) as events:
        await place.start(prompt)
        for value in range(1, 20):
            await place.say(NodeProgressed(prompt_id=prompt, node=NodeId("1"), value=value, maximum=20))
        await place.say(NodeStarted(prompt_id=prompt, node=NodeId("2")))
        await house.until(job_id, lambda job: job.current_node == "2")
        seen += [
            item.event.progress for item in await events.changed() if isinstance(item.event, JobProgressed)
        ]
        await place.finish(prompt)
    assert (await house.final(job_id)).progress == 1.0
    assert seen
    assert seen == sorted(seen)
    assert max(seen) < 1.0


async def test_the_next_holder_takes_over_a_running_prompt_without_running_it_twice(
    house: House, place: ScriptedPlace
) -> None:
    _, first = house.drive(place, holder="first")
    job_id = await house.submit()
    prompt = await posted(place)
    await place.start(prompt)
    await house.until(job_id, lambda job: job.status is JobStatus.RUNNING)
    first.cancel()
    await asyncio.wait([first])
    place.end_silently(prompt)  # nobody was listening
    house.drive(place, holder="second")
    assert (await house.final(job_id)).status is JobStatus.COMPLETED
    assert place.posted == [prompt]


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


async def test_foreign_prompts_are_not_touched(house: House, place: ScriptedPlace) -> None:
    house.drive(place)
    job_id = await house.submit()
    prompt = await posted(place)
    foreign = PromptId("00000000-0000-4000-8000-000000000000")
    await place.say(PromptStarted(prompt_id=foreign), PromptEnded(prompt_id=foreign))
    await place.finish(prompt)
    assert (await house.final(job_id)).status is JobStatus.COMPLETED
    assert foreign not in place.cancels


async def test_a_finished_jobs_prompt_can_be_told_to_end_again_without_effect(
    house: House, place: ScriptedPlace
) -> None:
    house.drive(place)
    job_id = await house.submit()
    prompt = await posted(place)
    await place.finish(prompt)
    done = await house.final(job_id)
    await place.say(PromptEnded(prompt_id=prompt), PromptStarted(prompt_id=prompt))
    other = await house.submit()
    await place.finish(await posted(place, 2), success(replace(PICTURE, filename="b.png")))
    await house.final(other)
    assert await house.job(job_id) == done


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
    house.drive(place)
    job_id = await house.submit()
    prompt = await posted(place)
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
    house.drive(place)
    job_id = await house.submit()
    prompt = await posted(place)
    await place.until(lambda: place.lookups > 0)
    await house.store.request_cancel(job_id, at=house.clock.now_ms(), reason=None)
    await place.until(lambda: bool(place.cancels) and place.lookups > 1)

    place.end_silently(prompt)
    await place.reconnect()  # it is looked up again

    assert (await house.final(job_id)).status is JobStatus.COMPLETED
    assert place.posted == [prompt]


async def test_what_was_submitted_beside_the_graph_goes_to_the_engine(
    house: House, place: ScriptedPlace
) -> None:
    file = {"nodes": [{"id": 1, "type": "EmptyImage"}], "links": []}
    with_file = await house.submit(submitted=Submitted(file=file))
    spends = await house.submit(submitted=Submitted(may_spend=True))
    alone = await house.submit()
    house.drive(place)
    beside: list[ExtraData | None] = []
    for number, job_id in enumerate((with_file, spends, alone), start=1):
        prompt = await posted(place, number)
        beside.append(place.beside[prompt])
        await place.start(prompt)
        await place.finish(prompt)
        await house.final(job_id)
    assert beside == [
        ExtraData(values={"extra_pnginfo": {"workflow": file}}),
        ExtraData(spender=ClientId("tester")),
        None,
    ]


PNG = b"\x89PNG\r\n\x1a\n..."


def frame(
    prompt: PromptId, node: str = "2", *, media_type: str = "image/png", data: bytes = PNG
) -> PreviewFrame:
    return PreviewFrame(prompt_id=prompt, node=NodeId(node), media_type=media_type, data=data)


async def test_a_picture_that_an_output_node_only_sends_becomes_an_output(
    house: House, place: ScriptedPlace
) -> None:
    house.drive(place)
    job_id = await house.submit()
    prompt = await posted(place)
    await place.start(prompt)
    for event in (frame(prompt, "1"), frame(prompt, media_type="image/jpeg"), frame(prompt), frame(prompt)):
        await place.say(event)
    await place.finish(prompt)
    job = await house.final(job_id)
    assert (job.status, job.output_count) == (JobStatus.COMPLETED, 3)
    assert [picture.node for picture in place.kept] == ["2", "2"]
    made = await house.outputs(job_id)
    assert [(each.file.filename, each.size) for each in made][1:] == [
        ("1.png", len(PNG)),
        ("2.png", len(PNG)),
    ]


async def test_a_picture_that_the_engine_does_not_take_ends_nothing(
    house: House, place: ScriptedPlace
) -> None:
    place.takes_no_pictures = True
    house.drive(place)
    job_id = await house.submit()
    prompt = await posted(place)
    await place.start(prompt)
    await place.say(frame(prompt))
    await place.finish(prompt)
    job = await house.final(job_id)
    assert (job.status, job.output_count) == (JobStatus.COMPLETED, 1)
    assert job.warnings[0].startswith(
        "1 picture(s) that the workflow sent over the WebSocket could not be saved"
    )


async def test_the_pictures_that_are_held_have_a_bound(
    house: House, place: ScriptedPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt_module, "PICTURE_BYTES", 2 * len(PNG))
    house.drive(place)
    job_id = await house.submit()
    prompt = await posted(place)
    await place.start(prompt)
    for _ in range(3):
        await place.say(frame(prompt))
    await place.finish(prompt)
    job = await house.final(job_id)
    assert (job.output_count, len(job.warnings)) == (3, 1)
