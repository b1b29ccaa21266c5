"""Calls that may never return: each on a thread of its own, so it takes nobody else's and delays no exit."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from queue import SimpleQueue
from typing import Protocol, TypeVar, cast

T = TypeVar("T")

AT_ONCE = 16
"""Calls on one thing: it may be slow, and still has something to do for several."""

IDLE = 16
"""Threads that are kept for the next call: to start one takes longer than most calls."""


class Closed(Protocol):
    """A file, or what else has to be closed."""

    def close(self) -> None: ...


F = TypeVar("F", bound=Closed)


class _Thread:
    """Makes one call after the other. It has none between two, and is then among the idle ones."""

    def __init__(self) -> None:
        self._calls = SimpleQueue[Callable[[], None]]()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def make(self, call: Callable[[], None], name: str) -> None:
        self._thread.name = name
        self._calls.put(call)

    def _work(self) -> None:
        while True:
            call = self._calls.get()
            call()
            del call  # and what it holds
            if len(_idle) >= IDLE:
                return
            self._thread.name = "idle"
            _idle.append(self)


_idle: list[_Thread] = []
"""Those of the process. What is appended and popped is so at once: no lock is needed."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # a forked process has none of the threads


def _thread() -> _Thread:
    try:
        return _idle.pop()
    except IndexError:
        return _Thread()


def on_daemon_thread(call: Callable[[], T], *, name: str) -> asyncio.Future[T]:
    """What `call()` returns or raises. A thread can't be interrupted: who waits sets the time limit."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast("T", result))

    def work() -> None:
        result: T | None = None
        fault: Exception | None = None
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - handed to whoever awaits the future
            fault = error
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, result, fault)

    _thread().make(work, name)
    return future


class Apart:
    """Calls on one thing that may hang, as a folder of a network: `at_once` of them, each for `limit_s`."""

    def __init__(self, name: str, *, limit_s: float, at_once: int = AT_ONCE) -> None:
        self._name = name
        self._limit_s = limit_s
        self._room = asyncio.Semaphore(at_once)

    async def do(self, call: Callable[[], T], *, late: Callable[[T], object] = lambda _: None) -> T:
        """What `call()` returns or raises; `late`, on its thread, gets what it returns when nobody waits
        any more.

        Raises TimeoutError, also where `at_once` others hang.
        """
        lock, made, given_up = threading.Lock(), list[T](), False

        def work() -> T:
            result = call()
            with lock:
                if not given_up:
                    made.append(result)
                    return result
            late(result)
            return result

        try:
            async with asyncio.timeout(self._limit_s):
                await self._room.acquire()
                found = on_daemon_thread(work, name=self._name)
                found.add_done_callback(self._left)
                await asyncio.wait({found})
                result = found.result()
                made.clear()  # the caller has it
                return result
        finally:
            with lock:
                given_up = True
            for each in made:  # its loop may end before it knows of them
                on_daemon_thread(partial(late, each), name=self._name)

    def _left(self, found: "asyncio.Future[T]") -> None:
        self._room.release()
        if not found.cancelled():
            found.exception()  # nobody may be left to ask for it

    @asynccontextmanager
    async def opened(self, open_it: Callable[[], F]) -> AsyncIterator[F]:
        """What `open_it()` opens, for the time of the context. Closing it may hang too: nobody waits for it.

        Raises what `do` raises.
        """
        file = await self.do(open_it, late=lambda late: late.close())
        try:
            yield file
        finally:
            on_daemon_thread(file.close, name=self._name)
