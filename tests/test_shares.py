"""Places and turns that clients share: whatever some do, there is room for another one."""

import asyncio
from collections import Counter, deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.errors import ErrorCode, LimitExceeded
from comfy_mcp.shares import Shares, Turns

CLIENTS = 4
MOVES = st.lists(
    st.tuples(st.integers(0, CLIENTS - 1), st.sampled_from([True, True, True, False])), max_size=400
)


@given(most=st.integers(1, 100), moves=MOVES)
def test_clients_that_take_all_they_can_leave_room_for_another(
    most: int, moves: list[tuple[int, bool]]
) -> None:
    shares, held = Shares(most, "things"), Counter[int]()
    for client, takes in moves:
        if takes:
            had_room = shares.has_room(str(client))
            try:
                shares.take(str(client))
            except LimitExceeded:
                assert not had_room
            else:
                assert had_room
                held[client] += 1
        elif held[client]:
            held[client] -= 1
            shares.give_back(str(client))
        busy = sum(count > 0 for count in held.values())
        free = most - held.total()
        assert free >= most // 2**busy
        assert shares.has_room("another") == (free > 0)
        assert shares.has_room(None) == (free > 0)
    for client, count in held.items():
        for _ in range(count):
            shares.give_back(str(client))
    assert not shares._held
    assert shares._free == most


def test_a_refusal_says_whose_the_places_are() -> None:
    shares = Shares(2, "things", code=ErrorCode.QUEUE_FULL, next_step="Wait.")
    with shares.place("ann"):
        with pytest.raises(LimitExceeded, match="You have 1 of the 2 places for things, and 1 are") as caught:
            shares.take("ann")
        assert (caught.value.code, caught.value.next_step) == (ErrorCode.QUEUE_FULL, "Wait.")
        with shares.place(None):
            for client in ("bob", None):
                with pytest.raises(LimitExceeded, match=r"All places for things are in use \(2\)"):
                    shares.take(client)
    assert shares.has_room("ann")


class Work:
    """Pieces of work of several clients, which run until they are let go."""

    def __init__(self, group: asyncio.TaskGroup, at_once: int = 1) -> None:
        self.began: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []
        self._group = group
        self._running: deque[asyncio.Event] = deque()
        self._turns = Turns(at_once)

    async def add(self, *clients: str) -> None:
        for client in clients:
            self.tasks.append(self._group.create_task(self._run(client)))
            await asyncio.sleep(0)

    async def end_one(self) -> None:
        self._running[0].set()
        for _ in range(5):
            await asyncio.sleep(0)

    async def _run(self, client: str) -> None:
        async with self._turns.turn(client):
            self.began.append(client)
            self._running.append(ended := asyncio.Event())
            try:
                await ended.wait()
            finally:
                self._running.remove(ended)


async def test_clients_take_turns_however_much_one_of_them_has() -> None:
    async with asyncio.TaskGroup() as group:
        work = Work(group)
        await work.add(*"aaaaabbc")
        for _ in range(8):
            await work.end_one()
    assert "".join(work.began) == "aabcabaa"


async def test_one_client_leaves_others_some_of_what_runs_at_once() -> None:
    async with asyncio.TaskGroup() as group:
        work = Work(group, at_once=4)
        await work.add(*"aaaa")
        assert "".join(work.began) == "aa"
        await work.add(*"bc")
        assert "".join(work.began) == "aabc"
        for _ in range(6):
            await work.end_one()
    assert sorted(work.began) == [*"aaaabc"]


async def test_work_that_is_cancelled_passes_its_turn_on() -> None:
    """Whether it waits, has just got its turn, or runs."""
    async with asyncio.TaskGroup() as group:
        work = Work(group)
        await work.add(*"aabc")
        work.tasks[1].cancel()
        work.tasks[2].cancel()
        await asyncio.sleep(0)
        work.tasks[0].cancel()  # the next one gets its turn
        await asyncio.sleep(0)
        work.tasks[3].cancel()  # and does not begin
        await asyncio.wait(work.tasks)
        await work.add("d")
        await work.end_one()
    assert "".join(work.began) == "ad"
    assert not work._turns._waiting
    assert work._turns._running._free == 1
