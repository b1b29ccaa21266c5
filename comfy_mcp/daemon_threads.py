"""Calls that may never return: each on a thread of its own, so it takes nobody else's and delays no exit."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar, cast

T = TypeVar("T")

AT_ONCE = 16
"""Calls on one thing: it may be slow, and still has something to do for several."""


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

    threading.Thread(target=work, name=name, daemon=True).start()
    return future


class Apart:
    """Calls on one thing that may hang, as a folder of a network: `at_once` of them, each for `limit_s`."""

    def __init__(self, name: str, *, limit_s: float, at_once: int = AT_ONCE) -> None:
        self._name = name
        self._limit_s = limit_s
        self._room = asyncio.Semaphore(at_once)

    async def do(self, call: Callable[[], T], *, late: Callable[[T], None] = lambda _: None) -> T:
        """What `call()` returns or raises; `late` gets what it returns when nobody waits any more.

        Raises TimeoutError, also where `at_once` others hang.
        """
        waits = True

        def ended(found: asyncio.Future[T]) -> None:
            self._room.release()
            if found.exception() is None and not waits:
                late(found.result())

        try:
            async with asyncio.timeout(self._limit_s):
                await self._room.acquire()
                found = on_daemon_thread(call, name=self._name)
                found.add_done_callback(ended)
                await asyncio.wait({found})
                return found.result()
        finally:
            waits = False
