"""Which engines there are, and who drives each. They may come and go while jobs run."""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from comfy_mcp.domain.errors import EngineFault, StoreFault
from comfy_mcp.domain.events import (
    CancelRequested,
    JobCancelled,
    JobClaimed,
    JobCompleted,
    JobFailed,
    JobQueued,
    JobRequeued,
    JobWaiting,
    StoredEvent,
)
from comfy_mcp.domain.ids import EngineId, JobId
from comfy_mcp.domain.needs import Equipment
from comfy_mcp.driving.driver import Driver
from comfy_mcp.driving.engines_file import EnginesFile
from comfy_mcp.driving.means import Means
from comfy_mcp.driving.memory_gate import Sampling
from comfy_mcp.driving.sharing import Sharing
from comfy_mcp.places.pool import Pool, equipment_of
from comfy_mcp.places.protocol import Place, Trouble
from comfy_mcp.settings import EngineSettings

KNOWN_S = 1.0
"""Pause between checks of a node list's age; an old one is read again."""

LOOK_EACH = 5
"""At every fifth of these checks the queue is looked at."""

LEAVE_S = 0.2
"""Pause between checks whether an engine that was removed has ended what it has."""

SILENT_S = 30.0
"""The jobs of an engine that was removed, and has not answered for this long, are queued again."""

log = structlog.get_logger(__name__)


class EventSource(Protocol):
    """The event log, as it is followed in this process (operations/feed/hub.py)."""

    def listen(self, listener: Callable[[StoredEvent], None]) -> None:
        """Call `listener` for every event, in order."""
        ...


@dataclass(slots=True)
class _Member:
    settings: EngineSettings
    place: Place
    driver: Driver | None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    leaving: asyncio.Task[None] | None = None
    reading: asyncio.Task[None] | None = None
    """Its node list."""


