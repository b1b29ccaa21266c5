"""The part of the store's face for whoever drives an engine: leases, claims, and what becomes of a job."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from comfy_mcp.domain.bounded import Bounded
from comfy_mcp.domain.catalog import Output
from comfy_mcp.domain.errors import Fenced
from comfy_mcp.domain.events import JobEvent, JobProgressed, StoredEvent
from comfy_mcp.domain.ids import LOCAL, EngineId, JobId, PromptId
from comfy_mcp.domain.job import Job
from comfy_mcp.domain.vram import Admission
from comfy_mcp.store import choosing, claims, holds, leases, queue, reads
from comfy_mcp.store.connection import Connection
from comfy_mcp.store.database import Database
from comfy_mcp.store.driven import Driven
from comfy_mcp.store.queries import Chooser, Claim, ClaimOffer, JobView, Lease, LeaseState, Submission
from comfy_mcp.store.side_tables import SideTables
from comfy_mcp.store.sqlite.direct import Direct
from comfy_mcp.store.threads import Work
from comfy_mcp.store.view_cache import ViewCache

SMALL_BYTES = 65_536
"""Graphs beyond it are written by the thread: one of a megabyte takes 9 ms."""

PLAIN_KEPT = 1024
"""Jobs remembered for their waits: beyond it the oldest is looked up again."""

T = TypeVar("T")

AddedAndClaimed = tuple[Job, int, Claim | None]


FEW_OUTPUTS = 128
FEW_CHARS = 65_536
"""More outputs at once, or more of their texts, are written by the thread: thousands take 100 ms."""


class DriverSide(SideTables):
    """Every write of a lease's holder is fenced: it raises Fenced once another holder took over."""

    _small: Direct | None
    """None: no write is done on the loop."""
    _tell: Callable[[Sequence[StoredEvent]], None]

    def __init__(self, database: Database, *, kept_shapes: int) -> None:
        super().__init__(database, kept_shapes=kept_shapes)
        self._views = ViewCache()
        self._driven = Driven()
        self._plain: Bounded[JobId, bool] = Bounded(PLAIN_KEPT)
        """Jobs of this process of which nothing is kept beside the graph."""
        self._renewing = asyncio.Lock()
        self._renewals = 0
        self._held: Bounded[str, dict[EngineId, int]] = Bounded(8)
        """By holder, as of the last renewal."""
        self._given_up: set[Lease] = set()
        """Leases whose release failed: a renewal of the others must not keep them."""
        self._unheard: set[tuple[EngineId, str]] = set()
        """Engines and holders that may have a lease which nobody got: nor must it keep those."""

    # ------------------------------------------------------------------ leases

    async def acquire_lease(self, engine: EngineId, holder: str, ttl_s: float) -> Lease | None:
        """None while another holder's is live. `holder` must be this process's alone."""
        self._unheard.discard((engine, holder))
        try:
            return await self._write(lambda connection: leases.acquire(connection, engine, holder, ttl_s))
        except BaseException:  # cancelled, or without an answer: it may be written
            self._unheard.add((engine, holder))
            raise

    async def renew_lease(self, lease: Lease, ttl_s: float) -> None:
        """With it all leases of its holder. Whoever asks while one renewal waits gets the next one's answer,
        together: an engine more is no transaction more. Raises Fenced once another holder took over."""
        begun = self._renewals
        async with self._renewing:
            if self._renewals == begun or lease.holder not in self._held:
                await asyncio.sleep(0)  # whoever asks in this step of the loop is in it
                self._renewals += 1
                self._held.pop(lease.holder, None)
                given_up = tuple(self._given_up)
                unheard = {engine for engine, holder in self._unheard if holder == lease.holder}

                def renew(connection: Connection) -> dict[EngineId, int]:
                    for each in given_up:
                        leases.release(connection, each)
                    return leases.renew(connection, lease.holder, ttl_s, unheard)

                self._held[lease.holder] = await self._write(renew)
                self._given_up.difference_update(given_up)
            fence = self._held[lease.holder].get(lease.engine)
        if fence != lease.fence:
            raise leases.lost(lease)

    async def release_lease(self, lease: Lease) -> None:
        self._driven.forget(lease)
        self._given_up.add(lease)
        await self._write(lambda connection: leases.release(connection, lease))
        self._given_up.discard(lease)

    async def lease_of(self, engine: EngineId) -> LeaseState | None:
        return await self._readers.do(lambda connection: leases.state(connection, engine))

    async def live_leases(self) -> dict[EngineId, str]:
        """The holders of all leases that have not expired."""
        return await self._readers.do(leases.live)

    async def forget_bridges(self) -> None:
        """Those that are no more."""
        await self._write(leases.forget_bridges)

    async def drain(self, engine: EngineId, *, at: int | None) -> None:
        """The engine takes nothing new, whoever drives it; None: it does again."""
        await self._write(lambda connection: leases.drain(connection, engine, at))

    async def keep_gpu_memory(self, memory: Mapping[EngineId, int]) -> None:
        """Bytes of the GPUs of engines."""
        await self._write(lambda connection: leases.keep_gpu_memory(connection, memory))

    async def gpu_memory(self) -> dict[EngineId, int]:
        return await self._readers.do(leases.gpu_memory)

    async def drained(self) -> set[EngineId]:
        return await self._readers.do(leases.drained)

    # ------------------------------------------------------------------ claims

    async def add_and_claim(self, submission: Submission, offer: ClaimOffer | None) -> AddedAndClaimed:
        """As `Store.add_job`, and in the same transaction the claim, if the job is the next to run.

        None: nothing was offered, others are before it, the engine has no memory for it, or its lease is
        lost. Then it waits.
        """
        here = self.add_and_claim_now(submission, offer)
        if here is not None:
            return here
        added = await self._writer.do(lambda connection: queue.add(connection, submission, offer))
        return added.job, added.position, self._claimed(submission, added, offer)

    def add_and_claim_now(self, submission: Submission, offer: ClaimOffer | None) -> AddedAndClaimed | None:
        """The same in one step of the loop; None, with nothing done, where it has to be waited for."""
        if submission.large:
            return None
        size = submission.texts.size
        here = self._now(lambda connection: queue.add(connection, submission, offer), size=size)
        if here is None:
            return None
        added = here[0]
        if submission.submitted is None and added.job.id == submission.event.job_id:
            self._plain[added.job.id] = True
        if added.claimed and added.position == submission.ahead + 1:
            self._views.written(JobView(job=added.job, outputs=(), position=1))
        return added.job, added.position, self._claimed(submission, added, offer)

    def _claimed(self, submission: Submission, added: queue.Added, offer: ClaimOffer | None) -> Claim | None:
        if offer is None or not added.claimed:
            return None
        self._driven.wrote(offer.lease, added.job)
        return Claim(
            job=added.job,
            text=submission.texts.graph,
            needs=submission.needs,
            submitted=submission.submitted,
            stream_id=offer.stream_id,
            more=added.others_wait,
        )

    async def claim_next(
        self,
        lease: Lease,
        *,
        prompt_id: PromptId,
        now: int,
        lane: str = LOCAL,
        stream_id: str | None = None,
        admission: Admission | None = None,
        chooser: Chooser | None = None,
    ) -> Claim | None:
        """The next job by priority, the clients' turns and age, with its attempt written down. Raises Fenced.

        With `admission`, jobs that the engine has no memory for are passed over, and what they wait for is
        written down. `chooser` chooses among the first that wait. After a cancelled await the job may be
        claimed all the same: `adopt` finds it.
        """
        offer = ClaimOffer(
            lease=lease,
            prompt_id=prompt_id,
            lane=lane,
            stream_id=stream_id,
            admission=admission,
            chooser=chooser,
        )
        if admission is None:
            claim = await self._write(lambda connection: claims.claim_next(connection, offer, now))
        else:
            claim = await self._claim_what_fits(offer, now)
        if claim is not None:
            self._driven.wrote(lease, claim.job)
        return claim

    async def _claim_what_fits(self, offer: ClaimOffer, now: int) -> Claim | None:
        """What fits may be far behind in the queue: the writer is not held while it is looked for. A job that
        somebody else was faster with is no longer found by the next look."""
        while True:
            found = await self._readers.do(partial(choosing.look, offer=offer, now=now))
            if found.job_id is None and not found.told:
                return None
            claim = await self._writer.do(partial(claims.claim_next, offer=offer, now=now, found=found))
            if claim is not None or found.job_id is None:
                return claim

    async def any_waits(self, *, now: int, lane: str = LOCAL) -> bool:
        """Whether a claim could find a job, if memory allows it."""
        return await self._by_key.do(lambda connection: claims.any_waits(connection, now, lane))

    async def any_held(self) -> bool:
        """Whether a queued job was passed over for want of memory."""
        return await self._readers.do(holds.any_held)

    async def adopt(self, lease: Lease) -> list[Claim]:
        """Take over every attempt in flight on the lease's engine. Raises Fenced."""
        return await self._writer.do(lambda connection: claims.adopt(connection, lease))

    async def keep_reference(self, lease: Lease, prompt_id: PromptId, reference: str) -> None:
        """What the place calls an attempt of this holder. Raises Fenced."""
        await self._write(lambda connection: claims.keep_reference(connection, lease, prompt_id, reference))

    async def record(
        self, lease: Lease, job_id: JobId, events: Sequence[JobEvent], *, outputs: Sequence[Output] = ()
    ) -> Job:
        """Write what happened to a job that this holder drives.

        Subscribers of this process get steps of progress at once; they are written at most once a second.
        A final event drops the job's progress from the log; that of a measured run teaches what
        workflows of its shape need.

        Raises Fenced, IllegalTransition or NotFound, and then writes nothing.
        """
        happened, made = tuple(events), tuple(outputs)
        if happened and not made and (job := self._driven.take(lease, job_id, happened)) is not None:
            self._tell([StoredEvent(seq=0, event=event, volatile=True) for event in happened])
            return job
        job, _ = await self._record(lease, job_id, happened, made, None)
        return job

    async def record_and_claim(
        self, job_id: JobId, events: Sequence[JobEvent], *, outputs: Sequence[Output], offer: ClaimOffer
    ) -> tuple[Job, Claim | None]:
        """`record` of a job's end and `claim_next` in one transaction: both or none."""
        job, claim = await self._record(offer.lease, job_id, tuple(events), tuple(outputs), offer)
        if claim is not None:
            self._driven.wrote(offer.lease, claim.job)
        return job, claim

    async def _record(
        self,
        lease: Lease,
        job_id: JobId,
        happened: tuple[JobEvent, ...],
        made: tuple[Output, ...],
        offer: ClaimOffer | None,
    ) -> tuple[Job, Claim | None]:
        happened = self._driven.unwritten(lease, job_id) + happened
        known = self._driven.job(lease, job_id)

        def work(connection: Connection) -> tuple[Job, Claim | None]:
            job = claims.record(connection, lease, job_id, happened, made, known)
            if offer is None:
                return job, None
            return job, claims.claim_next(connection, offer, happened[-1].at)

        try:
            small = len(made) <= FEW_OUTPUTS and sum(len(each.file.text or "") for each in made) <= FEW_CHARS
            here = self._now(work) if small else None
            job, claim = await self._writer.do(work) if here is None else here[0]
        except Fenced:
            self._driven.forget(lease)
            raise
        self._driven.wrote(lease, job)
        if here is not None and job.is_final and job.attempt == 1 and len(made) == job.output_count:
            self._views.written(JobView(job=job, outputs=made, position=None))
        if happened:
            self._taught(job, happened[-1])
        return job, claim

    async def others_steps(self) -> tuple[int, list[JobProgressed]]:
        """How far the running jobs of other processes are, by their rows, and where the log ended then."""
        seq, steps = await self._readers.do(reads.running_steps)
        return seq, [step for step in steps if not self._driven.knows(step.job_id)]

    # ------------------------------------------------------------------ where it is written

    async def _write(self, work: Work[T]) -> T:
        here = self._now(work)
        return await self._writer.do(work) if here is None else here[0]

    def _now(self, work: Work[T], *, size: int = 0) -> tuple[T] | None:
        """What is small, if this is where small work is done at once; None: it is for the thread."""
        return self._small.now(work) if self._small is not None and size <= SMALL_BYTES else None
