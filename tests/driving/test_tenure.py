"""A job under a driver, from the queue to its end. The engine is scripted."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from comfy_mcp.domain.events import (
    FailureKind,
    FrameLost,
    JobFailure,
    JobProgressed,
    NodeExecuted,
    NodeProgressed,
    NodesCached,
    NodeStarted,
    Priority,
    PromptEnded,
    PromptFailed,
    PromptStarted,
    PromptSucceeded,
)
from comfy_mcp.domain.extra_data import ExtraData
from comfy_mcp.domain.ids import NodeId, PromptId
from comfy_mcp.domain.job import JobStatus
from comfy_mcp.domain.prompt import PromptEnding, PromptResult
from comfy_mcp.places.protocol import Accepted, Rejected
from tests.driving.conftest import House, posted
from tests.support.jobs import outputs_of
from tests.support.scripted_place import PICTURE, ScriptedPlace, success


async def test_a_job_is_followed_from_the_queue_to_its_picture(house: House, place: ScriptedPlace) -> None:
    job_id, prompt = await house.sent_to(place)
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
    job_id, prompt = await house.sent_to(place)
    await place.start(prompt)
    await house.until(job_id, lambda job: job.status is JobStatus.RUNNING)
    looked = place.lookups
    await place.say(FrameLost(type="executed"), PromptSucceeded(prompt_id=prompt))
    await place.finish(prompt)
    assert (await house.final(job_id)).output_count == 1
    assert place.lookups >= looked + 1


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
    job_id, prompt = await house.sent_to(place)
    await place.start(prompt)
    await place.say(PromptFailed(prompt_id=prompt, failure=failure))
    await place.finish(prompt, PromptResult(ending=PromptEnding.ERROR, outputs=(PICTURE,), failure=failure))
    job = await house.final(job_id)
    assert (job.status, job.failure) == (JobStatus.FAILED, failure)
    assert [output.file for output in await outputs_of(house.store, job_id)] == [PICTURE]


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
    job_id, prompt = await house.sent_to(place)
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


async def test_foreign_prompts_are_not_touched(house: House, place: ScriptedPlace) -> None:
    job_id, prompt = await house.sent_to(place)
    foreign = PromptId("00000000-0000-4000-8000-000000000000")
    await place.say(PromptStarted(prompt_id=foreign), PromptEnded(prompt_id=foreign))
    await place.finish(prompt)
    assert (await house.final(job_id)).status is JobStatus.COMPLETED
    assert foreign not in place.cancels


async def test_a_finished_jobs_prompt_can_be_told_to_end_again_without_effect(
    house: House, place: ScriptedPlace
) -> None:
    job_id, prompt = await house.sent_to(place)
    await place.finish(prompt)
    done = await house.final(job_id)
    await place.say(PromptEnded(prompt_id=prompt), PromptStarted(prompt_id=prompt))
    other = await house.submit()
    await place.finish(await posted(place, 2), success(replace(PICTURE, filename="b.png")))
    await house.final(other)
    assert await house.job(job_id) == done
