"""A defect, or an answer that can't be read, ends the job that it is about; the others go on."""

import asyncio
from typing import Any

import pytest

from comfy_mcp.domain.deadlines import STOP_LIMIT_S
from comfy_mcp.domain.events import (
    FailureKind,
    FrameLost,
    NodeExecuted,
    NodeStarted,
    PromptSucceeded,
)
from comfy_mcp.domain.ids import NodeId, PromptId
from comfy_mcp.domain.job import JobStatus
from comfy_mcp.driving.attempt import Attempt
from comfy_mcp.driving.containment import MAX_CONCLUDE_TRIES, RETRY_S
from comfy_mcp.driving.ends import Ends
from comfy_mcp.driving.hearing import Hearing
from comfy_mcp.driving.ledger import Ledger
from tests.driving.conftest import WITH_FILE, House, posted
from tests.driving.spoiled import INTERNAL, Defect, Spoiled, another_completes, ended, only
from tests.support.scripted_place import PICTURE


@pytest.fixture
def place() -> Spoiled:
    return Spoiled()


# ------------------------------------------------------------------------------------- steps that raise


async def test_a_job_whose_preparation_raises_fails_with_an_error_id(
    house: House, place: Spoiled, capsys: pytest.CaptureFixture[str]
) -> None:
    place.fails["prepare"] = lambda _asked: len(place.prepared) <= MAX_CONCLUDE_TRIES
    house.drive(place)
    job_id = await house.submit(WITH_FILE)
    assert await ended(house, job_id) == INTERNAL
    assert len(place.prepared) == MAX_CONCLUDE_TRIES
    assert place.posted == []
    failure = (await house.job(job_id)).failure
    assert failure is not None
    error_id = failure.message.partition("error id ")[2].partition(")")[0]
    assert len(error_id) == 8
    await another_completes(house, place, posts=1)


async def test_a_preparation_that_raises_once_is_tried_again_after_a_pause(
    house: House, place: Spoiled
) -> None:
    """The pause of decision 0023."""
    place.fails["prepare"] = lambda _asked: len(place.prepared) == 1
    house.drive(place)
    await house.submit(WITH_FILE)
    await place.until(lambda: len(place.prepared) == 1)
    await another_completes(house, place, posts=1)
    assert len(place.prepared) == 1
    house.ahead_s += RETRY_S
    house.drivers[0][0].work_arrived()
    await place.finish(await posted(place, 2))
    assert len(place.prepared) == 2


@pytest.mark.parametrize("step", ["before the POST", "after the POST"])
async def test_a_post_that_raises_is_looked_up_and_never_sent_again_blindly(
    house: House, place: Spoiled, step: str
) -> None:
    first = iter([True])
    place.fails[step] = lambda _asked: next(first, False)
    house.drive(place)
    job_id = await house.submit()
    if step == "after the POST":
        place.end_silently(await posted(place))
        assert await ended(house, job_id) == (JobStatus.COMPLETED, None)
        assert len(place.posted) == 1
    else:
        place.end_silently(await posted(place))  # of the second attempt: the engine never had the first
        assert await ended(house, job_id) == (JobStatus.COMPLETED, None)
        assert (await house.job(job_id)).attempt == 2


async def test_a_look_that_raises_for_one_prompt_finds_the_others(house: House, place: Spoiled) -> None:
    house.drive(place)
    bad, good = await house.submit(), await house.submit()
    spoiled, other = await posted(place), await posted(place, 2)
    place.fails["lookup"] = only(spoiled)
    place.end_silently(spoiled)
    place.end_silently(other)
    assert await ended(house, good) == (JobStatus.COMPLETED, None)
    assert await ended(house, bad) == INTERNAL
    await another_completes(house, place, posts=3)


async def test_a_cancel_that_raises_is_asked_again(house: House, place: Spoiled) -> None:
    house.drive(place)
    job_id = await house.submit()
    prompt = await posted(place)
    first = iter([True])
    place.fails["cancel"] = lambda _asked: next(first, False)
    await house.store.request_cancel(job_id, at=1, reason=None)
    assert await ended(house, job_id) == (JobStatus.CANCELLED, None)
    assert place.cancels == [prompt]


STEPS = [
    (Attempt, "settle"),
    (Attempt, "told_result"),
    (Attempt, "start"),
    (Attempt, "report_progress"),
    (Attempt, "written"),
    (Attempt, "hear"),
    (Ends, "of_result"),
    (Ledger, "settle"),
    (Ledger, "_write"),
    (Ledger, "_measured"),
    (Hearing, "_seen"),
    (Hearing, "_over"),
    (Hearing, "_looked"),
    (Hearing, "_submitted"),
]


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize(("owner", "name"), STEPS)
async def test_whatever_step_of_an_attempt_raises_the_others_end(
    house: House, place: Spoiled, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, nth: int
) -> None:
    """From the n-th call on, for the first job alone."""
    victims: set[PromptId] = set()
    calls = 0
    original = getattr(owner, name)

    def spoil(*args: Any, **more: Any) -> Any:
        nonlocal calls
        attempt = next((each for each in args if isinstance(each, Attempt)), None)
        if attempt is not None and attempt.prompt_id in victims and not attempt.settled:
            calls += 1
            if calls >= nth:
                raise Defect(name)
        return original(*args, **more)

    monkeypatch.setattr(owner, name, spoil)
    house.drive(place)
    bad, good = await house.submit(), await house.submit()
    spoiled, other = await posted(place), await posted(place, 2)
    victims.add(spoiled)
    for prompt in (spoiled, other):
        await place.start(prompt)
        await place.say(
            NodeStarted(prompt_id=prompt, node=NodeId("2")),
            NodeExecuted(prompt_id=prompt, node=NodeId("2"), outputs=(PICTURE,)),
            PromptSucceeded(prompt_id=prompt),
        )
        await place.finish(prompt)
    assert await ended(house, good) == (JobStatus.COMPLETED, None)
    assert await ended(house, bad) in (INTERNAL, (JobStatus.COMPLETED, None))
    await another_completes(house, place, posts=3)


