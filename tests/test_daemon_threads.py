"""Calls that may never return, on threads of their own."""

import asyncio
import threading

import pytest

from comfy_mcp.daemon_threads import on_daemon_thread

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
