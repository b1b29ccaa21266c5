"""The clock of the bridge. Tests give their own."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """`now_ms` is for people and the store; `monotonic` (seconds) for every deadline inside a process."""

    now_ms: Callable[[], int]
    monotonic: Callable[[], float]


def system_clock() -> Clock:
    return Clock(now_ms=lambda: time.time_ns() // 1_000_000, monotonic=time.monotonic)
