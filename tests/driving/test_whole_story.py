"""An end that the events have told whole is written as told; any other is looked up in the history."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from comfy_mcp.domain.catalog import OutputFile, OutputKind
from comfy_mcp.domain.events import (
    EngineConnected,
    EngineDisconnected,
    EngineEvent,
    FailureKind,
    FrameLost,
    JobFailure,
    NodeExecuted,
    NodesCached,
    NodeStarted,
    PromptEnded,
    PromptFailed,
    PromptStarted,
    PromptSucceeded,
)
from comfy_mcp.domain.ids import NodeId, PromptId
from comfy_mcp.domain.job import JobStatus
from comfy_mcp.domain.prompt import PromptEnding, PromptResult
from comfy_mcp.driving import attempt
from tests.driving.conftest import House, posted
from tests.support.jobs import outputs_of
from tests.support.scripted_place import PICTURE, ScriptedPlace

pytestmark = pytest.mark.usefixtures("_no_polls")

OTHER = replace(PICTURE, filename="in the history.png")
"""What the history of these engines has: the source of an end shows in its file."""
P = PromptId("replaced by the prompt of the test")
STARTED = PromptStarted(prompt_id=P)
EXECUTED = NodeExecuted(prompt_id=P, node=NodeId("2"), outputs=(PICTURE,))
SUCCEEDED = PromptSucceeded(prompt_id=P)
AGAIN = EngineConnected(sid="again")
CACHED = NodesCached(prompt_id=P, nodes=(NodeId("1"), NodeId("2")))


async def say(place: ScriptedPlace, prompt: PromptId, events: Sequence[EngineEvent]) -> None:
    for event in events:
        about_it: Any = event
        await place.say(replace(about_it, prompt_id=prompt) if hasattr(event, "prompt_id") else event)


async def run(house: House, place: ScriptedPlace, *events: EngineEvent) -> list[str]:
    """The file names of a job during which the engine says `events`, then `executing: null`."""
    job_id, prompt = await house.sent_to(place)
    place.end_silently(prompt, PromptResult(ending=PromptEnding.SUCCESS, outputs=(OTHER,)))
    await say(place, prompt, [*events, PromptEnded(prompt_id=P)])
    assert (await house.final(job_id)).status is JobStatus.COMPLETED
    return [output.file.filename for output in await house.outputs(job_id)]


TOLD: dict[str, Sequence[EngineEvent]] = {
    "from start to success": [STARTED, EXECUTED, SUCCEEDED],
    "with steps on the way": [STARTED, NodeStarted(prompt_id=P, node=NodeId("1")), EXECUTED, SUCCEEDED],
    "its cached outputs said again": [STARTED, CACHED, EXECUTED, SUCCEEDED],
    "a cached node that is no output": [
        STARTED, NodesCached(prompt_id=P, nodes=(NodeId("1"),)), EXECUTED, SUCCEEDED,
    ],
    "after a frame was lost": [FrameLost(type="executed"), STARTED, EXECUTED, SUCCEEDED],
}  # fmt: skip
LOOKED_UP: dict[str, Sequence[EngineEvent]] = {
    "no start": [EXECUTED, SUCCEEDED],
    "no success": [STARTED, EXECUTED],
    "nothing": [],
    "a break in the stream": [STARTED, EngineDisconnected(reason="test"), AGAIN, EXECUTED, SUCCEEDED],
    "a new stream without a word of the loss": [STARTED, AGAIN, EXECUTED, SUCCEEDED],
    "a stream that breaks": [STARTED, EXECUTED, EngineDisconnected(reason="test"), SUCCEEDED, AGAIN],
    "a lost frame": [STARTED, FrameLost(type="executed"), SUCCEEDED],
    "cached outputs of which nothing is said": [STARTED, CACHED, SUCCEEDED],
    "two starts": [STARTED, STARTED, EXECUTED, SUCCEEDED],
}


@pytest.mark.parametrize("events", TOLD.values(), ids=TOLD)
async def test_a_success_that_is_told_whole_needs_no_lookup(
    house: House, place: ScriptedPlace, events: Sequence[EngineEvent]
) -> None:
    assert await run(house, place, *events) == [PICTURE.filename]
    assert place.lookups == 0


async def test_texts_beyond_their_bound_cost_no_file(
    house: House, place: ScriptedPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "TEXT_CHARS", 5)
    text = OutputFile(kind=OutputKind.TEXT, filename="", node=NodeId("1"), text="too long")
    texts = replace(EXECUTED, outputs=(text,))
    assert await run(house, place, STARTED, texts, EXECUTED, SUCCEEDED) == [PICTURE.filename]
    assert place.lookups == 0


@pytest.mark.parametrize("events", LOOKED_UP.values(), ids=LOOKED_UP)
async def test_any_other_end_is_looked_up(
    house: House, place: ScriptedPlace, events: Sequence[EngineEvent]
) -> None:
    assert await run(house, place, *events) == [OTHER.filename]
    assert place.lookups > 0


async def test_a_run_that_another_process_submitted_is_looked_up(house: House, place: ScriptedPlace) -> None:
    _, first = house.drive(place)
    job_id = await house.submit()
    prompt = await posted(place)
    first.cancel()
    successor = ScriptedPlace()
    successor.stream_id = "another"
    successor.pending = place.pending
    house.drive(successor)
    await successor.until(lambda: successor.followed == {"scripted"})
    successor.end_silently(prompt, PromptResult(ending=PromptEnding.SUCCESS, outputs=(OTHER,)))
    await say(successor, prompt, [STARTED, EXECUTED, SUCCEEDED, PromptEnded(prompt_id=P)])
    await house.final(job_id)
    assert [output.file for output in await house.outputs(job_id)] == [OTHER]


async def test_a_failure_is_looked_up_for_what_was_kept_of_it(house: House, place: ScriptedPlace) -> None:
    job_id, prompt = await house.sent_to(place)
    failure = JobFailure(kind=FailureKind.NODE_ERROR, message="boom")
    ended = PromptResult(ending=PromptEnding.ERROR, outputs=(OTHER,), failure=failure)
    place.end_silently(prompt, ended)
    failed = PromptFailed(prompt_id=P, failure=failure)
    await say(place, prompt, [STARTED, EXECUTED, failed, PromptEnded(prompt_id=P)])
    assert (await house.final(job_id)).failure == failure
    assert [output.file for output in await house.outputs(job_id)] == [OTHER]


async def test_a_success_may_be_told_before_the_post_is_answered(house: House, place: ScriptedPlace) -> None:
    submit = place.submit

    async def slow(prompt_id: PromptId, graph: object, extra_data: object) -> object:
        answer = await submit(prompt_id, {})
        await say(place, prompt_id, [STARTED, EXECUTED, SUCCEEDED])
        return answer

    place.submit = slow  # type: ignore[assignment, method-assign]
    house.drive(place)
    for _ in range(2):
        job_id = await house.submit()
        assert (await house.final(job_id)).status is JobStatus.COMPLETED
    assert place.lookups == 0


async def test_sizes_that_the_engine_does_not_tell_stay_unknown_and_stop_nothing(
    house: House, place: ScriptedPlace
) -> None:
    place.silent_about_sizes = True
    house.drive(place)
    for count in (1, 2):
        job_id = await house.submit()
        prompt = await posted(place, count)
        await say(place, prompt, [STARTED, EXECUTED, SUCCEEDED])
        await house.final(job_id)
    assert [output.size for output in await outputs_of(house.store, job_id)] == [None]


async def test_sizes_are_filled_in_when_the_driver_stops_before_they_came(
    house: House, place: ScriptedPlace
) -> None:
    place.sizes_held.clear()
    _, task = house.drive(place)
    job_id = await house.submit()
    await say(place, await posted(place), [STARTED, EXECUTED, SUCCEEDED])
    await house.final(job_id)
    await place.until(lambda: place.asked_sizes == 1)
    place.sizes_held.set()
    task.cancel()
    assert [output.size for output in await house.outputs(job_id)] == [100]