class Roster:
    """The places and their drivers. The `pool` and `drivers` change when the engines do."""

    def __init__(
        self,
        pool: Pool[Place],
        means: Means,
        make: Callable[[EngineSettings], Place],
        *,
        holder: str,
        drive: bool,
        sampling: Sampling | None = None,
        changed: Callable[[Sequence[EngineSettings]], None] = lambda _engines: None,
    ) -> None:
        """`make` builds the place of an engine. With `drive` False this process never asks for a lease.
        `changed` gets the engines, now and whenever they are others."""
        self.pool = pool
        self.holder = holder
        self.file = EnginesFile(means.settings)
        self._means = means
        self._make = make
        self._drive = drive
        self._sampling = sampling
        self._sharing = Sharing(means.store, means.settings, means.clock, holder=holder)
        self._changed = changed
        self._members: dict[EngineId, _Member] = {}
        self._drained: set[EngineId] = set()
        self._drained_at = float("-inf")
        self._group: asyncio.TaskGroup | None = None
        self._arrived: set[JobId] = set()
        for engine in means.settings.engines:
            self._add(engine)
        self._tell()
        means.fleet.wake_next = self._wake_next

    @property
    def drivers(self) -> Sequence[Driver]:
        return [member.driver for member in self._members.values() if member.driver is not None]

    @property
    def drained(self) -> frozenset[EngineId]:
        """The engines that take nothing new: those that somebody drained, and those that were removed."""
        leaving = (engine for engine, member in self._members.items() if member.leaving is not None)
        return frozenset((*self._drained, *leaving))

    def equipment(self) -> Mapping[EngineId, Equipment]:
        """What each engine has, as far as is known."""
        known = {each.engine: each for each in self._means.fleet.equipment()}
        return {place.engine: known.get(place.engine) or equipment_of(place) for place in self.pool.all()}

    def troubles(self) -> Iterator[tuple[EngineId, Trouble | None]]:
        """What is wrong with each engine, as far as this process knows."""
        for engine, member in self._members.items():
            yield engine, member.place.trouble if member.driver is None else member.driver.trouble

    async def run(self, source: EventSource) -> None:
        """Drive what can be driven until cancelled."""
        source.listen(self._hear)
        with contextlib.suppress(StoreFault):
            self._means.gpu.recall(await self._means.store.gpu_memory())
        async with asyncio.TaskGroup() as group:
            self._group = group
            for member in self._members.values():
                self._start(member)
            if self._may_be_several:
                group.create_task(self._keep_drained(), name="drained engines")
                group.create_task(self._keep_known(group), name="node lists")
                if self._drive:
                    group.create_task(self._sharing.run(self._give_up, self._reaches_some), name="sharing")
            if self._means.settings.engines_file is not None:
                group.create_task(self.file.follow(self.take), name="engines file")

    async def take(self, wanted: Sequence[EngineSettings]) -> None:
        """These are the engines from now on. One with other settings is driven anew, by which its jobs go on;
        one that is no more ends what it has, and takes nothing new."""
        ids = [each.id for each in wanted]
        for each in wanted:
            before = self._members.get(each.id)
            if before is not None:
                if before.settings == each and before.leaving is None:
                    continue
                await self._stop(before)
            self._start(self._add(each))  # in one step with the end of the one before: nobody misses it
            self._show()
            log.info("engine_added", engine=each.id)
            if before is not None:
                await before.place.close()
        for member in list(self._members.values()):
            if member.settings.id not in ids and member.leaving is None:
                self._leave(member)
        order = [*ids, *(engine for engine in self._members if engine not in ids)]
        self._members = {engine: self._members[engine] for engine in order}
        self._tell()

    async def know_drained(self) -> None:
        """As it was a moment ago at most: whoever waits asks again and again."""
        if self._means.clock.monotonic() - self._drained_at >= KNOWN_S:
            await self.read_drained()

    async def read_drained(self) -> frozenset[EngineId]:
        self._drained_at = self._means.clock.monotonic()
        drained = await self._means.store.drained()
        if drained != self._drained:
            self._drained = drained
            self.work_arrived()
        return self.drained

    async def close(self) -> None:
        """When `run` has ended."""
        for place in self.pool.all():
            await place.close()

    # --------------------------------------------------------------------------------------------- members

    def _add(self, engine: EngineSettings) -> _Member:
        place = self._make(engine)
        driver = None
        if self._drive:
            driver = Driver(
                place,
                self._means,
                holder=self.holder,
                sampling=self._sampling,
                turn=self._sharing.turn,
            )
        member = self._members[engine.id] = _Member(engine, place, driver)

        def is_there() -> bool:
            if engine.id in self._drained or member.leaving is not None:
                return False
            if driver is not None and driver.driving:
                return driver.connected and not driver.giving_up
            return place.trouble is None

        has = equipment_of(place)

        def equipment() -> Equipment:
            nonlocal has
            if has.nodes is not place.known_nodes:
                has = equipment_of(place)
            return has

        self._means.fleet.enter(
            engine.id,
            equipment=equipment,
            is_there=is_there,
            driven_here=lambda: driver is not None and driver.driving,
            memory=lambda: self._means.gpu.memory_of(engine.id),
        )
        return member

    def _start(self, member: _Member) -> None:
        if self._group is None:
            return
        if member.driver is not None:
            member.tasks.append(self._group.create_task(member.driver.run(), name="driver"))

    @property
    def _may_be_several(self) -> bool:
        """Now, or once the file has more. One engine of a variable needs no upkeep."""
        return self._means.fleet.several or self._means.settings.engines_file is not None

    def _show(self) -> None:
        self.pool.become([member.place for member in self._members.values()])

    def _tell(self) -> None:
        self._show()
        self._sharing.know([engine for engine, member in self._members.items() if member.leaving is None])
        self._changed([member.settings for member in self._members.values()])

    def _leave(self, member: _Member) -> None:
        if member.driver is not None:
            member.driver.leaving = True
        if self._group is not None:
            member.leaving = self._group.create_task(self._left(member), name="engine leaves")
            log.info("engine_removed", engine=member.settings.id)

    def _reaches_some(self) -> bool:
        return any(trouble is None for _, trouble in self.troubles())

    def _give_up(self, count: int) -> None:
        """Give up that number of engines, those first that have least to end."""
        driven = [driver for driver in self.drivers if driver.driving and not driver.leaving]
        driven.sort(key=lambda driver: (driver.in_flight, not driver.giving_up))
        for number, driver in enumerate(driven):
            driver.give_up(number < count)

    async def _left(self, member: _Member) -> None:
        """Wait until it has ended what it has, or does not answer; then it is no more."""
        driver = member.driver
        while driver is not None and driver.in_flight:
            silence = member.place.silence
            if silence is not None and silence.seconds >= SILENT_S:
                driver.hand_back(f"Engine {member.settings.id} was removed and does not answer.")
            await asyncio.sleep(LEAVE_S)
        await self._stop(member)
        self._tell()
        await member.place.close()
        log.info("engine_gone", engine=member.settings.id)

    async def _stop(self, member: _Member) -> None:
        """Nobody drives it here any more. What it runs is adopted by who drives it next."""
        leaving = () if member.leaving in {None, asyncio.current_task()} else (member.leaving,)
        reading = () if member.reading is None else (member.reading,)
        await _cancelled([*member.tasks, *leaving, *reading])
        self._members.pop(member.settings.id, None)  # it may have left meanwhile
        self._means.fleet.leave(member.settings.id)

    # ---------------------------------------------------------------------------------------------- upkeep

    def _hear(self, stored: StoredEvent) -> None:
        match stored.event:
            case JobQueued(lane=lane) if lane != self._means.lane:
                pass
            case (
                JobQueued(job_id=job_id)
                | JobRequeued(job_id=job_id)
                | JobWaiting(job_id=job_id, waiting_for=None)
            ):
                if not self._arrived:
                    asyncio.get_running_loop().call_soon(self._look_for_arrived)
                self._arrived.add(job_id)
            case JobClaimed(job_id=job_id):
                self._arrived.discard(job_id)
            case JobCompleted(job_id=job_id) | JobFailed(job_id=job_id) | JobCancelled(job_id=job_id):
                self._ended(job_id)
            case CancelRequested():
                for driver in self.drivers:
                    driver.hear(stored)
            case _:
                pass

    def _ended(self, job_id: JobId) -> None:
        """Jobs that are held for memory may find some now, so that it matters to each engine."""
        hold = self._means.settings.vram_hold
        concerned = self._members if hold else self._means.concerns.by_end_of(job_id)
        for engine in tuple(concerned):
            member = self._members.get(engine)
            if member is not None and member.driver is not None:
                member.driver.job_ended(job_id)

    def _look_for_arrived(self) -> None:
        """After all that was read of the log at once: most jobs are claimed as they are written."""
        if self._arrived:
            self._arrived.clear()
            self.work_arrived()

    def work_arrived(self) -> None:
        """A job was queued somewhere. Of several engines one looks for it, and wakes the next if more wait or
        it does not take it: a job is not looked for by all of them."""
        for driver in self.drivers:
            driver.work_arrived(ring=not self._in_turn)
        if self._in_turn:
            self._wake_next()

    def _wake_next(self) -> None:
        for driver in self.drivers:
            if driver.engine not in self._drained and driver.wake():
                return

    @property
    def _in_turn(self) -> bool:
        """False while jobs may be held for lack of memory: the next engine may have enough."""
        return self._means.fleet.several and not self._means.settings.vram_hold

    async def _keep_drained(self) -> None:
        """Another process may have drained an engine: then the others do not wait for it. And now and then
        the queue is looked at, in case a wake-up was missed."""
        for second in itertools.count():
            if self._means.fleet.several:
                with contextlib.suppress(StoreFault):
                    await self.read_drained()
                    await self._keep_memory()
                if second % LOOK_EACH == 0:
                    self.work_arrived()
            await asyncio.sleep(KNOWN_S)

    async def _keep_memory(self) -> None:
        """The sizes of GPUs, for the next process: it places its first jobs by them."""
        if self._drive and (news := self._means.gpu.memory_news):
            await self._means.store.keep_gpu_memory(news)
            self._means.gpu.recall(news)

    async def _keep_known(self, group: asyncio.TaskGroup) -> None:
        """Node lists, so that each engine knows what the others have. One that is old is asked for."""
        while True:
            for member in self._members.values() if self._means.fleet.several else ():
                old = member.place.nodes_now is None and not member.place.asleep
                if old and (member.reading is None or member.reading.done()):
                    member.reading = group.create_task(_read_nodes(member.place), name="node list")
            await asyncio.sleep(KNOWN_S)


async def _read_nodes(place: Place) -> None:
    with contextlib.suppress(EngineFault):
        await place.nodes()


async def _cancelled(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
