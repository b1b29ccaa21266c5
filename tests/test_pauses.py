"""The interpreter's own pauses: what a process that serves does about them."""

import asyncio
import gc
import sys
from typing import Any

import pytest

from comfy_mcp import pauses
from comfy_mcp.pauses import CALM, ENOUGH, MOST, SWITCH_S, is_due, short_pauses


def test_a_full_collection_waits_until_little_happens() -> None:
    assert not is_due(ENOUGH - 1, 0), "not worth it"
    assert is_due(ENOUGH, CALM)
    assert not is_due(ENOUGH, CALM + 1), "much happens"
    assert not is_due(MOST - 1, 100)
    assert is_due(MOST, 100), "but not for ever"


async def test_while_it_serves_no_full_collection_comes_by_itself() -> None:
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
    assert gc.get_freeze_count() == 0


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
