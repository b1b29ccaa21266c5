"""A defect, or an answer that can't be read, ends the job that it is about; the others go on."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from comfy_mcp.domain.deadlines import STOP_LIMIT_S
from comfy_mcp.domain.errors import EngineBadAnswer, ErrorCode, StoreFault
from comfy_mcp.domain.events import (
    FailureKind,
    FrameLost,
    JobEvent,
    JobFailed,
    NodeExecuted,
    NodeStarted,
    PromptSucceeded,
)
from comfy_mcp.domain.extra_data import ExtraData
from comfy_mcp.domain.ids import JobId, NodeId, PromptId
from comfy_mcp.domain.job import JobStatus
from comfy_mcp.driving.attempt import Attempt
from comfy_mcp.driving.containment import MAX_CONCLUDE_TRIES, RETRY_S
from comfy_mcp.driving.hearing import Hearing
from comfy_mcp.driving.ledger import Ledger
from comfy_mcp.places.protocol import Accepted, PromptView, PromptWhere, Rejected
from comfy_mcp.store import Lease, Store
from tests.driving.conftest import WITH_FILE, House
from tests.support.scripted_place import PICTURE, ScriptedPlace


class Defect(Exception):
    """What nobody foresaw."""


class Spoiled(ScriptedPlace):
    """Fails on chosen prompts: in `prepare`, `submit`, `lookup` or `cancel`."""

    def __init__(self) -> None:
        super().__init__()
        self.fails: dict[str, Callable[[Sequence[PromptId]], bool]] = {}
        self.unreadable: set[PromptId] = set()
        self.nothing_readable = False
        self.first: PromptId | None = None

    def _maybe(self, step: str, *prompts: PromptId) -> None:
        if step in self.fails and self.fails[step](prompts):
            raise Defect(step)

    async def prepare(self, graph: Mapping[str, Any]) -> Mapping[str, Any]:
        ready = await super().prepare(graph)
        self._maybe("prepare")
        return ready

    async def submit(
        self, prompt_id: PromptId, graph: Mapping[str, Any], extra_data: ExtraData | None = None
    ) -> Accepted | Rejected:
        self._maybe("before the POST", prompt_id)
        answer = await super().submit(prompt_id, graph, extra_data)
        self._maybe("after the POST", prompt_id)
        return answer

    async def lookup(self, prompt_ids: Sequence[PromptId]) -> Mapping[PromptId, PromptView]:
        views = dict(await super().lookup(prompt_ids))
        self._maybe("lookup", *prompt_ids)
        if self.nothing_readable:
            raise EngineBadAnswer("Nothing can be read.", next_step="")
        for prompt_id in self.unreadable.intersection(prompt_ids):
            views[prompt_id] = PromptView(
                where=PromptWhere.UNREADABLE, fault="It is larger than all the world."
            )
        return views

    async def cancel(self, prompt_id: PromptId) -> None:
        self._maybe("cancel", prompt_id)
        await super().cancel(prompt_id)


@pytest.fixture
def place() -> Spoiled:
    return Spoiled()


async def posted(place: ScriptedPlace, count: int = 1) -> PromptId:
    await place.until(lambda: len(place.posted) >= count)
    return place.posted[count - 1]


async def hurry(house: House, job_id: JobId, by_s: float = RETRY_S) -> None:
    """Until it is final, while time flies."""
    while not (await house.job(job_id)).is_final:
        house.ahead_s += by_s
        for driver, _ in house.drivers:
            driver.work_arrived()
        await asyncio.sleep(0.01)


async def ended(house: House, job_id: JobId) -> tuple[JobStatus, FailureKind | None]:
    async with asyncio.timeout(20):
        await hurry(house, job_id)
    job = await house.job(job_id)
    return job.status, job.failure.kind if job.failure else None


INTERNAL = (JobStatus.FAILED, FailureKind.INTERNAL)


async def another_completes(house: House, place: Spoiled, *, posts: int) -> None:
    """The tenure goes on: the same one, with the next job."""
    job_id = await house.submit()
    prompt = await posted(place, posts)
    await place.start(prompt)
    await place.finish(prompt)
    assert (await house.final(job_id)).status is JobStatus.COMPLETED
    lease = await house.store.lease_of(place.engine)
    assert lease is not None
    assert lease.fence == 1


def only(prompt: PromptId) -> Callable[[Sequence[PromptId]], bool]:
    return lambda asked: prompt in asked


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
    (Ledger, "outcome"),
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


# ---------------------------------------------------------------------------------- writes that are refused


class Picky:
    """A store that refuses what it is told to."""

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
