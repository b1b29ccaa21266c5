"""Bounded fan-out of the store's event log inside one process.

There is one order: that of `seq` in the log. What this process commits comes from the store together with its
place: when it follows what was handed out last, it is handed out at once. Otherwise somebody else wrote in
between, and the log is read. What other processes write is found by polling the database's change counter.
So every process sees the same events in the same order, whoever wrote them.

Steps of progress are not in the log. Those of this process's jobs are handed out as they come, between the
events; those of other processes' jobs when the log is read, as far as the jobs' rows tell them.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import structlog

from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.domain.events import CancelRequested, JobEvent, JobProgressed, StoredEvent
from comfy_mcp.domain.ids import JobId

log = structlog.get_logger(__name__)

READ_LIMIT = 500
"""Most events that one read of the store returns."""

POLL_S = 0.025
"""Pause between two reads of the database's change counter: how late a process learns what another wrote."""

STEPS_S = 0.25
"""Pause between two reads of how far the jobs of other processes are: these write it once a second."""

COMMITS_KEPT = 64
"""Commits of this process that wait to be handed out. Beyond it the oldest go: the log still has them."""


class EventLog(Protocol):
    """What the hub needs of the store."""

    async def events_after(
        self, seq: int, *, job_id: JobId | None = None, limit: int = 500
    ) -> list[StoredEvent]: ...
    async def last_seq(self) -> int: ...
    def data_version(self) -> int: ...
    def on_change(self, callback: Callable[[], None]) -> bool: ...
    async def others_steps(self) -> tuple[int, list[JobProgressed]]: ...
    def on_commit(self, callback: Callable[[Sequence[StoredEvent]], None]) -> None: ...


class Subscription:
    """One reader's bounded buffer. When it overflows the oldest events go and `overflowed` turns True:
    the reader takes a snapshot instead of replaying. Nobody ever waits for a slow reader."""

    def __init__(self, buffer: int, *, only_ends: bool = False) -> None:
        self._only_ends = only_ends
        self._events: deque[StoredEvent] = deque(maxlen=buffer)
        self._wake = asyncio.Event()
        self.overflowed = False
        self.ended = False

    async def changed(self) -> list[StoredEvent]:
        """Wait for at least one event and return all that have come, oldest first. Once `ended` it waits no
        more, and returns what has come, if anything."""
        await self._wake.wait()
        if not self.ended:
            self._wake.clear()
        taken = list(self._events)
        self._events.clear()
        return taken

    @property
    def waiting(self) -> Collection[StoredEvent]:
        """What the reader has not read yet."""
        return self._events

    def end(self) -> None:
        """Nobody waits on it any more, now or later."""
        self.ended = True
        self._wake.set()

    def offer(self, event: StoredEvent) -> bool:
        """False when an older event had to go for it."""
        if self._only_ends and not event.is_final:
            return True
        room = len(self._events) != self._events.maxlen
        if not room:
            self.overflowed = True
        self._events.append(event)
        self._wake.set()
        return room


