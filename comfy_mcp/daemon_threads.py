"""Calls that may never return: each on a thread of its own, so it takes nobody else's and delays no exit."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar, cast

T = TypeVar("T")


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
