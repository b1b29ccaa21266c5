"""The interpreter's own pauses: what a process that serves does about them."""

import asyncio
import gc
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from comfy_mcp import pauses
from comfy_mcp.pauses import (
    BUSY,
    CALM,
    ENOUGH,
    LITTLE,
    MANY,
    PATIENT,
    SWITCH_S,
    enough_after,
    is_due,
    short_pauses,
)

NEW_OBJECTS = 7_000
"""For each young collection: 700 for one of the very youngest, of which ten make one."""


def test_a_full_collection_waits_until_little_happens() -> None:
    assert not is_due(ENOUGH - 1, 0, ENOUGH), "not worth it"
    assert is_due(ENOUGH, CALM, ENOUGH)
    assert not is_due(ENOUGH, CALM, PATIENT), "the last one was not worth it"
    assert not is_due(PATIENT, CALM + 1, PATIENT), "much happens"
    assert not is_due(BUSY * PATIENT - 1, 100, PATIENT)
    assert is_due(BUSY * PATIENT, 100, PATIENT), "but not for ever"
    assert is_due(BUSY * ENOUGH, 100, ENOUGH), "and sooner where there is garbage"


def test_a_full_collection_that_found_little_is_followed_by_one_much_later() -> None:
    assert enough_after(ENOUGH, LITTLE * ENOUGH - 1, MANY) == PATIENT
    assert enough_after(ENOUGH, LITTLE * ENOUGH, MANY) == ENOUGH, "there was garbage"
    assert enough_after(ENOUGH, 0, MANY - 1) == ENOUGH, "it was short"


@pytest.fixture(autouse=True)
def _frozen_as_before() -> Iterator[None]:
    """The process that runs the tests walks none of them, see conftest.py."""
    was_frozen = gc.get_freeze_count() > 0
    yield
    if was_frozen:
        gc.freeze()


@pytest.mark.parametrize("frozen_before", [False, True])
async def test_while_it_serves_no_full_collection_comes_by_itself(frozen_before: bool) -> None:
    (gc.freeze if frozen_before else gc.unfreeze)()
    switch_s, thresholds = sys.getswitchinterval(), gc.get_threshold()
    async with short_pauses():
        assert sys.getswitchinterval() == pytest.approx(SWITCH_S)
        assert gc.get_freeze_count() > 10_000
        full = gc.get_stats()[2]["collections"]
        kept = [[each] for each in range(300_000)]  # what Python would begin several for
        assert gc.get_stats()[2]["collections"] == full
        assert len(kept) == 300_000
    assert sys.getswitchinterval() == pytest.approx(switch_s)
    assert gc.get_threshold() == thresholds
    assert (gc.get_freeze_count() > 0) is frozen_before


async def test_what_is_garbage_is_collected_when_it_is_calm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "LOOK_S", 0.0)
    monkeypatch.setattr(pauses, "ENOUGH", 0)
    collected = asyncio.Event()

    def heard(phase: str, info: dict[str, Any]) -> None:
        if phase == "stop" and info["generation"] == 2:
            collected.set()

    gc.callbacks.append(heard)
    try:
        async with asyncio.timeout(20), short_pauses():
            await collected.wait()
    finally:
        gc.callbacks.remove(heard)


class _Connection:
    """As those of asyncio: it is reached from what it reaches, so only a collection frees it."""

    def __init__(self, size: int) -> None:
        self.itself = self
        self.objects: list[list[object]] = [[] for _ in range(size)]


async def test_connections_that_come_and_go_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were open long enough to be no young garbage."""
    monkeypatch.setattr(pauses, "LOOK_S", 0.0)
    monkeypatch.setattr(pauses, "REST", 0)
    monkeypatch.setattr(pauses, "MANY", 0)
    alive: weakref.WeakSet[_Connection] = weakref.WeakSet()
    crowd, size, most = 50, 1_000, 0
    async with asyncio.timeout(120), short_pauses():
        stays = [_Connection(size) for _ in range(200)]
        await asyncio.sleep(0)  # a busy step
        await asyncio.sleep(0)  # two calm ones: a collection finds nothing, and the next comes later
        await asyncio.sleep(0)
        for _ in range(40):
            connections = [_Connection(size) for _ in range(crowd)]
            alive.update(connections)
            gc.collect(1)  # they are old now
            await asyncio.sleep(0)
            del connections
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            most = max(most, len(alive))
    assert len(stays) == 200
    patient = PATIENT * NEW_OBJECTS // size
    assert 2 * crowd < most <= patient + 2 * crowd, "of 2,000"
