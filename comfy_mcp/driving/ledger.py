"""What a tenure writes down: the attempts it drives, and every change of their jobs, fenced by the lease.

The Ledger is the tenure's own; only the tenure's one task writes. A store that refuses (full, locked) ends
nothing: what has to be written stays pending and is tried again.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import structlog

from comfy_mcp.domain.catalog import Output, OutputFile
from comfy_mcp.domain.errors import ErrorCode, Fenced, NotFound, StoreFault
from comfy_mcp.domain.events import (
    JobCancelled,
    JobCompleted,
    JobEvent,
    JobFailed,
    JobRequeued,
)
from comfy_mcp.domain.ids import JobId, OutputId, PromptId
from comfy_mcp.domain.job import IllegalTransition, Job
from comfy_mcp.driving.attempt import Attempt
from comfy_mcp.driving.containment import MAX_CONCLUDE_TRIES, Containment
from comfy_mcp.driving.ends import Ends
from comfy_mcp.driving.means import Means
from comfy_mcp.driving.sizes import OutputSizes
from comfy_mcp.logs import Facts, routine
from comfy_mcp.places.protocol import Runner
from comfy_mcp.store import Claim, ClaimOffer, Lease

log = structlog.get_logger(__name__)

NO_SIZES: Mapping[OutputFile, int] = MappingProxyType({})

STORE_RETRY_S = 1.0
"""Pause after a write that the store refused; the events stay pending."""


Along = tuple[ClaimOffer, Claim | None]
"""What was offered with the last end, and which job was claimed with it."""


class Ledger:
    """`attempts` are the prompts in flight. `may_have_work`: a claim may find a job. `sizes` asks for the
    bytes of files that were recorded without. `ends` say what follows for a job. `durations`: of nodes."""

    def __init__(self, *, lease: Lease, place: Runner, means: Means, containment: Containment) -> None:
        self.attempts: dict[PromptId, Attempt] = {}
        self.may_have_work = True
        self.retry_at = float("-inf")
        self.found_cancels: set[JobId] = set()
        self.ends = Ends(
            lease.engine, fleet=means.fleet, clock=means.clock, max_attempts=means.settings.max_attempts
        )
        self.sizes = OutputSizes(place.sizes, means.store)
        self.durations = means.durations
        self._lease = lease
        self._store = means.store
        self._clock = means.clock
        self._new_id = means.new_id
        self._gpu = means.gpu
        self._fleet = means.fleet
        self._concerns = means.concerns
        self._containment = containment
        self._along: Along | None = None
        self._log = log.bind(engine=lease.engine)

    @property
    def posting(self) -> bool:
        """A prompt is being sent, and the engine has not answered yet."""
        return any(attempt.submitting for attempt in self.attempts.values())

    def counts(self, attempt: Attempt) -> None:
        """The engine is busy with it, or will be."""
        self._fleet.sent(self._lease.engine, attempt.prompt_id, attempt.job.shape, attempt.needs)

    def counts_not(self, attempt: Attempt) -> None:
        """It waits for its files, and the engine may have other work."""
        self._fleet.over(self._lease.engine, attempt.prompt_id, completed=False)

    def settle(
        self,
        attempt: Attempt,
        end: JobEvent,
        files: Sequence[OutputFile] = (),
        sizes: Mapping[OutputFile, int] = NO_SIZES,
    ) -> None:
        """`end` ends the attempt. It is written with its outputs in one transaction, with the next writes,
        however often the store refuses."""
        outputs = [
            Output(
                id=OutputId(self._new_id()),
                job_id=attempt.job.id,
                attempt=attempt.job.attempt,
                engine=self._lease.engine,
                file=file,
                created_at=end.at,
                size=len(file.text.encode()) if file.text is not None else sizes.get(file),
            )
            for file in files
        ]
        self._fleet.over(self._lease.engine, attempt.prompt_id, completed=isinstance(end, JobCompleted))
        attempt.settle(self._measured(attempt, end), outputs)

    async def write_due(self, offer: Callable[[], ClaimOffer | None]) -> Along | None:
        """Everything whose time has come. Raises Fenced.

        `offer` makes room for the job that is claimed in the transaction of the last end, if it can. None: it
        is not known whether one was claimed, or nothing was offered.
        """
        now = self._clock.monotonic()
        if now < self.retry_at:
            return None
        due = [each for each in self.attempts.values() if each.due is not None and each.due <= now]
        for attempt in due:
            last = attempt is due[-1] and attempt.settled
            with self._containment.step(attempt, "write"):
                attempt.report_progress(now_ms=self._clock.now_ms(), now=now)
                await self._write(attempt, offer() if last else None)
            if attempt.tries > MAX_CONCLUDE_TRIES and attempt.pending:
                await self._drop(attempt)
        along, self._along = self._along, None
        return along

    async def _drop(self, attempt: Attempt) -> None:
        """Not even its end could be written the usual way: write that alone."""
        try:
            await self.end(attempt.job.id, attempt.pending[-1])
        except Fenced:
            raise
        except StoreFault as fault:
            self.refused(fault, attempt.job.id)  # the store is full or locked: this is tried again
            return
        self._remove(attempt)
        self.may_have_work = True

    async def end(self, job_id: JobId, end: JobEvent) -> None:
        """Write the end of a job that nobody follows. One that the tables refuse stays as it is, until
        somebody abandons the job. Raises StoreFault where the store writes nothing at all."""
        try:
            await self._store.record(self._lease, job_id, [end])
        except (IllegalTransition, NotFound):
            pass  # it has ended, or was deleted
        except StoreFault as fault:
            if fault.code is not ErrorCode.INTERNAL:
                raise
            self._log.error("end_refused", job_id=job_id, error=str(fault))
        except Exception:  # noqa: BLE001 - the other jobs must go on
            self._log.error("end_refused", job_id=job_id, exc_info=True)

    async def _write(self, attempt: Attempt, offer: ClaimOffer | None = None) -> None:
        """What is pending of an attempt; the next job's claim with it, if one is offered and found.

        What follows the commit keeps the claim, and lets go of an attempt that is over, whatever raises then:
        nobody would say so again.
        """
        events, outputs = attempt.take_pending()
        try:
            job = await self._record(attempt, events, outputs, offer)
        except NotFound:
            self.let_go(attempt, attempt.job)  # the job was deleted
            return
        except Exception as error:
            attempt.put_back(events, outputs)
            if isinstance(error, Fenced) or not isinstance(error, StoreFault):
                raise
            if error.code is ErrorCode.INTERNAL:  # it refused these events, and would again
                raise
            self.refused(error, attempt.job.id)
            return
        if job.cancel_requested and not attempt.job.cancel_requested:
            self.found_cancels.add(job.id)  # found out by the write, before the wake-up came
        cancelled = job.cancel_requested or attempt.job.cancel_requested
        if not job.is_final and job.prompt_id is None and cancelled:
            # The cancel came between the decision to try again and its write: nobody will claim the job.
            attempt.give_up(JobCancelled(job_id=job.id, at=self._clock.now_ms(), attempt=job.attempt))
            await self._write(attempt)
        elif job.is_final or job.prompt_id != attempt.prompt_id:
            self.let_go(attempt, job)
            self.sizes.want(outputs)
        else:
            attempt.written(job)

    async def _record(
        self, attempt: Attempt, events: list[JobEvent], outputs: list[Output], offer: ClaimOffer | None
    ) -> Job:
        if attempt.reference is not None:
            await self._store.keep_reference(self._lease, attempt.prompt_id, attempt.reference)
            attempt.reference = None
        if offer is not None:
            self.may_have_work = False  # before the look, as in `claim`
            try:
                job, claim = await self._store.record_and_claim(
                    attempt.job.id, events, outputs=outputs, offer=offer
                )
            except Exception as error:
                self.may_have_work = True
                if isinstance(error, StoreFault) and error.code is not ErrorCode.INTERNAL:
                    raise
                # A defect: whose it is shows when the end is written by itself.
            else:
                self._along = offer, claim
                return job
        try:
            return await self._store.record(self._lease, attempt.job.id, events, outputs=outputs)
        except IllegalTransition:
            ended = await self._store.get_job(attempt.job.id)
            if ended is None or not ended.is_final:
                attempt.settled = False
                raise
            self._log.info("ended_elsewhere", job_id=ended.id, status=ended.status.value)
            outputs.clear()
            return ended

    def let_go(self, attempt: Attempt, job: Job) -> None:
        """`job`, as the store has it, has ended, or is another attempt's now."""
        self._remove(attempt)
        self.may_have_work |= not job.is_final  # it waits again
        self._fleet.over(self._lease.engine, attempt.prompt_id, completed=False)
        self._gpu.forget(attempt.prompt_id)
        self.durations.observe(attempt.observed)
        facts: Facts = {
            "engine": self._lease.engine,
            "job_id": job.id,
            "prompt_id": attempt.prompt_id,
            "attempt": attempt.job.attempt,
            "status": job.status.value,
        }
        routine(logging.INFO, "attempt_over", facts)

    def _remove(self, attempt: Attempt) -> None:
        self.attempts.pop(attempt.prompt_id, None)
        if all(each.job.id != attempt.job.id for each in self.attempts.values()):
            self._concerns.unfollow(self._lease.engine, attempt.job.id)

    def refused(self, fault: StoreFault, job_id: JobId | None = None) -> None:
        self._log.error("store_refused", job_id=job_id, code=fault.code.value, error=str(fault))
        self.pause()

    def pause(self) -> None:
        """Nothing is written or claimed for a moment."""
        self.retry_at = self._clock.monotonic() + STORE_RETRY_S

    # ------------------------------------------------------------------------------------------ measuring

    def run_began(self, prompt_id: PromptId) -> None:
        """A run that another process began is not measured: half of it would be a wrong sum."""
        self._gpu.begin(prompt_id, self._lease.engine)
        self._fleet.began(self._lease.engine, prompt_id)

    def _measured(self, attempt: Attempt, event: JobEvent) -> JobEvent:
        """The event, if it ends the attempt, with what that took of the GPU."""
        if not isinstance(event, JobRequeued | JobCompleted | JobFailed | JobCancelled):
            return event
        gpu_use, ran_ms = self._gpu.use(attempt.prompt_id), attempt.ran_ms
        if gpu_use is None and ran_ms is None:
            return event
        return replace(event, gpu_use=gpu_use, ran_ms=ran_ms)

    # ------------------------------------------------------------------------------------------ learning

    async def save_durations(self) -> None:
        """What was learnt: when nothing has happened for a while, and at the tenure's end."""
        try:
            await self.durations.save()
        except StoreFault as fault:
            self._log.warning("durations_not_saved", code=fault.code.value, error=str(fault))
