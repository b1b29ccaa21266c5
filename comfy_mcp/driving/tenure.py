"""One process driving one engine, for as long as it holds the engine's lease.

A Tenure has one task that does what has to be waited for at the store, in order: write, then claim. It sleeps
until its alarm rings. What the engine says is applied where it is read (`hearing`), what needs the engine
runs as errands. Every write to the store is fenced by the lease and the attempt. Order matters in three
places: a prompt_id is written before the POST; the history is read no sooner than at `executing: null`,
unless the events have said the whole story; after every (re)connect everything in flight is looked up.
"""

import asyncio
from typing import assert_never

from comfy_mcp.domain.deadlines import STOP_LIMIT_S
from comfy_mcp.domain.events import PreviewFrame
from comfy_mcp.domain.ids import JobId
from comfy_mcp.domain.job import Job
from comfy_mcp.domain.placing import AHEAD_MS
from comfy_mcp.driving.alarm import Alarm
from comfy_mcp.driving.attempt import Attempt
from comfy_mcp.driving.bringing import Bringing
from comfy_mcp.driving.checked import Checked
from comfy_mcp.driving.containment import Containment
from comfy_mcp.driving.errands import Brought, Errands, Freed, Kept, Looked, Report, Sampled, Submitted
from comfy_mcp.driving.hearing import Hearing
from comfy_mcp.driving.leasing import LeaseKeeper
from comfy_mcp.driving.ledger import Ledger
from comfy_mcp.driving.means import Means
from comfy_mcp.driving.memory_gate import MemoryGate
from comfy_mcp.places.protocol import Runner, Trouble
from comfy_mcp.store import Claim, ClaimOffer, Lease

CANCEL_RETRY_S = (0.05, 0.2, 0.5, 1.0, 2.0)
"""Pauses before an engine is asked again to cancel; the last one repeats."""

LEFT_S = 0.25
"""Pause before an engine that left all jobs to others checks the queue again."""

REST_S = 60.0
"""An engine on demand stays connected this long after its last job."""

