"""One process driving one engine, for as long as it holds the engine's lease.

A Tenure is an actor: one task owns all its state and takes messages from a bounded inbox. What needs the
engine runs as errands and comes back as a message. Every write to the store is fenced by the lease and the
attempt. Order matters in three places: a prompt_id is written before the POST; the history is read at
`executing: null`; after every (re)connect everything in flight is looked up.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

import structlog

from comfy_mcp.bridge.attempt import Attempt
from comfy_mcp.bridge.clock import Clock
from comfy_mcp.bridge.errands import Errands, Looked, Submitted
from comfy_mcp.bridge.learning import Durations
from comfy_mcp.bridge.recovery import Sighting, conclude, explain_absence
from comfy_mcp.domain.catalog import Output, OutputFile
from comfy_mcp.domain.errors import EngineFault, Fenced, InvalidGraph, StoreFault
from comfy_mcp.domain.events import (
    EngineConnected,
    EngineDisconnected,
    EngineEvent,
    FailureKind,
    JobCancelled,
    JobEvent,
    JobFailed,
    JobFailure,
)
from comfy_mcp.domain.graph import parse_graph
from comfy_mcp.domain.graph_checks import check_graph
from comfy_mcp.domain.ids import JobId, OutputId, PromptId
from comfy_mcp.domain.job import IllegalTransition, Job
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.prompt import PromptResult
from comfy_mcp.lanes.protocol import Accepted, Lane, PromptView, PromptWhere, Rejected
from comfy_mcp.settings import Settings
from comfy_mcp.store import Claim, Lease, Store

log = structlog.get_logger(__name__)

INBOX_SIZE = 4096
"""Messages waiting for the actor. When it is full the lane waits, and coalesces step progress."""

BATCH = 256
"""Messages taken in before their effects are written: many events, one transaction."""

CANCEL_RETRY_S = (0.05, 0.2, 0.5, 1.0, 2.0)
"""Pauses before an engine is asked again to cancel; the last one repeats."""

STORE_RETRY_S = 1.0
"""Pause after a write that the store refused (full, locked); the events stay pending."""

IDLE_S = 5.0
"""Longest time without a look for work: a safety net under the wake-ups."""


NodeList = Callable[[], ObjectInfo | None]
"""What is known of the engine's node list without asking it: it tells which nodes are outputs."""


@dataclass(frozen=True, slots=True)
class _Wake:
    pass


