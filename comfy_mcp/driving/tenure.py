"""One process driving one engine, for as long as it holds the engine's lease.

A Tenure has one task that does what has to be waited for at the store, in order: write, then claim. It sleeps
until its alarm rings. What the engine says is applied where it is read (`hearing`), what needs the engine
runs as errands. Every write to the store is fenced by the lease and the attempt. Order matters in three
places: a prompt_id is written before the POST; the history is read no sooner than at `executing: null`,
unless the events have said the whole story; after every (re)connect everything in flight is looked up.
"""

import asyncio
from typing import assert_never

from comfy_mcp.domain.events import PreviewFrame
from comfy_mcp.domain.ids import JobId
from comfy_mcp.domain.job import Job
from comfy_mcp.domain.placing import AHEAD_MS
from comfy_mcp.driving.alarm import Alarm
from comfy_mcp.driving.attempt import Attempt
from comfy_mcp.driving.bringing import Bringing
from comfy_mcp.driving.checked import Checked
from comfy_mcp.driving.claiming import Claiming
from comfy_mcp.driving.containment import Containment
from comfy_mcp.driving.errands import Brought, Errands, Freed, Kept, Looked, Report, Sampled, Submitted
from comfy_mcp.driving.hearing import Hearing
from comfy_mcp.driving.leasing import LeaseKeeper
from comfy_mcp.driving.ledger import Ledger
from comfy_mcp.driving.means import Means
from comfy_mcp.driving.memory_gate import MemoryGate
from comfy_mcp.driving.reservation import Reservation
from comfy_mcp.driving.stopping import Stopping
from comfy_mcp.places.protocol import Runner, Trouble
from comfy_mcp.store import Claim, ClaimOffer, Lease

LEFT_S = 0.25
"""Pause before an engine that left all jobs to others checks the queue again."""

REST_S = 60.0
"""An engine on demand stays connected this long after its last job."""

IDLE_S = 5.0
"""The queue is checked at least this often, in case a wake-up was missed."""


class GivenUp(Exception):
    """The engine has ended what it had, and is another process's to drive."""