IDLE_S = 5.0
"""The queue is checked at least this often, in case a wake-up was missed."""


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
        self._ledger = Ledger(lease=lease, place=place, means=means, gate=gate, containment=self._containment)
        self._errands = Errands(place, self._reported, self._keeper.confirm)
        self._hearing = Hearing(place, self._ledger, self._errands, self._alarm, means, self._containment)
        self._bringing = Bringing(self._ledger, self._errands, means.clock, self._containment)
        self._cancels: set[JobId] = set()
        self._reserved: JobId | None = None
        self._offered: ClaimOffer | None = None  # for the reserved job
        self._unseen = False  # a job was queued, and the engine waits until it is woken
        self._woken = False  # to look for it
        self.leaving = False
        """The engine was removed: it takes nothing new."""
        self._written: tuple[Claim, Checked] | None = None
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
        return len(self._ledger.attempts) + (self._reserved is not None)

    def hand_back(self, reason: str) -> None:
        """The engine is lost, and will not be driven any more: its jobs are queued again."""
        for attempt in list(self._ledger.attempts.values()):
            if not attempt.settled:
                self._ledger.settle(attempt, self._ledger.ends.of_loss(attempt, reason))
                self._errands.put_out(attempt.prompt_id)
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
        """Somebody asked to cancel a claimed job, perhaps one that is just being claimed here."""
        self._cancels.add(job_id)
        self._alarm.ring()

    def job_ended(self, job_id: JobId) -> None:
        """A job ended, here or elsewhere. One that is in flight and was not ended here was abandoned."""
        for attempt in list(self._ledger.attempts.values()):
            if attempt.job.id == job_id and not attempt.settled:
                with self._containment.step(attempt, "let go"):
                    self._ledger.let_go(attempt, attempt.job)
                self._alarm.ring()

    def memory_may_be_free(self) -> None:
        """A job ended, here or elsewhere: it matters here if jobs are held."""
        if self._gate.holding:
            self._gate.hurry()
            self._alarm.ring()

    def others_ended(self) -> None:
        """A job ended, here or elsewhere: it matters here if jobs were left to others."""
        if self._ledger.left and self._means.fleet.is_free(self._place.engine):
            self.work_arrived()

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._errands.group = group
                await self._ledger.adopt()
                self._open = True
                group.create_task(self._keeper.run(), name="lease")
                group.create_task(self._place.run(self._hearing.event), name="place")
                group.create_task(self._ledger.sizes.run(), name="sizes")
                while True:
                    await self._turn()
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
        self._start_cancels()
        self._chase()
        self._bringing.turn(self._hearing.connection, there=self._there)
        self._send_ready()
        room = self._written is None and self._has_room()
        if (next_one := await self._ledger.write_due(room=room)) is not None:
            self._send(next_one)
        if self._place.on_demand:
            await self._wake_or_rest()
        await self._claim()
        self._follow()
        if (due := self._gate.due) is not None and due <= self._clock.monotonic():
            self._ask_for_sample()
        if self._ledger.durations_full or idle:
            await self._ledger.save_durations()
        if self._ledger.found_cancels or self._cancels:
            self._alarm.ring()

    def drives(self, job_id: JobId) -> bool:
        """The job is at the engine, or about to be sent there."""
        return self._reserved == job_id or any(
            attempt.job.id == job_id for attempt in self._ledger.attempts.values()
        )

    def _reported(self, report: Report) -> None:
        """An errand has come back."""
        match report:
            case Brought():
                self._bringing.brought(report)
            case Submitted():
                self._hearing.submitted(report)
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
        busy = self.in_flight > 0 or self._written is not None
        if busy or (
            asleep and self._ledger.may_have_work and not self.leaving and await self._ledger.is_wanted()
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
            if attempt.stop_asked_at is not None and not attempt.settled:
                due.append(attempt.stop_asked_at + STOP_LIMIT_S)
            if attempt.unsent:
                due.extend(self._bringing.due(attempt, there=self._there))
            elif not (attempt.looking or attempt.submitting or attempt.settled):
                due.append(attempt.heard_at + self._hearing.quiet_s)
                also = (attempt.cancel_due, attempt.deadline, attempt.look_due)
                due.extend(each for each in also if each is not None)
        return min(due)

    # ------------------------------------------------------------------------------- cancels, quiet engines

    def _start_cancels(self) -> None:
        self._cancels |= self._ledger.found_cancels
        self._ledger.found_cancels.clear()
        for attempt in self._ledger.attempts.values():
            if attempt.job.id in self._cancels and not attempt.settled:
                attempt.ask_cancel(self._clock.monotonic())
        self._cancels &= {self._reserved}  # it is claimed, and becomes an attempt later in this turn

    def _chase(self) -> None:
        now, quiet_s = self._clock.monotonic(), self._hearing.quiet_s
        for attempt in self._ledger.attempts.values():
            if attempt.stop_asked_at is not None and now - attempt.stop_asked_at >= STOP_LIMIT_S:
                self._end_here(attempt)
            if attempt.looking or attempt.submitting or attempt.settled or attempt.unsent:
                continue
            if attempt.cancel_due is not None and attempt.cancel_due <= now:
                pause = CANCEL_RETRY_S[min(attempt.cancel_tries, len(CANCEL_RETRY_S) - 1)]
                attempt.cancel_tries += 1
                attempt.cancel_due = now + pause
                attempt.stop_asked_at = now if attempt.stop_asked_at is None else attempt.stop_asked_at
                attempt.begin_look()
                self._errands.cancel(attempt.prompt_id)
            elif attempt.look_due is not None and attempt.look_due <= now:
                self._hearing.look([attempt])
            elif now - attempt.heard_at >= quiet_s:
                attempt.quiet = True
                self._hearing.look([attempt])

    def _end_here(self, attempt: Attempt) -> None:
        """The engine did not stop it in time, or does not say so."""
        if not attempt.settled:
            with self._containment.step(attempt, "end here"):
                self._hearing.end_here(attempt)
            self._errands.put_out(attempt.prompt_id)

    def _follow(self) -> None:
        """Receive the events of prompts that were submitted over an earlier stream."""
        attempts = self._ledger.attempts.values() if self.connected else ()
        self._place.follow({each.stream_id for each in attempts if each.stream_id and not each.over})

    # ----------------------------------------------------------------------------------------------- work

    async def _claim(self) -> None:
        """Take work while the engine is there and has room in its pipeline."""
        if self._written is not None:
            claim, checked = self._written
            self._send_reserved(claim, await self._ledger.admit(claim, checked))
        if self._left_until is not None and self._left_until <= self._clock.monotonic():
            self._ledger.may_have_work, self._left_until = True, None
        fleet, engine = self._means.fleet, self._place.engine
        while self._has_room() and fleet.is_free(engine):
            if not self._gate.ready:
                if await self._ledger.any_waits():
                    self._ask_for_sample()
                return
            attempt = await self._ledger.claim()
            if attempt is not None:
                self._send(attempt)
            self._woken = self._ledger.seen if attempt is None else self._ledger.may_have_work
        if self._woken:  # jobs wait, or nobody has looked
            self._woken = False
            fleet.wake_next()
        if not (self._ledger.left or (self._has_room() and fleet.free_in_s(engine) is not None)):
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
        """See `Ledger.takes_files`."""
        return self._ledger.takes_files

    def reserve(self, job_id: JobId) -> ClaimOffer | None:
        """Reserve room for a job that is about to be written: nothing else is claimed until that ends.

        None: there is no room, or jobs may be held for want of memory.
        """
        if not self.has_room:
            return None
        self._reserved, self._offered = job_id, self._ledger.offers.make()
        return self._offered

    def give_up_reserved(self) -> None:
        """The job was refused, or something raised: whether it was claimed is looked up."""
        self._reserved, self._ledger.may_have_work = None, True
        self._alarm.ring()

    def take_reserved(self, job: Job, claim: Claim | None, checked: Checked) -> None:
        """The job is written, and claimed if nobody waited: then it is sent. A tenure that has ended leaves
        it to the one that adopts it."""
        if self._offered is not None:
            self._ledger.offers.answered(self._offered)
        if claim is None:  # another job is next, or the submit was a repeat: claim from the queue as usual
            self._means.checked.put(job.id, checked)
            self._reserved, self._ledger.may_have_work = None, True
        elif self._open and (new := self._ledger.follow_now(claim, checked)):
            self._send_reserved(claim, new)
            if not claim.more:
                return
        else:
            self._written = claim, checked
        self._alarm.ring()

    def _send_reserved(self, claim: Claim, new: Attempt | None) -> None:
        self._ledger.may_have_work |= claim.more
        self._reserved = self._written = None
        if new is not None:
            self._send(new)

    def _send(self, attempt: Attempt) -> None:
        """At once, or as soon as its files are at the engine."""
        self._ledger.may_have_work |= self._unseen
        self._unseen = False
        with self._containment.step(attempt, "send"):
            if not self._bringing.takes(attempt, self._hearing.connection):
                self._hearing.send(attempt)

    def _send_ready(self) -> None:
        if self._can_post() and (attempt := self._bringing.next_ready()) is not None:
            self._ledger.counts(attempt)
            self._hearing.send(attempt)

    def _ask_for_sample(self) -> None:
        if not self._gate.asking:
            self._gate.asking = True
            self._errands.sample(self._gate.look)

    def _has_room(self) -> bool:
        return self._ledger.may_have_work and self._can_send()

    def _can_send(self) -> bool:
        return self._can_post() and not self._bringing.holds_up and not self.leaving

    @property
    def _there(self) -> bool:
        """The engine answers."""
        return self.connected or self._hearing.polling

    def _can_post(self) -> bool:
        depth = self._settings.pipeline_depth
        attempts = [each for each in self._ledger.attempts.values() if not each.unsent]
        return (
            self._there
            and self._reserved is None
            and self._clock.monotonic() >= self._ledger.retry_at
            and len(attempts) < 2 * depth
            and sum(not attempt.over for attempt in attempts) < depth
            # One POST at a time: two at once could reach the engine in the wrong order.
            and not any(attempt.submitting for attempt in attempts)
        )
