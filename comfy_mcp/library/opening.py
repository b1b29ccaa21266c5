"""Opens files on a thread. A caller that is cancelled meanwhile leaves none open behind."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def opened(open_it: Callable[[], T], late: Callable[[T], object]) -> T:
    """What `open_it()` returns or raises; `late` gets what it returns when nobody waits any more."""
    opening = asyncio.get_running_loop().run_in_executor(None, open_it)

    def not_wanted(done: "asyncio.Future[T]") -> None:
        if not done.cancelled() and done.exception() is None:
            late(done.result())

    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(not_wanted)
        raise