async def test_an_event_that_cant_be_applied_is_as_good_as_missed(
    house: House, place: Spoiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Attempt.hear

    def spoil(self: Attempt, event: Any, **more: Any) -> None:
        if isinstance(event, NodeStarted):
            raise Defect
        original(self, event, **more)

    monkeypatch.setattr(Attempt, "hear", spoil)
    house.drive(place)
    job_id = await house.submit()
    prompt = await posted(place)
    await place.start(prompt)
    await place.say(
        *[NodeStarted(prompt_id=prompt, node=NodeId("2"))] * 100, PromptSucceeded(prompt_id=prompt)
    )
    looked = place.lookups
    await place.finish(prompt)
    assert (await house.final(job_id)).status is JobStatus.COMPLETED
    assert place.lookups > looked


# ------------------------------------------------------------------------------ answers that can't be read


async def test_an_end_that_cant_be_read_is_the_one_that_the_events_told(house: House, place: Spoiled) -> None:
    house.drive(place)
    job_id = await house.submit()
    prompt = await posted(place)
    place.unreadable.add(prompt)
    await place.start(prompt)
    await place.say(
        NodeExecuted(prompt_id=prompt, node=NodeId("2"), outputs=(PICTURE,)),
        FrameLost(type="executed"),
        PromptSucceeded(prompt_id=prompt),
    )
    await place.finish(prompt)
    assert await ended(house, job_id) == (JobStatus.COMPLETED, None)
    assert (await house.job(job_id)).output_count == 1


async def test_without_a_word_of_the_events_it_fails_and_keeps_what_was_heard_of(
    house: House, place: Spoiled
) -> None:
    house.drive(place)
    job_id = await house.submit()
    prompt = await posted(place)
    place.unreadable.add(prompt)
    await place.start(prompt)
    await place.say(NodeExecuted(prompt_id=prompt, node=NodeId("2"), outputs=(PICTURE,)))
    place.end_silently(prompt)
    looked = place.lookups
    assert await ended(house, job_id) == (JobStatus.FAILED, FailureKind.ENGINE_BAD_ANSWER)
    job = await house.job(job_id)
    assert job.failure is not None
    assert "larger than all the world" in job.failure.message
    assert job.output_count == 1
    assert place.lookups - looked <= MAX_CONCLUDE_TRIES + 1
    await another_completes(house, place, posts=2)


async def test_an_answer_that_is_unreadable_once_is_asked_for_again(house: House, place: Spoiled) -> None:
    house.drive(place)
    job_id = await house.submit()
    prompt = await posted(place)
    place.unreadable.add(prompt)
    looked = place.lookups
    place.end_silently(prompt)
    await place.until(lambda: place.lookups > looked)
    place.unreadable.clear()
    assert await ended(house, job_id) == (JobStatus.COMPLETED, None)


async def test_an_engine_of_which_nothing_can_be_read_ends_what_the_events_have_told_only(
    house: House, place: Spoiled
) -> None:
    house.drive(place)
    told, untold = await house.submit(), await house.submit()
    first, second = await posted(place), await posted(place, 2)
    place.nothing_readable = True
    await place.start(first)
    await place.say(FrameLost(type="x"), PromptSucceeded(prompt_id=first))
    await place.finish(first)
    place.end_silently(second)
    assert await ended(house, told) == (JobStatus.COMPLETED, None)
    assert not (await house.job(untold)).is_final
    place.nothing_readable = False
    assert await ended(house, untold) == (JobStatus.COMPLETED, None)


# --------------------------------------------------------------------------------- an end without the engine


@pytest.mark.parametrize("down", [True, False])
async def test_a_cancel_ends_the_job_here_whatever_the_engine_says(
    house: House, place: Spoiled, down: bool
) -> None:
    """It does not answer at all, or says for ever that it runs."""
    house.drive(place)
    job_id = await house.submit()
    prompt = await posted(place)
    await place.start(prompt)
    await house.until(job_id, lambda job: job.status is JobStatus.RUNNING)
    place.down, place.on_cancel = down, lambda _prompt: None
    await house.store.request_cancel(job_id, at=1, reason=None)
    await place.until(lambda: prompt in place.cancels)
    house.ahead_s += STOP_LIMIT_S / 2
    await asyncio.sleep(0.05)
    assert not (await house.job(job_id)).is_final
    house.ahead_s += STOP_LIMIT_S
    assert await ended(house, job_id) == (JobStatus.CANCELLED, None)
    before = len(place.cancels)
    await place.until(lambda: len(place.cancels) > before or before > 2)  # it is asked further times to stop
    place.down = False
    place.running.clear()
    await another_completes(house, place, posts=2)
