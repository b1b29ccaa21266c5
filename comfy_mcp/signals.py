"""The signals that ask a process to end."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP")


@contextmanager
def stopped_by_signals(stop: asyncio.Event) -> Iterator[None]:
    """Inside, a signal that asks for the end sets `stop` instead of ending the process at once."""
    loop = asyncio.get_running_loop()
    taken: list[int] = []
    for name in SIGNALS:
        number = getattr(signal, name, None)
        if number is None:
            continue
        with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
            loop.add_signal_handler(number, stop.set)
            taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)