class Tenure:
    """See the module. `run` ends only by an exception: Fenced when the lease is lost."""

    def __init__(
        self,
        *,
        lease: Lease,
        lane: Lane,
        store: Store,
        settings: Settings,
        clock: Clock,
        new_id: Callable[[], str],
        node_list: NodeList,
    ) -> None:
        self._lease = lease
        self._lane = lane
        self._store = store
        self._settings = settings
        self._clock = clock
        self._new_id = new_id
        self._node_list = node_list
        self._inbox: asyncio.Queue[EngineEvent | Submitted | Looked | _Wake] = asyncio.Queue(INBOX_SIZE)
        self._attempts: dict[PromptId, Attempt] = {}
        self._cancels: set[JobId] = set()
        self._durations = Durations(store)
        self._connected = False
        self._connection = 0
        self._may_have_work = True
        self._look_due = clock.monotonic() + IDLE_S
        self._woken = False
        self._store_retry_at = float("-inf")
        self._log = log.bind(engine=lease.engine)

    @property
    def connected(self) -> bool:
        """The engine's event stream is open."""
        return self._connected

    def work_arrived(self, job_id: JobId | None = None) -> None:
        """A job was queued somewhere. Cheap; callable from the loop at any time."""
        if job_id is not None and self._drives(job_id):
            return  # it was claimed before the log told of it
        self._may_have_work = True
        self._wake()

    def cancel_requested(self, job_id: JobId) -> None:
        """Somebody asked to cancel a job; it matters here if it is in flight here."""
        if self._drives(job_id):
            self._cancels.add(job_id)
            self._wake()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            errands = Errands(self._lane, group, self._inbox.put)
            for claim in await self._store.adopt(self._lease):
                await self._admit(claim)
            group.create_task(self._keep_lease(), name="lease")
            group.create_task(self._lane.run(self._inbox.put), name="lane")
            while True:
                messages = await self._next()
                for message in messages:
                    await self._take(message, errands)
                self._start_cancels()
                self._chase(errands)
                await self._write_due()
                await self._claim(errands)
                if self._durations.full or not (messages or self._attempts):
                    await self.save_durations()

    async def save_durations(self) -> None:
        """What this tenure has learnt: when nothing has happened for a while, and at its end."""
        try:
            await self._durations.save()
        except StoreFault as fault:
            self._log.warning("durations_not_saved", code=fault.code.value, error=str(fault))

    def _drives(self, job_id: JobId) -> bool:
        return any(attempt.job.id == job_id for attempt in self._attempts.values())

    # ------------------------------------------------------------------------------------------ waiting

    def _wake(self) -> None:
        if not self._woken and not self._inbox.full():  # a full inbox wakes the actor anyway
            self._woken = True
            self._inbox.put_nowait(_Wake())

    async def _next(self) -> list[EngineEvent | Submitted | Looked | _Wake]:
        """All messages that are there, or none when a deadline comes first."""
        messages: list[EngineEvent | Submitted | Looked | _Wake] = []
        try:
            async with asyncio.timeout(self._pause()):
                messages.append(await self._inbox.get())
        except TimeoutError:
            now = self._clock.monotonic()
            if now >= self._look_due:
                self._may_have_work, self._look_due = True, now + IDLE_S
            return messages
        while len(messages) < BATCH and not self._inbox.empty():
            messages.append(self._inbox.get_nowait())
        return messages

    def _pause(self) -> float:
        """Seconds until the next deadline of any attempt."""
        now = self._clock.monotonic()
        due = [self._look_due]
        for attempt in self._attempts.values():
            if attempt.due is not None:
                due.append(max(attempt.due, self._store_retry_at))
            if not (attempt.looking or attempt.submitting or attempt.settled):
                due.append(attempt.heard_at + self._settings.quiet_poll_s)
                due.extend([] if attempt.cancel_due is None else [attempt.cancel_due])
        return max(0.0, min(due) - now)

    async def _keep_lease(self) -> None:
        """Renew well before the end. Without a renewal in time the engine is given up, not fought for."""
        ttl = self._settings.lease_ttl_s
        renewed = self._clock.monotonic()
        while True:
            await asyncio.sleep(ttl / 3)
            try:
                await self._store.renew_lease(self._lease, ttl)
                renewed = self._clock.monotonic()
            except Fenced:
                raise
            except StoreFault as fault:
                self._log.warning("lease_not_renewed", error=str(fault))
                if self._clock.monotonic() - renewed >= ttl:
                    raise

    # ----------------------------------------------------------------------------------------- messages

    async def _take(self, message: EngineEvent | Submitted | Looked | _Wake, errands: Errands) -> None:
        match message:
            case _Wake():
                self._woken = False
            case Submitted():
                self._submitted(message, errands)
            case Looked():
                await self._looked(message, errands)
            case EngineConnected():
                self._connected = True
                self._connection += 1
                self._may_have_work = True
                self._log.info("engine_connected", in_flight=len(self._attempts))
                for attempt in self._attempts.values():
                    attempt.missed_events(message, self._clock.now_ms())
                self._look(self._attempts.values(), errands)  # nothing is replayed after a (re)connect
            case EngineDisconnected():
                self._connected = False
                self._log.warning("engine_disconnected", reason=message.reason)
            case _:
                self._heard(message, errands)

    def _heard(self, event: EngineEvent, errands: Errands) -> None:
        attempt = self._attempts.get(getattr(event, "prompt_id", None) or PromptId(""))
        if attempt is None or attempt.settled:
            return  # somebody else's prompt, or one that has already ended
        if attempt.hear(event, now_ms=self._clock.now_ms(), now=self._clock.monotonic()):
            # `executing: null` is the moment at which the history entry exists; success comes before it.
            self._look([attempt], errands)

    def _submitted(self, message: Submitted, errands: Errands) -> None:
        attempt = self._attempts.get(message.prompt_id)
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
                self._settle(attempt, self._failed(attempt.job, failure))
            case EngineFault() as fault:
                # Not known whether the engine has it: look, never send it again blindly.
                self._log.warning("submit_unanswered", job_id=attempt.job.id, error=str(fault))
                self._look([attempt], errands)
            case _:
                assert_never(message.answer)

    async def _looked(self, message: Looked, errands: Errands) -> None:
        for prompt_id in message.asked:
            attempt = self._attempts.get(prompt_id)
            if attempt is None or attempt.settled:
                continue
            attempt.looking = False
            attempt.heard_at = self._clock.monotonic()
            view = message.views.get(prompt_id)
            if view is not None:
                if self._is_deaf(attempt, view):
                    self._log.warning("stream_is_deaf", job_id=attempt.job.id)
                    errands.reconnect()
                await self._seen(attempt, view, message.sizes)
            attempt.quiet = False
            if attempt.look_again and prompt_id in self._attempts:
                self._look([attempt], errands)

    def _is_deaf(self, attempt: Attempt, view: PromptView) -> bool:
        """A prompt sent over the open stream moved on and the stream did not say so (quirk: an old socket
        with the same client id that closes late unregisters the new one)."""
        same_stream = self._connected and attempt.connection == self._connection
        return attempt.quiet and same_stream and view.where is PromptWhere.FINISHED

    async def _seen(self, attempt: Attempt, view: PromptView, sizes: Mapping[OutputFile, int]) -> None:
        if view.where is PromptWhere.ABSENT:
            await self._absent(attempt, sizes)
            return
        attempt.accepted = True
        attempt.absent_since = None
        if view.where is PromptWhere.RUNNING:
            attempt.start(self._clock.now_ms(), self._clock.monotonic())
        elif view.where is PromptWhere.FINISHED:
            assert view.result is not None
            await self._conclude(attempt, view.result, sizes)

    async def _absent(self, attempt: Attempt, sizes: Mapping[OutputFile, int]) -> None:
        told = attempt.told_result()
        if told is not None:  # the history lost it, but the events had told the end
            await self._conclude(attempt, told, sizes)
            return
        now = self._clock.monotonic()
        if not attempt.accepted and not attempt.job.cancel_requested:
            # A POST that got no answer may still be on its way: believe the absence only when it lasts.
            attempt.absent_since = now if attempt.absent_since is None else attempt.absent_since
            if now - attempt.absent_since < self._settings.quiet_poll_s:
                return
        seen = Sighting(
            accepted=attempt.accepted,
            same_connection=self._connected and attempt.connection == self._connection,
        )
        now_ms, limit = self._clock.now_ms(), self._settings.max_attempts
        self._settle(attempt, explain_absence(attempt.job, seen, max_attempts=limit, now=now_ms))

    def _look(self, attempts: Iterable[Attempt], errands: Errands) -> None:
        """Look the prompts up now, or again as soon as a look or a POST under way has come back."""
        asked: list[PromptId] = []
        files: dict[OutputFile, None] = {}
        for attempt in attempts:
            if attempt.settled:
                continue
            attempt.look_again = attempt.looking or attempt.submitting
            if not attempt.look_again:
                attempt.looking = True
                asked.append(attempt.prompt_id)
                files.update(attempt.files)
        if asked:
            errands.look(asked, files)

    # ------------------------------------------------------------------------------ deadlines and cancels

    def _start_cancels(self) -> None:
        for attempt in self._attempts.values():
            if attempt.job.id in self._cancels and not attempt.settled:
                attempt.ask_cancel(self._clock.monotonic())
        self._cancels.clear()

    def _chase(self, errands: Errands) -> None:
        now = self._clock.monotonic()
        for attempt in list(self._attempts.values()):
            if attempt.looking or attempt.submitting or attempt.settled:
                continue
            if attempt.cancel_due is not None and attempt.cancel_due <= now:
                pause = CANCEL_RETRY_S[min(attempt.cancel_tries, len(CANCEL_RETRY_S) - 1)]
                attempt.cancel_tries += 1
                attempt.cancel_due = now + pause
                attempt.looking = True
                errands.cancel(attempt.prompt_id)
            elif now - attempt.heard_at >= self._settings.quiet_poll_s:
                attempt.quiet = True
                self._look([attempt], errands)

    # ------------------------------------------------------------------------------------------- endings

    async def _conclude(
        self, attempt: Attempt, result: PromptResult, sizes: Mapping[OutputFile, int]
    ) -> None:
        now_ms = self._clock.now_ms()
        attempt.start(now_ms, self._clock.monotonic())
        attempt.finish()
        outputs = [
            Output(
                id=OutputId(self._new_id()),
                job_id=attempt.job.id,
                attempt=attempt.job.attempt,
                engine=self._lease.engine,
                file=file,
                created_at=now_ms,
                size=len(file.text.encode()) if file.text is not None else sizes.get(file),
            )
            for file in result.outputs
        ]
        # Kept pending by no one if the store refuses it: the prompt is looked up again after the quiet time.
        await self._write(attempt, [*attempt.pending, conclude(attempt.job, result, now=now_ms)], outputs)

    def _settle(self, attempt: Attempt, event: JobEvent) -> None:
        """`event` ends the attempt; it is written with the next batch, however often the store refuses."""
        attempt.finish()
        attempt.settled = True
        attempt.pending.append(event)

    def _failed(self, job: Job, failure: JobFailure) -> JobFailed:
        return JobFailed(job_id=job.id, at=self._clock.now_ms(), attempt=job.attempt, failure=failure)

    # --------------------------------------------------------------------------------------------- store

    async def _write_due(self) -> None:
        now = self._clock.monotonic()
        if now < self._store_retry_at:
            return
        for attempt in list(self._attempts.values()):
            if attempt.due is not None and attempt.due <= now:
                attempt.report_progress(now_ms=self._clock.now_ms(), now=now)
                await self._write(attempt, attempt.pending, ())

    async def _write(self, attempt: Attempt, events: Sequence[JobEvent], outputs: Sequence[Output]) -> None:
        job_id = attempt.job.id
        try:
            job = await self._store.record(self._lease, job_id, list(events), outputs=outputs)
        except Fenced:
            raise
        except StoreFault as fault:
            self._log.error("store_refused", job_id=job_id, code=fault.code.value, error=str(fault))
            self._store_retry_at = self._clock.monotonic() + STORE_RETRY_S
            return
        except IllegalTransition as error:
            self._log.error("impossible_event", job_id=job_id, error=str(error))
            job = await self._store.get_job(job_id) or attempt.job
            attempt.settled = False
        attempt.pending.clear()
        if job.cancel_requested and not attempt.job.cancel_requested:
            self._cancels.add(job.id)  # found out by the write, before the wake-up came
        attempt.job = job
        if not job.is_final and job.prompt_id is None and job.cancel_requested:
            # The cancel came between the decision to try again and its write: nobody will claim the job.
            event = JobCancelled(job_id=job.id, at=self._clock.now_ms(), attempt=job.attempt)
            await self._write(attempt, [event], ())
        elif job.is_final or job.prompt_id != attempt.prompt_id:
            self._let_go(attempt)

    def _let_go(self, attempt: Attempt) -> None:
        del self._attempts[attempt.prompt_id]
        self._may_have_work |= not attempt.job.is_final  # it waits again
        self._durations.observe(attempt.observed)
        self._log.info(
            "attempt_over",
            job_id=attempt.job.id,
            prompt_id=attempt.prompt_id,
            attempt=attempt.job.attempt,
            status=attempt.job.status.value,
        )

    async def _claim(self, errands: Errands) -> None:
        """Take work while the engine is there and has room in its pipeline."""
        try:
            while self._has_room():
                prompt_id = PromptId(self._new_id())
                self._may_have_work = False  # before the look: what arrives meanwhile says so again
                claim = await self._store.claim_next(
                    self._lease, prompt_id=prompt_id, now=self._clock.now_ms()
                )
                if claim is None:
                    break
                self._may_have_work |= claim.more
                if await self._admit(claim):
                    # The prompt_id is on disk: whatever dies now, the prompt can be found again.
                    self._attempts[prompt_id].submitting = True
                    errands.submit(prompt_id, claim.graph)
        except Fenced:
            raise
        except StoreFault as fault:
            self._log.error("store_refused", code=fault.code.value, error=str(fault))
            self._store_retry_at = self._clock.monotonic() + STORE_RETRY_S
            self._may_have_work = True

    def _has_room(self) -> bool:
        depth = self._settings.pipeline_depth
        return (
            self._connected
            and self._may_have_work
            and self._clock.monotonic() >= self._store_retry_at
            and len(self._attempts) < 2 * depth
            and sum(not attempt.over for attempt in self._attempts.values()) < depth
            # One POST at a time: two at once could reach the engine in the wrong order.
            and not any(attempt.submitting for attempt in self._attempts.values())
        )

    async def _admit(self, claim: Claim) -> bool:
        """Follow a claimed job. False if its graph can't be read by this version: it has failed then."""
        job = claim.job
        try:
            graph = parse_graph(claim.graph)
        except InvalidGraph as error:
            failure = JobFailure(kind=FailureKind.VALIDATION, message=error.message)
            await self._store.record(self._lease, job.id, [self._failed(job, failure)])
            return False
        needed = check_graph(graph, self._node_list()).needed or check_graph(graph, None).needed
        attempt = Attempt(
            job,
            graph,
            needed,
            await self._durations.known({node.class_type for node in graph.nodes.values()}),
            progress_interval_s=self._settings.progress_interval_s,
            heard_at=self._clock.monotonic(),
        )
        self._attempts[attempt.prompt_id] = attempt
        if job.cancel_requested:
            attempt.ask_cancel(self._clock.monotonic())
        return True