class Tenure:
    """See the module. `run` ends only by an exception: Fenced when the lease is lost."""

    def __init__(self, *, lease: Lease, place: Runner, means: Means, gate: MemoryGate) -> None:
        self._place = place
        self._means = means
        self._settings = means.settings
        self._clock = means.clock
        self._gate = gate
        self._alarm = Alarm(means.clock)
        self._keeper = LeaseKeeper(lease, means.store, means.settings, means.clock)
        self._containment = Containment(lease.engine, means.clock, self._alarm.ring)
        self._ledger = Ledger(lease=lease, place=place, means=means, containment=self._containment)
        self._claiming = Claiming(
            lease=lease,
            place=place,
            means=means,
            gate=gate,
            containment=self._containment,
            ledger=self._ledger,
        )
        self._reservation = Reservation(self._ledger, self._claiming, means.checked)
        self._errands = Errands(place, self._reported, self._keeper.confirm)
        self._hearing = Hearing(place, self._ledger, self._errands, self._alarm, means, self._containment)
        self._bringing = Bringing(self._ledger, self._errands, means.clock, self._containment)
        self._stopping = Stopping(self._ledger, self._hearing, self._errands, means.clock, self._containment)
        self._unseen = False  # a job was queued, and the engine waits until it is woken
        self._woken = False  # to look for it
        self.leaving = False
        """The engine was removed: it takes nothing new."""
        self.giving_up = False
        """Nor does it here; `run` ends once it has ended what it has."""
        self._open = False
        self._left_until: float | None = None
        self._rest_at = 0.0
        self._look_due = means.clock.monotonic() + IDLE_S

    @property
    def connected(self) -> bool:
        """The engine's event stream is open."""
        return self._hearing.connected

    @property
    def trouble(self) -> Trouble | None:
        """What is wrong with the engine."""
        return self._hearing.trouble

    def preview(self, job_id: JobId) -> PreviewFrame | None:
        """The last picture that the engine sent of a job that runs."""
        attempts = self._ledger.attempts.values()
        return next((each.preview for each in attempts if each.job.id == job_id), None)

    @property
    def foreign(self) -> int:
        """Prompts at the engine that are not ours, by what it last said of its queue."""
        return self._hearing.foreign

    @property
    def in_flight(self) -> int:
        """Jobs that are at the engine, or about to be sent there."""
        return len(self._ledger.attempts) + (self._reservation.job_id is not None)

    def hand_back(self, reason: str) -> None:
        """The engine is lost, and will not be driven any more: its jobs are queued again."""
        for attempt in list(self._ledger.attempts.values()):
            if not attempt.settled:
                self._ledger.settle(attempt, self._ledger.ends.of_loss(attempt, reason))
                self._errands.put_out(attempt.prompt_id)
        self._alarm.ring()

    def give_up(self, giving_up: bool) -> None:
        """See `giving_up`."""
        if giving_up != self.giving_up:
            self.giving_up = giving_up
            self._ledger.may_have_work = True
            self._alarm.ring()

    def work_arrived(self, *, ring: bool = True) -> None:
        """A job was queued somewhere. Cheap; callable from the loop at any time. Without `ring` an idle
        engine looks for it once it is woken, a busy one once it is free. One that sleeps always finds out
        whether it is wanted."""
        if ring or self._place.on_demand:
            self._ledger.may_have_work = True
            self._alarm.ring()
        elif self._means.fleet.is_idle(self._place.engine) and self._can_send():
            self._unseen = True
        else:
            self._ledger.may_have_work = True

    def wake(self) -> bool:
        """Look for a job now. False: the engine is busy, has looked, or is about to."""
        if not (self._unseen and self._means.fleet.is_idle(self._place.engine) and self._can_send()):
            return False
        self._woken, self._unseen, self._ledger.may_have_work = True, False, True
        self._alarm.ring()
        return True

    def cancel_requested(self, job_id: JobId) -> None:
        """Somebody asked to cancel a claimed job, perhaps one that is just being claimed here: then the turn
        that claims it sees it at its end. Most are another engine's."""
        self._stopping.cancels.add(job_id)
        if self.drives(job_id):
            self._alarm.ring()

    def job_ended(self, job_id: JobId) -> None:
        """A job ended, here or elsewhere. One that is in flight and was not ended here was abandoned. It
        matters here too if jobs are held for memory, or were left to others."""
        self._stopping.cancels.discard(job_id)
        for attempt in list(self._ledger.attempts.values()):
            if attempt.job.id == job_id and not attempt.settled:
                with self._containment.step(attempt, "let go"):
                    self._ledger.let_go(attempt, attempt.job)
                self._alarm.ring()
        if self._gate.holding:
            self._gate.hurry()
            self._alarm.ring()
        if self._claiming.left and self._means.fleet.is_free(self._place.engine):
            self.work_arrived()

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._errands.group = group
                await self._claiming.adopt()
                self._open = True
                group.create_task(self._keeper.run(), name="lease")
                group.create_task(self._place.run(self._hearing.event), name="place")
                group.create_task(self._ledger.sizes.run(), name="sizes")
                while True:
                    await self._turn()
                    if self.giving_up and not self.in_flight:
                        raise GivenUp
                    self._alarm.by(self._next_due())
                    await self._alarm.sleep()
        finally:
            self._open = False
            self._alarm.stop()

    async def finish(self) -> None:
        """At the end, while the engine may still answer: write what was only kept in memory."""
        await self._ledger.save_durations()
        await self._ledger.sizes.fill()

    async def _turn(self) -> None:
        idle = self._is_idle()
        self._hearing.check_deadlines()
        self._stopping.turn(self._reservation.job_id)
        self._bringing.turn(self._hearing.connection, there=self._there)
        self._send_ready()
        # An engine that is alone: others might have ended the job before one POST fails.
        behind = not self._means.fleet.has_others(self._place.engine)
        room = self._reservation.written is None and self._has_room(behind=behind)
        if (next_one := await self._claiming.write_due(room=room)) is not None:
            self._send(next_one)
        if self._place.on_demand:
            await self._wake_or_rest()
        await self._claim()
        self._follow()
        if (due := self._gate.due) is not None and due <= self._clock.monotonic():
            self._ask_for_sample()
        if self._ledger.durations.full or (idle and self._ledger.durations.old):
            await self._ledger.save_durations()
        if self._stopping.has_news:
            self._alarm.ring()

    def drives(self, job_id: JobId) -> bool:
        """The job is at the engine, or about to be sent there."""
        return self._reservation.job_id == job_id or any(
            attempt.job.id == job_id for attempt in self._ledger.attempts.values()
        )

    def _reported(self, report: Report) -> None:
        """An errand has come back."""
        match report:
            case Brought():
                self._bringing.brought(report)
            case Submitted():
                self._hearing.submitted(report)
                self._send_ready()
                if not self._has_room():  # then there is nothing to do but to wait
                    self._alarm.by(self._next_due())
                    return
            case Looked():
                self._hearing.looked(report)
            case Freed():
                self._hearing.freed(report.prompt_id)
            case Kept():
                self._hearing.kept(report)
            case Sampled():
                self._ledger.may_have_work |= self._gate.take(report.sample)
            case _:
                assert_never(report)
        self._alarm.ring()

    # -------------------------------------------------------------------------------------------- waiting

    async def _wake_or_rest(self) -> None:
        """An engine on demand is connected while it has work, and for a while after."""
        now, asleep = self._clock.monotonic(), not (self.connected or self._hearing.polling)
        busy = self.in_flight > 0 or self._reservation.written is not None
        if busy or (
            asleep and self._ledger.may_have_work and self._takes_new and await self._claiming.is_wanted()
        ):
            self._rest_at = now + REST_S
            self._place.want(True)
        elif now >= self._rest_at and not self._ledger.may_have_work:
            self._place.want(False)

    def _is_idle(self) -> bool:
        """Check the queue even without a wake-up. True if it is time, and nothing is in flight."""
        now = self._clock.monotonic()
        if now < self._look_due:
            return False
        self._look_due = now + IDLE_S
        if self._gate.on or not self._means.fleet.has_others(self._place.engine):
            # Else the roster does it for all of them.
            self._ledger.may_have_work = True
        return not self._ledger.attempts

    def _next_due(self) -> float:
        """The next deadline of any attempt."""
        due = [self._look_due]
        if self._gate.due is not None:
            due.append(self._gate.due)
        if self._left_until is not None:
            due.append(self._left_until)
        if self._ledger.may_have_work and self._ledger.retry_at > self._clock.monotonic():
            due.append(self._ledger.retry_at)
        for attempt in self._ledger.attempts.values():
            if attempt.due is not None:
                due.append(max(attempt.due, self._ledger.retry_at))
            if attempt.unsent:
                due.extend(self._bringing.due(attempt, there=self._there))
            due.extend(self._stopping.due(attempt))
        return min(due)

    def _follow(self) -> None:
        """Receive the events of prompts that were submitted over an earlier stream."""
        attempts = self._ledger.attempts.values() if self.connected else ()
        self._place.follow({each.stream_id for each in attempts if each.stream_id and not each.over})

    # ----------------------------------------------------------------------------------------------- work

    async def _claim(self) -> None:
        """Take work while the engine is there and has room in its pipeline."""
        if (new := await self._reservation.admit()) is not None:
            self._send(new)
        if self._left_until is not None and self._left_until <= self._clock.monotonic():
            self._ledger.may_have_work, self._left_until = True, None
        fleet, engine = self._means.fleet, self._place.engine
        while self._has_room() and fleet.is_free(engine):
            if not self._gate.ready:
                if await self._claiming.any_waits():
                    self._ask_for_sample()
                return
            attempt = await self._claiming.claim()
            if attempt is not None:
                self._send(attempt)
            self._woken = self._claiming.seen if attempt is None else self._ledger.may_have_work
        if self._woken:  # jobs wait, or nobody has looked
            self._woken = False
            fleet.wake_next()
        if not (self._claiming.left or (self._has_room() and fleet.free_in_s(engine) is not None)):
            self._left_until = None
        elif self._left_until is None:
            self._left_until = self._clock.monotonic() + self._until_next_choice()

    def _until_next_choice(self) -> float:
        """Jobs were left to other engines: when to choose again, if nothing happens before."""
        free_in_s = self._means.fleet.free_in_s(self._place.engine) or 0.0
        return max(free_in_s - AHEAD_MS / 1000, LEFT_S)

    @property
    def has_room(self) -> bool:
        """A job that is about to be written could be reserved for the engine."""
        return not self._gate.on and self._open and self._can_send()

    @property
    def takes_files(self) -> bool:
        """See `Claiming.takes_files`."""
        return self._claiming.takes_files

    def reserve(self, job_id: JobId) -> ClaimOffer | None:
        """Reserve room for a job that is about to be written: nothing else is claimed until that ends.

        None: there is no room, or jobs may be held for want of memory.
        """
        if not self.has_room:
            return None
        return self._reservation.make(job_id)

    def give_up_reserved(self) -> None:
        """The job was refused, or something raised: whether it was claimed is looked up."""
        self._reservation.give_up()
        self._alarm.ring()

    def take_reserved(self, job: Job, claim: Claim | None, checked: Checked) -> None:
        """The job is written, and claimed if nobody waited: then it is sent. A tenure that has ended leaves
        it to the one that adopts it."""
        new = self._reservation.take(job, claim, checked, is_open=self._open)
        if new is not None:
            self._send(new)
        if new is None or claim is None or claim.more:
            self._alarm.ring()

    def _send(self, attempt: Attempt) -> None:
        """At once, or as soon as its files are at the engine."""
        self._ledger.may_have_work |= self._unseen
        self._unseen = False
        with self._containment.step(attempt, "send"):
            if not self._bringing.takes(attempt, self._hearing.connection):
                self._hearing.send(attempt)

    def _send_ready(self) -> None:
        attempt = self._bringing.next_ready(self._hearing.connection)
        if attempt is not None and self._can_post():
            self._ledger.counts(attempt)
            self._hearing.send(attempt)

    def _ask_for_sample(self) -> None:
        if not self._gate.asking:
            self._gate.asking = True
            self._errands.sample(self._gate.look)

    def _has_room(self, *, behind: bool = False) -> bool:
        """`behind`: for a job that is sent once the one before it has been."""
        return self._ledger.may_have_work and self._can_send(behind=behind)

    def _can_send(self, *, behind: bool = False) -> bool:
        return self._can_post(behind=behind) and not self._bringing.holds_up and self._takes_new

    @property
    def _takes_new(self) -> bool:
        return not (self.leaving or self.giving_up)

    @property
    def _there(self) -> bool:
        """The engine answers."""
        return self.connected or self._hearing.polling

    def _can_post(self, *, behind: bool = False) -> bool:
        if not self._there or self._reservation.job_id is not None:
            return False
        sent = at_work = 0
        for attempt in self._ledger.attempts.values():
            # One POST at a time: two at once could reach the engine in the wrong order.
            if attempt.submitting and not behind:
                return False
            if not attempt.unsent:
                sent += 1
                at_work += not attempt.over
        depth = self._settings.pipeline_depth
        return sent < 2 * depth and at_work < depth and self._clock.monotonic() >= self._ledger.retry_at
