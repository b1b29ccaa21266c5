"""Bridges that come and go, and decide one after the other by what they see."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.engine_shares import EngineShares


def shares(held: dict[str, int], free: int, me: str) -> EngineShares:
    return EngineShares(me=me, held=held, free=free)


@pytest.mark.parametrize(
    ("held", "free", "excess"),
    [
        ({"a": 5}, 0, {"a": 0}),
        ({"a": 1, "b": 0}, 0, {"a": 0, "b": 0}),  # one engine stays where it is
        ({"a": 5, "b": 0}, 0, {"a": 2, "b": 0}),
        ({"a": 6, "b": 0, "c": 0}, 0, {"a": 4, "b": 0, "c": 0}),
        ({"a": 2, "b": 2, "c": 0}, 0, {"a": 0, "b": 1, "c": 0}),  # one of the two
        ({"a": 1, "b": 2, "c": 0}, 1, {"a": 0, "b": 0, "c": 0}),  # it takes the free one
        ({"a": 0, "b": 0}, 0, {"a": 0, "b": 0}),  # there is no engine
    ],
)
def test_what_is_beyond_a_share_is_given_up(held: dict[str, int], free: int, excess: dict[str, int]) -> None:
    assert {each: shares(held, free, each).excess for each in held} == excess


@pytest.mark.parametrize(
    ("held", "free", "takes", "after_waiting"),
    [
        ({"a": 0}, 3, True, True),
        ({"a": 1, "b": 0}, 3, True, True),
        ({"a": 2, "b": 0}, 2, False, False),
        ({"a": 1, "b": 0}, 2, False, True),  # three engines: b is to have one before a has two
        ({"a": 0, "b": 0}, 1, True, True),
        ({"a": 1, "b": 1}, 1, True, True),
    ],
)
def test_what_is_free_is_taken_up_to_a_share(
    held: dict[str, int], free: int, takes: bool, after_waiting: bool
) -> None:
    mine = shares(held, free, "a")
    assert (mine.may_take(waited=False), mine.may_take(waited=True)) == (takes, after_waiting)


def turn(held: dict[str, int], engines: int, waited: set[str], me: str) -> bool:
    """A bridge's turn: it takes what it may and gives up what it has to. Whether it did anything."""
    before = held[me]
    while (free := engines - sum(held.values())) and shares(held, free, me).may_take(waited=me in waited):
        held[me] += 1
    if free and held[me] == before:
        waited.add(me)
    else:
        waited.discard(me)
    held[me] -= shares(held, engines - sum(held.values()), me).excess
    return held[me] != before


@given(
    engines=st.integers(0, 40),
    comings=st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=20),
    data=st.data(),
)
def test_whoever_comes_and_goes_each_has_an_equal_part_after_a_while_and_nothing_moves_then(
    engines: int, comings: list[str], data: st.DataObject
) -> None:
    held: dict[str, int] = {}
    waited: set[str] = set()
    for name in comings:
        if held.pop(name, None) is None:
            held[name] = 0
        for me in data.draw(st.permutations(sorted(held))):  # some only have their turn before the next comes
            turn(held, engines, waited, me)
    if not held:
        return
    order = data.draw(st.permutations(sorted(held)))
    rounds = 0
    while sum(turn(held, engines, waited, me) for me in order) or sum(held.values()) < engines:
        rounds += 1
        assert rounds <= 2 * len(held) + engines
    assert sum(held.values()) == engines
    assert max(held.values()) - min(held.values()) <= 1
