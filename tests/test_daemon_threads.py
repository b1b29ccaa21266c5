"""Calls that may never return, on threads of their own."""

import asyncio
import os
import threading
import warnings
from collections.abc import Coroutine
from queue import SimpleQueue
from typing import Any

import pytest

from comfy_mcp import daemon_threads
from comfy_mcp.daemon_threads import IDLE, Apart, on_daemon_thread

LIMIT_S = 30.0


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

    late = SimpleQueue[bool]()

    async def begin() -> None:
        with pytest.raises(TimeoutError):
            await Apart("slow", limit_s=0.01).do(lambda: go_on.wait(LIMIT_S), late=late.put)

    asyncio.run(begin())
    (thread,) = [each for each in threading.enumerate() if each.name == "slow"]
    go_on.set()
    assert late.get(timeout=LIMIT_S), "nobody else closes what it opened"
    while thread.is_alive() and thread.name == "slow":
        pass

    async def another() -> int:
        return await on_daemon_thread(lambda: 7, name="quick")

    assert asyncio.run(another()) == 7


def test_what_the_loop_has_not_heard_of_as_it_ends_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread has opened it, and whoever asked is cancelled before the loop's next step."""
    monkeypatch.setattr(daemon_threads, "_idle", [])
    late = SimpleQueue[str]()

    async def ask() -> None:
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(Apart("disk", limit_s=LIMIT_S).do(lambda: "opened", late=late.put))
            await asyncio.sleep(0)
            while not daemon_threads._idle:  # the loop stands meanwhile
                pass
            asking.cancel()

    asyncio.run(ask())
    assert late.get(timeout=LIMIT_S) == "opened"


async def test_a_thread_makes_one_call_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few are kept, however many there were at once, and one whose call hangs is not asked again."""
    monkeypatch.setattr(daemon_threads, "_idle", [])
    hangs, go_on = threading.Event(), threading.Event()
    stuck = on_daemon_thread(lambda: hangs.wait(LIMIT_S), name="stuck")
    seen = set()
    for _ in range(50):
        seen.add(await on_daemon_thread(threading.get_ident, name="one"))
        await idle(1)
    assert len(seen) == 1
    many = [on_daemon_thread(lambda: go_on.wait(LIMIT_S), name="many") for _ in range(3 * IDLE)]
    go_on.set()
    for each in many:
        assert await each
    await idle(IDLE)
    hangs.set()
    assert await stuck


async def idle(count: int) -> None:
    async with asyncio.timeout(LIMIT_S):
        while len(daemon_threads._idle) != count:
            await asyncio.sleep(0)


async def test_a_file_is_closed_though_nobody_waits_for_its_opening() -> None:
    go_on, closed = threading.Event(), asyncio.Queue[str]()
    loop = asyncio.get_running_loop()

    class File:
        def close(self) -> None:
            loop.call_soon_threadsafe(closed.put_nowait, threading.current_thread().name)

    def slow() -> File:
        go_on.wait(LIMIT_S)
        return File()

    disk = Apart("disk", limit_s=0.05)
    with pytest.raises(TimeoutError):
        async with disk.opened(slow):
            pass
    assert closed.empty()
    go_on.set()
    async with asyncio.timeout(LIMIT_S):
        assert await closed.get() == "disk"
    with pytest.raises(ZeroDivisionError):
        async with disk.opened(slow):
            raise ZeroDivisionError
    async with asyncio.timeout(LIMIT_S):
        assert await closed.get() == "disk", "closing may hang too: not on the loop"


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


async def test_a_forked_process_starts_threads_of_its_own() -> None:
    async with asyncio.timeout(LIMIT_S):
        await on_daemon_thread(lambda: None, name="its own")
        while not daemon_threads._idle:
            await asyncio.sleep(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of a fork beside threads
        child = os.fork()
    if child == 0:
        os._exit(len(daemon_threads._idle))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert daemon_threads._idle
