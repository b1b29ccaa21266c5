"""The interpreter's own pauses, kept short.

A full collection of garbage walks all objects that there are, and nothing else runs meanwhile: a third of a
second while a workflow of 50,000 nodes is in memory. Python begins one whenever a quarter more objects have
come, which is just then. Here it waits until little happens.

And a thread that computes hands the interpreter on after SWITCH_S. The loop asks for it at each system call,
some ten times for one request.
"""

import asyncio
import contextlib
import gc
import sys
import time
from collections.abc import AsyncIterator

SWITCH_S = 0.001
"""Python's own is five times as much."""

LOOK_S = 1.0
"""How often it is looked whether little happens."""

CALM = 1
"""Young collections within LOOK_S, of 7,000 new objects each: more of them is a lot of work."""

ENOUGH = 10
"""Young collections after which a full one is worth it: Python's own value."""

PATIENT, MANY, LITTLE = 100, 100_000, 700
"""The same where a full one walked MANY objects, which takes a while, and found LITTLE: less garbage for each
young collection, a tenth of its objects. 1,000 clients that begin to listen are 51 young collections."""

BUSY = 10
"""A process in which much happens all the time waits for this many times as many."""

REST = 100
"""A full collection is followed by this many times its length without another: at most one event in a hundred
meets one."""


@contextlib.asynccontextmanager
async def short_pauses() -> AsyncIterator[None]:
    """For the whole process, while the context is open and its loop runs. What there is at its start is never
    walked; nor is it later, where something was frozen before."""
    switch_s, thresholds, was_frozen = sys.getswitchinterval(), gc.get_threshold(), gc.get_freeze_count() > 0
    sys.setswitchinterval(SWITCH_S)
    gc.freeze()
    gc.set_threshold(*thresholds[:2], _NEVER)
    collector = _Collector(asyncio.get_running_loop())
    try:
        yield
    finally:
        collector.next_look.cancel()
        gc.set_threshold(*thresholds)
        if not was_frozen:
            gc.unfreeze()
        sys.setswitchinterval(switch_s)


_NEVER = 2**31 - 1


class _Collector:
    """Looks again and again whether to make a full collection."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._before = _young()
        self._enough = ENOUGH
        self.next_look = loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        began, now = time.thread_time(), _young()  # the wall clock of a busy machine adds more
        due = is_due(now, now - self._before, self._enough)
        if due:
            self._enough = enough_after(now, gc.collect(), len(gc.get_objects()))
        rest_s = REST * (time.thread_time() - began) if due else 0.0
        self._before = _young()
        self.next_look = self._loop.call_later(max(LOOK_S, rest_s), self._look)


def is_due(young: int, lately: int, enough: int) -> bool:
    """Whether to make a full collection after `young` young ones, of which some were made `lately`."""
    return young >= (enough if lately <= CALM else BUSY * enough)


def enough_after(young: int, found: int, alive: int) -> int:
    """Young collections until the next full one, where one after `young` of them has `found` so much garbage
    and left so much `alive`.

    Clients that connect are many new objects, and none of them is garbage until they disconnect.
    """
    return PATIENT if found < LITTLE * young and alive >= MANY else ENOUGH


def _young() -> int:
    """Young collections since the last full one."""
    return gc.get_count()[2]
