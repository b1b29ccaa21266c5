"""Calls that may never return, on threads of their own."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

from comfy_mcp.daemon_threads import Apart, on_daemon_thread

LIMIT_S = 10.0


async def test_what_a_call_returns_and_raises_comes_back() -> None:
    async with asyncio.timeout(LIMIT_S):
        assert await on_daemon_thread(lambda: threading.current_thread().name, name="its own") == "its own"
        with pytest.raises(ZeroDivisionError):
            await on_daemon_thread(lambda: 1 // 0, name="its own")


async def test_a_call_that_nobody_waits_for_any_more_disturbs_nobody() -> None:
    go_on, ended = threading.Event(), threading.Event()

    def call() -> None:
        go_on.wait(LIMIT_S)
        ended.set()
        raise OSError

    found = on_daemon_thread(call, name="slow")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await found
    go_on.set()
    assert await asyncio.to_thread(ended.wait, LIMIT_S)


def test_a_call_that_outlives_the_loop_disturbs_nobody() -> None:
    go_on = threading.Event()

    async def begin() -> None:
        on_daemon_thread(lambda: go_on.wait(LIMIT_S), name="slow")

    asyncio.run(begin())
    (thread,) = [each for each in threading.enumerate() if each.name == "slow"]
    go_on.set()
    thread.join(LIMIT_S)
    assert not thread.is_alive()


async def test_calls_that_hang_are_few_and_end_late_without_a_leak() -> None:
    """Those that follow are given up too; once the thing answers again, they are made."""
    go_on, begun, late = threading.Event(), [0], list[str]()

    def call() -> str:
        begun[0] += 1
        go_on.wait(LIMIT_S)
        return "opened"

    disk = Apart("slow", limit_s=0.05, at_once=3)
    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(given_up(disk.do(call, late=late.append)))
    assert (begun, late) == ([3], [])
    assert await asyncio.to_thread(int, "7") == 7
    go_on.set()
    async with asyncio.timeout(LIMIT_S):
        while len(late) < 3:
            await asyncio.sleep(0)
    for _ in range(5):
        assert await disk.do(call, late=late.append) == "opened"
    with pytest.raises(ZeroDivisionError):
        await disk.do(lambda: 1 // 0)
    assert late == ["opened"] * 3


async def given_up(asked: Coroutine[Any, Any, str]) -> None:
    with pytest.raises(TimeoutError):
        await asked
