"""Whether an engine answers, by what was asked and received."""

import asyncio

import pytest

from comfy_mcp.domain.errors import EngineBadAnswer, EngineUnreachable
from comfy_mcp.places.comfyui.contact import PATIENCE_S, Contact
from comfy_mcp.places.comfyui.faults import TooSlow
from comfy_mcp.places.protocol import Silence


class Clock:
    def __init__(self) -> None:
        self.now = 1024.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def contact(clock: Clock) -> Contact:
    return Contact(clock)


def refused(contact: Contact) -> None:
    with pytest.raises(EngineUnreachable), contact.asking():
        raise EngineUnreachable(
            "Engine e, GET /queue: no connection (Connection refused)", next_step="Start it."
        )


def test_nothing_is_known_before_the_first_question(contact: Contact) -> None:
    assert (contact.silence(), contact.age()) == (None, None)


def test_an_answer_ends_a_silence(contact: Contact, clock: Clock) -> None:
    with contact.asking():
        clock.now += 0.125
    assert (contact.silence(), contact.age()) == (None, 0)
    clock.now += 60  # nobody asked since
    assert (contact.silence(), contact.age()) == (None, 60.0)
    refused(contact)
    clock.now += 31
    refused(contact)
    silence = contact.silence()
    assert silence is not None
    assert silence.seconds == pytest.approx(91)
    assert "Connection refused" in (silence.cause or "")
    assert contact.age() == 0
    contact.received()
    assert contact.silence() is None


def test_the_first_failure_counts_where_it_never_answered(contact: Contact, clock: Clock) -> None:
    refused(contact)
    clock.now += 5
    refused(contact)
    silence = contact.silence()
    assert silence is not None
    assert silence.seconds == 5


def test_a_request_that_waits_long_is_a_silence_and_a_frame_ends_it(contact: Contact, clock: Clock) -> None:
    contact.received()
    clock.now += 10
    with contact.asking():
        assert contact.silence() is None
        clock.now += PATIENCE_S
        assert contact.silence() == Silence(seconds=10 + PATIENCE_S, cause=None)
        contact.received()
        assert contact.silence() is None
        clock.now += PATIENCE_S
        assert contact.silence() == Silence(seconds=PATIENCE_S, cause=None)
    assert contact.silence() is None


def test_whatever_answers_is_no_silence(contact: Contact) -> None:
    with pytest.raises(EngineBadAnswer), contact.asking():
        raise EngineBadAnswer("Engine e, GET /queue: a login page", next_step="Log in.")
    assert contact.silence() is None
    assert contact.age() is not None


@pytest.mark.parametrize(("waited", "silent"), [(0.25, False), (1.5, True)])
def test_a_caller_that_gives_up_after_a_while_has_met_a_silence(
    contact: Contact, clock: Clock, waited: float, silent: bool
) -> None:
    def give_up() -> None:
        with contact.asking():
            clock.now += waited
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        give_up()
    assert (contact.silence() is not None) is silent


async def test_how_long_a_request_waits_without_any_word(contact: Contact, clock: Clock) -> None:
    assert contact.unanswered_s() == 0
    with contact.asking():
        clock.now += 2
        with contact.asking():
            clock.now += 1
            assert contact.unanswered_s() == 3
            contact.received()  # a frame of something else
            clock.now += 0.5
            assert contact.unanswered_s() == 0.5
    assert contact.unanswered_s() == 0


def test_it_was_heard_within_a_time(contact: Contact, clock: Clock) -> None:
    assert not contact.heard_within(5)
    contact.received()
    assert contact.heard_within(5)
    clock.now += 5
    assert not contact.heard_within(5)


def test_one_that_refuses_connections_is_told_from_one_that_hangs(contact: Contact, clock: Clock) -> None:
    refused(contact)
    found = contact.silence()
    assert found is not None
    assert not found.accepts
    with pytest.raises(TooSlow), contact.asking():
        raise TooSlow("Engine e, GET /queue: no answer in time.", next_step="Wait.")
    hanging = contact.silence()
    assert hanging is not None
    assert hanging.accepts
    refused(contact)
    contact.received()
    with contact.asking():
        clock.now += PATIENCE_S
        waits = contact.silence()
        assert waits is not None
        assert waits.accepts
