"""What a tenure writes down: the attempts it drives, and every change of their jobs, fenced by the lease.

The Ledger is the tenure's own; only the tenure's one task writes. A store that refuses (full, locked) ends
nothing: what has to be written stays pending and is tried again.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import structlog

from comfy_mcp.domain import large_json
from comfy_mcp.domain.catalog import Output, OutputFile
from comfy_mcp.domain.errors import ErrorCode, Fenced, InvalidGraph, NotFound, StoreFault
from comfy_mcp.domain.events import (
    FailureKind,
    JobCancelled,
    JobCompleted,
    JobEvent,
    JobFailed,
    JobFailure,
    JobRequeued,
)
from comfy_mcp.domain.graph import Graph, parse_graph
from comfy_mcp.domain.graph_checks import check_graph
from comfy_mcp.domain.ids import JobId, OutputId, PromptId
from comfy_mcp.domain.job import IllegalTransition, Job
from comfy_mcp.domain.node_times import times_of
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.driving.attempt import Attempt
from comfy_mcp.driving.checked import Checked
from comfy_mcp.driving.containment import MAX_CONCLUDE_TRIES, Containment
from comfy_mcp.driving.ends import Ends
from comfy_mcp.driving.fleet import Choice
from comfy_mcp.driving.learning import Durations
from comfy_mcp.driving.means import Means
from comfy_mcp.driving.memory_gate import MemoryGate
from comfy_mcp.driving.offers import Offers
from comfy_mcp.driving.sizes import OutputSizes
from comfy_mcp.logs import Facts, routine
from comfy_mcp.places.protocol import Runner
from comfy_mcp.store import Claim, ClaimOffer, Lease

log = structlog.get_logger(__name__)

NO_SIZES: Mapping[OutputFile, int] = MappingProxyType({})

THREAD_BYTES = 262_144
"""A graph with a longer text is read and checked in a thread."""

MAX_UNSENT = 4
"""Attempts of one engine that wait for their files, at once."""

STORE_RETRY_S = 1.0
"""Pause after a write that the store refused; the events stay pending."""


class Ledger:
    """`attempts` are the prompts in flight. `may_have_work`: a claim may find a job. `left`: the last claim
    left jobs to other engines, for now. `seen`: it found that jobs wait. `sizes` asks for the bytes of files
    that were recorded without. `offers` are made to the store, `ends` say what follows for a job."""

    def __init__(
        self,
        *,
        lease: Lease,
        place: Runner,
        means: Means,
        gate: MemoryGate,
        containment: Containment,
    ) -> None:
        self.attempts: dict[PromptId, Attempt] = {}
        self.may_have_work = True
        self.left = self.seen = False
        self.retry_at = float("-inf")
        self.found_cancels: set[JobId] = set()
        self._lease = lease
        self._place = place
        self.offers = Offers(lease, means.lane, place, means.new_id)
        self.ends = Ends(
            lease.engine, fleet=means.fleet, clock=means.clock, max_attempts=means.settings.max_attempts
        )
        self._lane = means.lane
        self._store = means.store
        self._clock = means.clock
        self._new_id = means.new_id
        self._gpu = means.gpu
        self._checked = means.checked
        self._fleet = means.fleet
        self._gate = gate
        self._containment = containment
        self._may_have_held = True  # a process before this one, with another setting
        self.sizes = OutputSizes(place.sizes, means.store)
        self._durations = Durations(means.store)
        self._along: Claim | None = None  # the job that was claimed with the last end
        self._log = log.bind(engine=lease.engine)

    # ------------------------------------------------------------------------------------------ taking in

    async def adopt(self) -> None:
        """What the engine has, or may have, from whoever drove it before. Raises StoreFault."""
        for claim in await self._store.adopt(self._lease):
            assert claim.job.prompt_id is not None
            self._place.recall(claim.job.prompt_id, claim.reference)
            await self.admit(claim)

    async def claim(self) -> Attempt | None:
        """The next job. Its prompt_id is on disk: whatever dies now, it can be found again.

        None: there is none now, or the store refused. Raises Fenced.
        """
        self.may_have_work = False  # before the look: what arrives meanwhile says so again
        try:
            claim = await self._unheard() or await self._look()
        except Fenced:
            raise
        except StoreFault as fault:
            self._refused(fault)
            self.may_have_work = True
            return None
        except Exception:  # noqa: BLE001 - what runs must go on
            self._log.error("claim_failed", exc_info=True)
            self.retry_at = self._clock.monotonic() + STORE_RETRY_S
            self.may_have_work = True
            return None
        if claim is None:
            return None
        self.may_have_work |= claim.more
        return await self.admit(claim)

    async def _unheard(self) -> Claim | None:
        """A claim that was written with an open offer: nobody has sent its prompt. Raises StoreFault."""
        asked = self.offers.unheard
        if not asked:
            return None
        found = [each for each in await self._store.adopt(self._lease) if each.job.prompt_id in asked]
        self.offers.looked_up(asked, [each.job.prompt_id for each in found[1:]])
        self.may_have_work |= bool(found)
        return found[0] if found else None

    @property
    def takes_files(self) -> bool:
        """Whether a job whose files have to be brought may be claimed."""
        return sum(attempt.unsent for attempt in self.attempts.values()) < MAX_UNSENT

    def _chooser(self) -> Choice:
        return self._fleet.chooser(self._lease.engine, takes_files=self.takes_files)

    async def any_waits(self) -> bool:
        """Whether it is worth asking what there is room for. A store that refuses is asked again later."""
        self.may_have_work = False  # before the look, as in `claim`
        try:
            self.may_have_work |= await self._store.any_waits(now=self._clock.now_ms(), lane=self._lane)
        except StoreFault as fault:
            self._refused(fault)
            self.may_have_work = True
            return False
        return self.may_have_work

    async def is_wanted(self) -> bool:
        """Whether a job waits for which it is worth starting an engine that sleeps."""
        self.may_have_work = False  # before the look, as in `claim`
        peek = self._fleet.chooser(self._lease.engine).peek()
        try:
            await self._store.claim_next(
                self._lease,
                prompt_id=PromptId(self._new_id()),
                now=self._clock.now_ms(),
                lane=self._lane,
                stream_id=self._place.stream_id,
                chooser=peek,
            )
        except StoreFault as fault:
            if isinstance(fault, Fenced):
                raise
            self._refused(fault)
            self.may_have_work = True
        self.may_have_work |= peek.wanted
        return peek.wanted

    async def _look(self) -> Claim | None:
        admission = self._gate.admission() if self._gate.on or self._may_have_held else None
        chooser = self._chooser()
        offer = self.offers.make(chooser)
        claim = await self._store.claim_next(
            self._lease,
            prompt_id=offer.prompt_id,
            now=self._clock.now_ms(),
            lane=self._lane,
            stream_id=offer.stream_id,
            admission=admission,
            chooser=chooser,
        )
        self.offers.answered(offer)
        self.left, self.seen = chooser.left, chooser.seen
        self._may_have_held = False
        if admission is not None and self._gate.on:
            self._gate.looked(admission, holding=claim is None and await self._store.any_held())
        return claim

    async def admit(self, claim: Claim, checked: Checked | None = None) -> Attempt | None:
        """Follow a claimed job; `checked` is its graph, if it is known. None: it can't be followed, and has
        failed."""
        job = claim.job
        try:
            checked = checked or self._checked.take(job.id) or await self._check(claim.text)
            return self._followed(claim, checked, await self._known_durations(checked.graph))
        except StoreFault:
            raise
        except InvalidGraph as error:
            end = self.ends.failed(job, JobFailure(kind=FailureKind.VALIDATION, message=error.message))
        except Exception as error:  # noqa: BLE001 - the other jobs must go on
            end = self._containment.refuse(job, "prepare", error)
        await self._end(job.id, end)
        return None

    def follow_now(self, claim: Claim, checked: Checked) -> Attempt | None:
        """The same in one step; None where it can't be: its nodes' times must be read, or a defect came."""
        durations = self._durations.known_now(_keys_of(checked.graph))
        try:
            return None if durations is None else self._followed(claim, checked, durations)
        except Exception:  # noqa: BLE001 - `admit` meets it again, and has time to write the job's end
            return None

    def _followed(self, claim: Claim, checked: Checked, durations: Mapping[str, float]) -> Attempt:
        job = claim.job
        attempt = Attempt(
            job,
            checked,
            durations,
            heard_at=self._clock.monotonic(),
            now_ms=self._clock.now_ms(),
            on_start=self._run_began,
            stream_id=claim.stream_id,
        )
        attempt.needs = claim.needs
        self.counts(attempt)
        if claim.submitted is not None:
            attempt.extra_data = claim.submitted.extra_data(job.client)
        if job.cancel_requested:
            attempt.ask_cancel(self._clock.monotonic())
        self.attempts[attempt.prompt_id] = attempt
        return attempt

    def counts(self, attempt: Attempt) -> None:
        """The engine is busy with it, or will be."""
        self._fleet.sent(self._lease.engine, attempt.prompt_id, attempt.job.shape, attempt.needs)

    def counts_not(self, attempt: Attempt) -> None:
        """It waits for its files, and the engine may have other work."""
        self._fleet.over(self._lease.engine, attempt.prompt_id, completed=False)

    async def _check(self, text: str) -> Checked:
        """A large graph in a thread, so that others have their turn meanwhile. Raises InvalidGraph."""
        if len(text) <= THREAD_BYTES:
            return _checked(text, self._place.known_nodes)
        return await asyncio.to_thread(_checked, text, self._place.known_nodes)

    async def _known_durations(self, graph: Graph) -> Mapping[str, float]:
        try:
            return await self._durations.known(_keys_of(graph))
        except StoreFault:
            return {}  # they only weigh the progress; the job is claimed and must be followed

    # ------------------------------------------------------------------------------------------- writing

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

    async def write_due(self, *, room: bool) -> Attempt | None:
        """Everything whose time has come. Raises Fenced.

        With `room`, the next job is claimed in the transaction of the last end, and returned: what follows an
        end costs no second one.
        """
        now = self._clock.monotonic()
        if now < self.retry_at:
            return None
        due = [each for each in self.attempts.values() if each.due is not None and each.due <= now]
        for attempt in due:
            along = room and attempt is due[-1] and attempt.settled and self._may_claim_along
            with self._containment.step(attempt, "write"):
                attempt.report_progress(now_ms=self._clock.now_ms(), now=now)
                chooser = self._chooser() if along else None
                await self._write(attempt, None if chooser is None else self.offers.make(chooser))
                self.left = self.left if chooser is None else chooser.left
            if attempt.tries > MAX_CONCLUDE_TRIES and attempt.pending:
                await self._drop(attempt)
        claim, self._along = self._along, None
        if claim is None:
            return None
        self.may_have_work |= claim.more
        return await self.admit(claim)

    @property
    def _may_claim_along(self) -> bool:
        """Work is expected, and no job may be held for memory."""
        return self.may_have_work and not self._gate.on and not self._may_have_held

    async def _drop(self, attempt: Attempt) -> None:
        """Not even its end could be written the usual way: write that alone."""
        try:
            await self._end(attempt.job.id, attempt.pending[-1])
        except Fenced:
            raise
        except StoreFault as fault:
            self._refused(fault, attempt.job.id)  # the store is full or locked: this is tried again
            return
        self.attempts.pop(attempt.prompt_id, None)
        self.may_have_work = True

    async def _end(self, job_id: JobId, end: JobEvent) -> None:
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
            job, claim = await self._record(attempt, events, outputs, offer)
            self._along = claim or self._along
        except NotFound:
            self.let_go(attempt, attempt.job)  # the job was deleted
            return
        except Exception as error:
            attempt.put_back(events, outputs)
            if isinstance(error, Fenced) or not isinstance(error, StoreFault):
                raise
            if error.code is ErrorCode.INTERNAL:  # it refused these events, and would again
                raise
            self._refused(error, attempt.job.id)
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
    ) -> tuple[Job, Claim | None]:
        if attempt.reference is not None:
            await self._store.keep_reference(self._lease, attempt.prompt_id, attempt.reference)
            attempt.reference = None
        if offer is not None:
            self.may_have_work = False  # before the look, as in `claim`
            try:
                answer = await self._store.record_and_claim(
                    attempt.job.id, events, outputs=outputs, offer=offer
                )
            except Exception as error:
                self.may_have_work = True
                if isinstance(error, StoreFault) and error.code is not ErrorCode.INTERNAL:
                    raise
                # A defect: whose it is shows when the end is written by itself.
            else:
                self.offers.answered(offer)
                return answer
        try:
            return await self._store.record(self._lease, attempt.job.id, events, outputs=outputs), None
        except IllegalTransition:
            job = await self._store.get_job(attempt.job.id)
            if job is None or not job.is_final:
                attempt.settled = False
                raise
            self._log.info("ended_elsewhere", job_id=job.id, status=job.status.value)
            outputs.clear()
            return job, None

    def let_go(self, attempt: Attempt, job: Job) -> None:
        """`job`, as the store has it, has ended, or is another attempt's now."""
        self.attempts.pop(attempt.prompt_id, None)
        self.may_have_work |= not job.is_final  # it waits again
        self._fleet.over(self._lease.engine, attempt.prompt_id, completed=False)
        self._gpu.forget(attempt.prompt_id)
        self._durations.observe(attempt.observed)
        facts: Facts = {
            "engine": self._lease.engine,
            "job_id": job.id,
            "prompt_id": attempt.prompt_id,
            "attempt": attempt.job.attempt,
            "status": job.status.value,
        }
        routine(logging.INFO, "attempt_over", facts)

    def _refused(self, fault: StoreFault, job_id: JobId | None = None) -> None:
        self._log.error("store_refused", job_id=job_id, code=fault.code.value, error=str(fault))
        self.retry_at = self._clock.monotonic() + STORE_RETRY_S

    # ------------------------------------------------------------------------------------------ measuring

    def _run_began(self, prompt_id: PromptId) -> None:
        """A run that another process began is not measured: half of it would be a wrong sum."""
        self._gpu.begin(prompt_id, self._lease.engine)
        self._fleet.began(self._lease.engine, prompt_id)

    def _measured(self, attempt: Attempt, event: JobEvent) -> JobEvent:
        """The event, if it ends the attempt, with what that took of the GPU."""
        if isinstance(event, JobRequeued | JobCompleted | JobFailed | JobCancelled):
            return replace(event, gpu_use=self._gpu.use(attempt.prompt_id), ran_ms=attempt.ran_ms)
        return event

    # ------------------------------------------------------------------------------------------ learning

    @property
    def durations_full(self) -> bool:
        return self._durations.full

    async def save_durations(self) -> None:
        """What was learnt: when nothing has happened for a while, and at the tenure's end."""
        try:
            await self._durations.save()
        except StoreFault as fault:
            self._log.warning("durations_not_saved", code=fault.code.value, error=str(fault))


def _checked(text: str, nodes: ObjectInfo | None) -> Checked:
    graph = parse_graph(large_json.loads(text))
    report = check_graph(graph, nodes)
    return Checked(graph=graph, report=report if report.runnable else check_graph(graph, None))


def _keys_of(graph: Graph) -> set[str]:
    return {key for times in times_of(graph).values() for key in times.keys}
