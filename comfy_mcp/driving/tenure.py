"""One process driving one engine, for as long as it holds the engine's lease.

A Tenure is an actor: one task owns all its state and takes messages from a bounded inbox. What needs the
engine runs as errands and comes back as a message. Every write to the store is fenced by the lease and the
attempt. Order matters in three places: a prompt_id is written before the POST; the history is read no sooner
than at `executing: null`, unless the events have said the whole story; after every (re)connect everything in
flight is looked up.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import assert_never

import structlog

from comfy_mcp.domain.catalog import OutputFile
from comfy_mcp.domain.errors import EngineFault
from comfy_mcp.domain.events import (
    EngineConnected,
    EngineDisconnected,
    EngineEvent,
    FrameLost,
    JobEvent,
    PromptEnded,
    PromptSucceeded,
    QueueRemaining,
)
from comfy_mcp.domain.ids import JobId, PromptId
from comfy_mcp.domain.prompt import PromptResult
from comfy_mcp.driving.attempt import Attempt
from comfy_mcp.driving.clock import Clock
from comfy_mcp.driving.errands import Errands, Freed, Looked, Sampled, Submitted
from comfy_mcp.driving.leasing import LeaseKeeper
from comfy_mcp.driving.ledger import Ledger, NodeList
from comfy_mcp.driving.memory_gate import MemoryGate
from comfy_mcp.driving.recovery import Sighting, explain_absence, must_free_memory
from comfy_mcp.gpu import GpuUsage
from comfy_mcp.places.protocol import Accepted, Place, PromptView, PromptWhere, Rejected
from comfy_mcp.settings import Settings
from comfy_mcp.store import Lease, Store

log = structlog.get_logger(__name__)

INBOX_SIZE = 4096
"""Messages waiting for the actor. When it is full the place waits, and coalesces step progress."""

BATCH = 256
"""Messages taken in before their effects are written: many events, one transaction."""

CANCEL_RETRY_S = (0.05, 0.2, 0.5, 1.0, 2.0)
"""Pauses before an engine is asked again to cancel; the last one repeats."""

IDLE_S = 5.0
"""Longest time without a look for work: a safety net under the wake-ups."""


@dataclass(frozen=True, slots=True)
class _Wake:
    pass


Message = EngineEvent | Submitted | Looked | Freed | Sampled | _Wake


class Tenure:
    """See the module. `run` ends only by an exception: Fenced when the lease is lost."""

    def __init__(
        self,
        *,
        lease: Lease,
        place: Place,
        store: Store,
        settings: Settings,
        clock: Clock,
        new_id: Callable[[], str],
        node_list: NodeList,
        gpu: GpuUsage,
        gate: MemoryGate,
    ) -> None:
        self._lease = lease
        self._place = place
        self._store = store
        self._settings = settings
        self._clock = clock
        self._ledger = Ledger(
            lease=lease,
            store=store,
            settings=settings,
            clock=clock,
            new_id=new_id,
            node_list=node_list,
            gpu=gpu,
            stream_id=lambda: place.stream_id,
            gate=gate,
            ask=place.sizes,
        )
        self._gate = gate
        self._inbox: asyncio.Queue[Message] = asyncio.Queue(INBOX_SIZE)
        self._cancels: set[JobId] = set()
        self._requeues: dict[PromptId, JobEvent] = {}
        self._foreign = 0
        self._connected = False
        self._connection = 0
        self._look_due = clock.monotonic() + IDLE_S
        self._woken = False
        self._log = log.bind(engine=lease.engine)

    @property
    def connected(self) -> bool:
        """The engine's event stream is open."""
        return self._connected

    @property
    def foreign(self) -> int:
        """Prompts at the engine that are not ours, by what it last said of its queue."""
        return self._foreign

    def work_arrived(self, job_id: JobId | None = None) -> None:
        """A job was queued somewhere. Cheap; callable from the loop at any time."""
        if job_id is not None and self._drives(job_id):
            return  # it was claimed before the log told of it
        self._ledger.may_have_work = True
        self._wake()

    def cancel_requested(self, job_id: JobId) -> None:
        """Somebody asked to cancel a job; it matters here if it is in flight here."""
        if self._drives(job_id):
            self._cancels.add(job_id)
            self._wake()

    def memory_may_be_free(self) -> None:
        """A job ended, here or elsewhere: it matters here if jobs are held."""
        if self._gate.holding:
            self._gate.hurry()
            self._wake()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            keeper = LeaseKeeper(self._lease, self._store, self._settings, self._clock)
            errands = Errands(self._place, group, self._inbox.put, keeper.confirm)
            await self._ledger.adopt()
            group.create_task(keeper.run(), name="lease")
            group.create_task(self._place.run(self._inbox.put), name="place")
            group.create_task(self._ledger.sizes.run(), name="sizes")
            while True:
                messages = await self._next()
                self._check_deadlines()  # first: an interrupt that is taken in now may be ours of before
                for message in messages:
                    await self._take(message, errands)
                self._follow()
                self._start_cancels()
                self._chase(errands)
                await self._ledger.write_due()
                await self._claim(errands)
                if (due := self._gate.due) is not None and due <= self._clock.monotonic():
                    self._ask_for_sample(errands)
                if self._ledger.durations_full or not (messages or self._ledger.attempts):
                    await self._ledger.save_durations()

    async def finish(self) -> None:
        """At the end, while the engine may still answer: write what was only kept in memory."""
        await self._ledger.save_durations()
        await self._ledger.sizes.fill()

    def _drives(self, job_id: JobId) -> bool:
        return any(attempt.job.id == job_id for attempt in self._ledger.attempts.values())

    # ------------------------------------------------------------------------------------------ waiting

    def _wake(self) -> None:
        if not self._woken and not self._inbox.full():  # a full inbox wakes the actor anyway
            self._woken = True
            self._inbox.put_nowait(_Wake())

    async def _next(self) -> list[Message]:
        """All messages that are there, or none when a deadline comes first."""
        messages: list[Message] = []
        try:
            async with asyncio.timeout(self._pause()):
                messages.append(await self._inbox.get())
        except TimeoutError:
            now = self._clock.monotonic()
            if now >= self._look_due:
                self._ledger.may_have_work, self._look_due = True, now + IDLE_S
            return messages
        while len(messages) < BATCH and not self._inbox.empty():
            messages.append(self._inbox.get_nowait())
        return messages

    def _pause(self) -> float:
        """Seconds until the next deadline of any attempt."""
        now = self._clock.monotonic()
        due = [self._look_due]
        if self._gate.due is not None:
            due.append(self._gate.due)
        for attempt in self._ledger.attempts.values():
            if attempt.due is not None:
                due.append(max(attempt.due, self._ledger.retry_at))
            if not (attempt.looking or attempt.submitting or attempt.settled):
                due.append(attempt.heard_at + self._settings.quiet_poll_s)
                due.extend(each for each in (attempt.cancel_due, attempt.deadline) if each is not None)
        return max(0.0, min(due) - now)

    # ----------------------------------------------------------------------------------------- messages

    async def _take(self, message: Message, errands: Errands) -> None:
        match message:
            case _Wake():
                self._woken = False
            case Submitted():
                self._submitted(message, errands)
            case Looked():
                await self._looked(message, errands)
            case Freed():
                self._freed(message.prompt_id)
            case Sampled():
                self._ledger.may_have_work |= self._gate.take(message.sample)
            case QueueRemaining():
                ours = sum(each.in_engines_queue for each in self._ledger.attempts.values())
                self._foreign = max(0, message.count - ours)
            case EngineConnected():
                self._connected = True
                self._connection += 1
                self._ledger.may_have_work = True
                self._log.info("engine_connected", in_flight=len(self._ledger.attempts))
                self._missed(message)
                self._look(self._ledger.attempts.values(), errands)  # nothing is replayed after a (re)connect
            case EngineDisconnected():
                self._connected = False
                self._foreign = 0
                self._log.warning("engine_disconnected", reason=message.reason)
                self._missed(message)
            case FrameLost():
                self._missed(message)
            case _:
                await self._heard(message, errands)

    def _missed(self, event: EngineConnected | EngineDisconnected | FrameLost) -> None:
        for attempt in self._ledger.attempts.values():
            attempt.missed_events(event, self._clock.now_ms())

    async def _heard(self, event: EngineEvent, errands: Errands) -> None:
        attempt = self._ledger.attempts.get(getattr(event, "prompt_id", None) or PromptId(""))
        if attempt is None or attempt.settled:
            return  # somebody else's prompt, or one that has already ended
        now_ms, now = self._clock.now_ms(), self._clock.monotonic()
        attempt.hear(event, now_ms=now_ms, now=now, stream_id=self._place.stream_id)
        if isinstance(event, PromptSucceeded) and (result := attempt.whole_story) is not None:
            await self._over(attempt, result, {}, errands)
        elif isinstance(event, PromptEnded):
            # The moment at which the history entry exists; success comes before it.
            self._look([attempt], errands)

    def _submitted(self, message: Submitted, errands: Errands) -> None:
        attempt = self._ledger.attempts.get(message.prompt_id)
        if attempt is None:
            return
        attempt.submitting = False
        attempt.heard_at = self._clock.monotonic()
        match message.answer:
            case Accepted(dropped=dropped):
                attempt.accepted = True
                attempt.connection = self._connection if self._connected else None
                if dropped:
                    self._log.warning("branches_dropped", job_id=attempt.job.id, nodes=sorted(dropped))
                if attempt.look_again:  # it ended, or the stream broke, before the POST was answered
                    self._look([attempt], errands)
            case Rejected(failure=failure):
                self._ledger.settle(attempt, self._ledger.failed(attempt.job, failure))
            case EngineFault() as fault:
                # Not known whether the engine has it: look, never send it again blindly.
                self._log.warning("submit_unanswered", job_id=attempt.job.id, error=str(fault))
                self._look([attempt], errands)
            case _:
                assert_never(message.answer)

    async def _looked(self, message: Looked, errands: Errands) -> None:
        for prompt_id in message.asked:
            attempt = self._ledger.attempts.get(prompt_id)
            if attempt is None or attempt.settled:
                continue
            attempt.looking = False
            attempt.heard_at = self._clock.monotonic()
            view = message.views.get(prompt_id)
            if view is not None and view.where is PromptWhere.ABSENT and attempt.heard_meanwhile:
                attempt.look_again = True  # a late POST: the engine did not have it yet when it was asked
            elif view is not None:
                if self._is_deaf(attempt, view):
                    self._log.warning("stream_is_deaf", job_id=attempt.job.id)
                    errands.reconnect()
                await self._seen(attempt, view, message.sizes, errands)
            attempt.quiet = False
            if attempt.look_again and prompt_id in self._ledger.attempts:
                self._look([attempt], errands)

    def _is_deaf(self, attempt: Attempt, view: PromptView) -> bool:
        """A prompt sent over the open stream moved on and the stream did not say so (quirk: an old socket
        with the same client id that closes late unregisters the new one)."""
        same_stream = self._connected and attempt.connection == self._connection
        return attempt.quiet and same_stream and view.where is PromptWhere.FINISHED

    async def _seen(
        self, attempt: Attempt, view: PromptView, sizes: Mapping[OutputFile, int], errands: Errands
    ) -> None:
        if view.where is PromptWhere.ABSENT:
            await self._absent(attempt, sizes, errands)
            return
        attempt.accepted = True
        attempt.absent_since = None
        if view.where is PromptWhere.RUNNING:
            attempt.start(self._clock.now_ms(), self._clock.monotonic())
        elif view.where is PromptWhere.FINISHED:
            assert view.result is not None
            await self._over(attempt, view.result, sizes, errands)

    async def _over(
        self, attempt: Attempt, result: PromptResult, sizes: Mapping[OutputFile, int], errands: Errands
    ) -> None:
        end = self._ledger.outcome(attempt, result)
        if must_free_memory(end):
            # Asked and answered before the job waits again: nobody sends it to an engine that is full still.
            attempt.settled = True
            self._requeues[attempt.prompt_id] = end
            errands.free(attempt.prompt_id)
        else:
            await self._ledger.conclude(attempt, end, result, sizes)

    def _freed(self, prompt_id: PromptId) -> None:
        attempt, requeue = self._ledger.attempts.get(prompt_id), self._requeues.pop(prompt_id)
        if attempt is not None:
            self._ledger.settle(attempt, requeue)

    async def _absent(self, attempt: Attempt, sizes: Mapping[OutputFile, int], errands: Errands) -> None:
        told = attempt.told_result()
        if told is not None:  # the history lost it, but the events had told the end
            await self._over(attempt, told, sizes, errands)
            return
        now = self._clock.monotonic()
        if not attempt.accepted:
            # A POST that got no answer may still be on its way: believe the absence only when it lasts.
            attempt.absent_since = now if attempt.absent_since is None else attempt.absent_since
            if now - attempt.absent_since < self._settings.quiet_poll_s:
                return
        seen = Sighting(
            accepted=attempt.accepted,
            same_connection=self._connected and attempt.connection == self._connection,
            expired=attempt.expired,
        )
        now_ms, limit = self._clock.now_ms(), self._settings.max_attempts
        self._ledger.settle(attempt, explain_absence(attempt.job, seen, max_attempts=limit, now=now_ms))

    def _follow(self) -> None:
        """Hear what is told of prompts that were submitted over another stream than the present one."""
        attempts = self._ledger.attempts.values() if self._connected else ()
        self._place.follow({each.stream_id for each in attempts if each.stream_id and not each.over})

    def _look(self, attempts: Iterable[Attempt], errands: Errands) -> None:
        """Look the prompts up now, or again as soon as a look or a POST under way has come back."""
        asked: list[PromptId] = []
        files: dict[OutputFile, None] = {}
        for attempt in attempts:
            if attempt.settled:
                continue
            attempt.look_again = attempt.looking or attempt.submitting
            if not attempt.look_again:
                attempt.begin_look()
                asked.append(attempt.prompt_id)
                files.update(attempt.files)
        if asked:
            errands.look(asked, files)

    # ------------------------------------------------------------------------------ deadlines and cancels

    def _start_cancels(self) -> None:
        self._cancels |= self._ledger.found_cancels
        self._ledger.found_cancels.clear()
        for attempt in self._ledger.attempts.values():
            if attempt.job.id in self._cancels and not attempt.settled:
                attempt.ask_cancel(self._clock.monotonic())
        self._cancels.clear()

    def _check_deadlines(self) -> None:
        now = self._clock.monotonic()
        for attempt in self._ledger.attempts.values():
            if not attempt.settled and (deadline := attempt.check_deadline(now)) is not None:
                self._log.info("deadline_passed", job_id=attempt.job.id, deadline=deadline.value)

    def _chase(self, errands: Errands) -> None:
        now = self._clock.monotonic()
        for attempt in list(self._ledger.attempts.values()):
            if attempt.looking or attempt.submitting or attempt.settled:
                continue
            if attempt.cancel_due is not None and attempt.cancel_due <= now:
                pause = CANCEL_RETRY_S[min(attempt.cancel_tries, len(CANCEL_RETRY_S) - 1)]
                attempt.cancel_tries += 1
                attempt.cancel_due = now + pause
                attempt.begin_look()
                errands.cancel(attempt.prompt_id)
            elif now - attempt.heard_at >= self._settings.quiet_poll_s:
                attempt.quiet = True
                self._look([attempt], errands)

    # ---------------------------------------------------------------------------------------------- work

    async def _claim(self, errands: Errands) -> None:
        """Take work while the engine is there and has room in its pipeline."""
        while self._has_room():
            if not self._gate.ready:
                if await self._ledger.any_waits():
                    self._ask_for_sample(errands)
                return
            claimed = await self._ledger.claim()
            if claimed is not None:
                attempt, graph = claimed
                attempt.submitting = True
                errands.submit(attempt.prompt_id, graph)

    def _ask_for_sample(self, errands: Errands) -> None:
        if not self._gate.asking:
            self._gate.asking = True
            errands.sample(self._gate.look)

    def _has_room(self) -> bool:
        depth, attempts = self._settings.pipeline_depth, self._ledger.attempts.values()
        return (
            self._connected
            and self._ledger.may_have_work
            and self._clock.monotonic() >= self._ledger.retry_at
            and len(attempts) < 2 * depth
            and sum(not attempt.over for attempt in attempts) < depth
            # One POST at a time: two at once could reach the engine in the wrong order.
            and not any(attempt.submitting for attempt in attempts)
        )