class Hub:
    """Follows the log once for the whole process and hands each event to every subscriber."""

    def __init__(
        self, store: EventLog, *, poll_s: float = POLL_S, on_drop: Callable[[], None] = lambda: None
    ) -> None:
        """`on_drop` is called for each event that a slow subscriber lost."""
        self._store = store
        self._poll_s = poll_s
        self._on_drop = on_drop
        self._subscriptions: dict[JobId | None, dict[Subscription, None]] = {}
        """By their job, so that an event passes by all who wait for others; None: of all."""
        self._listeners: list[Callable[[StoredEvent], None]] = []
        self._committed: deque[Sequence[StoredEvent]] = deque(maxlen=COMMITS_KEPT)
        self._woken = asyncio.Event()
        self._runs = False
        self._polls = True
        self._timer: asyncio.TimerHandle | None = None
        self._looked_at = 0.0
        self._seq = 0
        self._version = -1
        self._behind = False
        """The log has events of others."""
        self._steps: dict[JobId, StoredEvent] = {}
        self._steps_at = float("-inf")
        """When those of other processes are read again, if they may have changed."""
        self._steps_changed = False

    @contextlib.contextmanager
    def subscribe(
        self, *, job_id: JobId | None = None, buffer: int = 1024, only_ends: bool = False
    ) -> Iterator[Subscription]:
        """Events from now on, of one job or of all, while the context is open. `only_ends`: those after which
        a job does nothing more."""
        subscription = Subscription(buffer, only_ends=only_ends)
        same = self._subscriptions.setdefault(job_id, {})
        same[subscription] = None
        try:
            yield subscription
        finally:
            del same[subscription]
            if not same:
                del self._subscriptions[job_id]

    def listen(self, listener: Callable[[StoredEvent], None]) -> None:
        """Call `listener` for every event, in order, on the event loop. It must be quick and not raise."""
        self._listeners.append(listener)

    @property
    def seq(self) -> int:
        """Of the newest event handed out: a subscription made now brings what comes after it."""
        return self._seq

    @property
    def subscribers(self) -> int:
        return sum(map(len, self._subscriptions.values()))

    def steps(self, job_id: JobId | None) -> list[StoredEvent]:
        """The last step of progress, of one job or of all that run: a replay of the log does not bring it."""
        known = self._steps.values() if job_id is None else filter(None, [self._steps.get(job_id)])
        return [stored for stored in known if stored.volatile]

    async def open(self) -> None:
        """Start at the end of the log. Raises StoreFault."""
        self._seq = await self._store.last_seq()
        self._store.on_commit(self._own)

    async def run(self) -> None:
        """Follow the log until cancelled. A store that fails is tried again, for ever."""
        self._runs = True
        self._polls = not self._store.on_change(self._look_soon)
        self._look_soon()
        try:
            while True:
                await self._woken.wait()
                self._woken.clear()
                if not self._follow_own() or self._behind:
                    self._behind = False
                    with self._again_if_it_fails():
                        await self._read()
                if self._steps_changed and self._are_due():
                    with self._again_if_it_fails():
                        await self._read_steps()
                elif self._steps_changed:
                    self._look_for_steps()
        finally:
            self._runs = False  # the store may still say that somebody has committed
            if self._timer is not None:
                self._timer.cancel()

    def _own(self, events: Sequence[StoredEvent]) -> None:
        if self._committed or not self._follows(events):
            self._committed.append(events)
            self._woken.set()
            return
        for event in events:
            self._hand_out(event)

    def _follows(self, events: Sequence[StoredEvent]) -> bool:
        """Whether nothing of the log lies between what was handed out last and these."""
        first = next((event.seq for event in events if not event.volatile), 0)
        return first <= self._seq + 1

    def _look_soon(self) -> None:
        """However much is committed, the log is not read more often than each `poll_s`."""
        self._look_at(self._looked_at + self._poll_s)

    def _look_at(self, when: float) -> None:
        """Then, or earlier."""
        if not self._runs:
            return
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._look)

    def _look(self) -> None:
        """Wake the reader if somebody else has committed. Where the store does not say so, it is looked for
        all the time. It is one step of the loop: an idle process does little else, 40 times a second."""
        self._looked_at, self._timer = asyncio.get_running_loop().time(), None
        with self._again_if_it_fails():
            version = self._store.data_version()
            if version != self._version:
                self._version, self._behind = version, True
                self._steps_changed = True
        if self._behind or (self._steps_changed and self._are_due()):
            self._woken.set()
        elif self._steps_changed:
            self._look_for_steps()
        if self._polls:
            self._look_soon()

    def _look_for_steps(self) -> None:
        """Once they are due."""
        if self._subscriptions:
            self._look_at(max(self._steps_at, self._looked_at + self._poll_s))

    @contextlib.contextmanager
    def _again_if_it_fails(self) -> Iterator[None]:
        """The next look then reads the log, whatever has changed."""
        try:
            yield
        except StoreFault as fault:
            log.warning("event_log_unreadable", code=fault.code.value, error=str(fault))
            self._read_again()

    def _read_again(self) -> None:
        self._version = -1
        self._look_soon()

    def _follow_own(self) -> bool:
        """Hand out what this process has committed. False: something before it is only in the log."""
        while self._committed:
            events = self._committed.popleft()
            if not self._follows(events):
                self._committed.clear()  # the log has all of it
                return False
            for event in events:
                self._hand_out(event)
        return True

    async def _read(self) -> None:
        while True:
            events = await self._store.events_after(self._seq, limit=READ_LIMIT)
            for event in events:
                self._hand_out(event)
            if len(events) < READ_LIMIT:
                break

    def _are_due(self) -> bool:
        """The steps of other processes: somebody follows, and they were not read just now."""
        return bool(self._subscriptions) and asyncio.get_running_loop().time() >= self._steps_at

    async def _read_steps(self) -> None:
        """What other processes have written of the progress of their jobs."""
        self._steps_changed = False
        seq, steps = await self._store.others_steps()
        if seq != self._seq:  # a step must come neither before the events before it, nor after its job's end
            self._read_again()
            return
        self._steps_at = asyncio.get_running_loop().time() + STEPS_S
        for step in steps:
            if step.progress > 0 or step.node_id is not None:
                self._hand_out(StoredEvent(seq=self._seq, event=step, volatile=True))

    def _hand_out(self, stored: StoredEvent) -> None:
        if stored.volatile:
            if self._is_known(stored.event):
                return
            stored = replace(stored, seq=self._seq)
        elif stored.seq <= self._seq:
            return  # it was read from the log before
        self._seq = stored.seq
        self._note_step(stored)
        for listener in self._listeners:
            listener(stored)
        for followed in (stored.event.job_id, None):
            for subscription in self._subscriptions.get(followed, ()):
                if not subscription.offer(stored):
                    self._on_drop()

    def _is_known(self, step: JobEvent) -> bool:
        """Whether subscribers have it: a step is published when it comes, and again when it is written."""
        known = self._steps.get(step.job_id)
        return known is not None and replace(step, at=known.event.at) == known.event

    def _note_step(self, stored: StoredEvent) -> None:
        """The last progress of each job that runs."""
        if isinstance(stored.event, JobProgressed):
            self._steps[stored.event.job_id] = stored
        elif not isinstance(stored.event, CancelRequested):
            self._steps.pop(stored.event.job_id, None)
