"""Whose bytes take long to parse waits for its turn: all such connections share a part of the loop's time."""

import asyncio
from collections import deque
from collections.abc import Callable
from time import thread_time

ROUND_S = 0.005
"""What they have together in each round of the loop."""


class TurnsToParse:
    """One for each server. A connection waits with one piece, and is not read meanwhile."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Callable[[], None]] = deque()
        self._planned = False

    def wait(self, parse: Callable[[], None]) -> None:
        """Have `parse` called in a later round, after those that wait already."""
        self._waiting.append(parse)
        self._plan()

    def _plan(self) -> None:
        if not self._planned:
            self._planned = True
            self._loop.call_soon(self._round)

    def _round(self) -> None:
        self._planned = False
        until = thread_time() + ROUND_S
        try:
            while self._waiting and thread_time() < until:
                self._waiting.popleft()()
        finally:
            if self._waiting:
                self._plan()
