"""Questions to an engine that may never be answered."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from comfy_mcp.domain.errors import EngineUnreachable, NotFound
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.places.comfyui import patience
from comfy_mcp.places.comfyui.contact import Contact
from comfy_mcp.places.comfyui.patience import LATE_S, Patience
from comfy_mcp.places.protocol import NotAnswered


class Clock:
    """The real one, ahead by `now`."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Engine:
    """Answers a question when the test says so. `asked`: how often it was."""

    def __init__(self, contact: Contact) -> None:
        self.asked = 0
        self.answers: asyncio.Queue[str | Exception | None] = asyncio.Queue()
        self._contact = contact

    async def question(self) -> str | None:
        self.asked += 1
        with self._contact.asking():
            answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def contact(clock: Clock) -> Contact:
    return Contact(clock)


@pytest.fixture
def engine(contact: Contact) -> Engine:
    return Engine(contact)


@pytest.fixture
async def ask(contact: Contact, clock: Clock) -> AsyncIterator[Patience]:
    ask = Patience(EngineId("one"), contact, clock)
    yield ask
    await ask.close()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "ASK_S", 0.01)


async def test_an_answer_is_passed_on(ask: Patience, engine: Engine) -> None:
    engine.answers.put_nowait("yes")
    assert await ask.ask("a", engine.question) == "yes"
    engine.answers.put_nowait("again")
    assert await ask.ask("a", engine.question) == "again"


async def test_two_who_ask_the_same_ask_once(ask: Patience, engine: Engine) -> None:
    async with asyncio.TaskGroup() as group:
        both = [group.create_task(ask.ask("a", engine.question)) for _ in range(2)]
        await asyncio.sleep(0)
        engine.answers.put_nowait("yes")
    assert [each.result() for each in both] == ["yes", "yes"]
    assert engine.asked == 1


async def test_what_a_question_raises_is_its_callers(ask: Patience, engine: Engine) -> None:
    fault = NotFound("No such folder.", next_step="")
    engine.answers.put_nowait(fault)
    with pytest.raises(NotFound) as caught:
        await ask.ask("a", engine.question)
    assert caught.value is fault


@pytest.mark.usefixtures("hurried")
async def test_a_late_answer_is_there_for_the_next_caller(
    ask: Patience, engine: Engine, clock: Clock
) -> None:
    with pytest.raises(NotAnswered):
        await ask.ask("a", engine.question)
    engine.answers.put_nowait("late")
    await asyncio.sleep(0.01)
    assert await ask.ask("a", engine.question) == "late"
    assert engine.asked == 1
    engine.answers.put_nowait("new")
    assert await ask.ask("a", engine.question) == "new"


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("late", ["old", None, NotFound("Gone.", next_step="")])
async def test_a_late_answer_that_says_nothing_now_is_asked_for_again(
    ask: Patience, engine: Engine, clock: Clock, late: str | Exception | None
) -> None:
    with pytest.raises(NotAnswered):
        await ask.ask("a", engine.question)
    engine.answers.put_nowait(late)
    await asyncio.sleep(0.01)
    clock.now += LATE_S
    engine.answers.put_nowait("new")
    assert await ask.ask("a", engine.question) == "new"


@pytest.mark.usefixtures("hurried")
async def test_who_keeps_it_elsewhere_gets_no_late_answer(ask: Patience, engine: Engine) -> None:
    with pytest.raises(NotAnswered):
        await ask.ask("a", engine.question, keep=False)
    engine.answers.put_nowait("late")
    await asyncio.sleep(0.01)
    engine.answers.put_nowait("new")
    assert await ask.ask("a", engine.question, keep=False) == "new"


async def test_nobody_waits_for_an_engine_that_is_known_to_be_silent(
    ask: Patience, engine: Engine, clock: Clock
) -> None:
    """Another request has waited long enough: this one fails before any time has passed."""
    async with asyncio.TaskGroup() as group:
        other = group.create_task(engine.question())
        await asyncio.sleep(0)
        clock.now += 60
        with pytest.raises(NotAnswered, match="has not answered for 60 s"):
            await ask.ask("b", engine.question)
        other.cancel()


async def test_no_wait_lasts_for_ever_though_the_engine_says_other_things(
    ask: Patience, engine: Engine, clock: Clock, contact: Contact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "ASK_S", 5.0)
    monkeypatch.setattr(patience, "LONGEST_S", 100.0)

    async def says_other_things(_tasks: object, timeout: float) -> None:
        clock.now += timeout
        contact.received()
        await asyncio.sleep(0)

    monkeypatch.setattr(asyncio, "wait", says_other_things)
    with pytest.raises(NotAnswered):
        await ask.ask("a", engine.question)
    assert clock.now >= 99
    monkeypatch.undo()


async def test_who_asks_an_engine_that_is_removed_is_not_cancelled(ask: Patience, engine: Engine) -> None:
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(_refused(ask, engine))
        await asyncio.sleep(0)
        await ask.close()
    assert asking.result().next_step == "Try again."


async def _refused(ask: Patience, engine: Engine) -> EngineUnreachable:
    with pytest.raises(EngineUnreachable) as caught:
        await ask.ask("a", engine.question)
    return caught.value


@pytest.mark.usefixtures("hurried")
async def test_questions_are_bounded(ask: Patience, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "QUESTIONS", 3)
    for number in range(5):
        with pytest.raises(NotAnswered):
            await ask.ask(number, engine.question)
        await asyncio.sleep(0)
    assert engine.asked == 3


async def test_who_knows_that_an_answer_takes_long_has_more_patience(
    ask: Patience, engine: Engine, contact: Contact, clock: Clock
) -> None:
    with contact.asking():
        clock.now += 30.0
        engine.answers.put_nowait("late, and in time")
        assert await ask.ask("a", engine.question, patience_s=60.0) == "late, and in time"
