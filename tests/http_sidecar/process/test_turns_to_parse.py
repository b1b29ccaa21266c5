"""Connections whose bytes take long to parse share a part of each round of the loop."""

import asyncio

import pytest

from http_sidecar.process import turns_to_parse
from http_sidecar.process.turns_to_parse import TurnsToParse


async def rounds(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_all_get_their_turn_in_order_and_others_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1_000))
    monkeypatch.setattr(turns_to_parse, "thread_time", lambda: next(clock))
    monkeypatch.setattr(turns_to_parse, "ROUND_S", 2)  # looks at the clock: one parse a round
    turns, parsed = TurnsToParse(asyncio.get_running_loop()), list[int]()
    for number in range(3):
        turns.wait(lambda number=number: parsed.append(number))  # type: ignore[misc]
    assert parsed == [], "not at once"
    for expected in ([0], [0, 1], [0, 1, 2]):
        await rounds(1)
        assert parsed == expected
    turns.wait(lambda: parsed.append(3))
    await rounds(2)
    assert parsed == [0, 1, 2, 3]


async def test_one_that_fails_holds_up_no_other() -> None:
    loop, turns, parsed = asyncio.get_running_loop(), TurnsToParse(asyncio.get_running_loop()), list[int]()
    failed: list[object] = []
    loop.set_exception_handler(lambda _, context: failed.append(context["exception"]))
    turns.wait(lambda: parsed.append(1 // 0))
    turns.wait(lambda: parsed.append(1))
    await rounds(3)
    assert (parsed, len(failed)) == ([1], 1)


async def test_one_that_waits_again_while_it_is_parsed_has_its_turn() -> None:
    turns, parsed = TurnsToParse(asyncio.get_running_loop()), list[int]()

    def again() -> None:
        parsed.append(1)
        turns.wait(lambda: parsed.append(2))

    turns.wait(again)
    await rounds(3)
    assert parsed == [1, 2]
