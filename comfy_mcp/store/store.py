"""The store's face: asynchronous, one writer thread and a few readers behind it.

Each method is one transaction. A cancelled await never tears one: the thread goes on, and what was asked for
commits or rolls back as a whole. Every method raises StoreFault when the database does not do its part.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from comfy_mcp.domain.access import Idempotency
from comfy_mcp.domain.catalog import Output, Page
from comfy_mcp.domain.errors import Fenced
from comfy_mcp.domain.events import JobEvent, JobProgressed, JobQueued, StoredEvent
from comfy_mcp.domain.extra_data import Submitted
from comfy_mcp.domain.ids import ClientId, EngineId, JobId, PromptId
from comfy_mcp.domain.job import CancelAnswer, Job, JobStatus
from comfy_mcp.domain.needs import Needs
from comfy_mcp.domain.vram import Admission
from comfy_mcp.settings import Settings
from comfy_mcp.store import (
    claims,
    event_log,
    expiry,
    history,
    holds,
    leases,
    queue,
    reads,
)
from comfy_mcp.store.backlog import Backlog, backlog
from comfy_mcp.store.codec import graph_text, submitted_text
from comfy_mcp.store.driven import Driven
from comfy_mcp.store.queries import (
    AttemptView,
    Claim,
    ClaimOffer,
    JobGraph,
    JobQuery,
    JobView,
    Lease,
    LeaseState,
    QueueView,
)
from comfy_mcp.store.side_tables import SideTables
from comfy_mcp.store.sqlite.database import Database, StoreInfo, open_database
from comfy_mcp.store.sqlite.direct import Direct
from comfy_mcp.store.sqlite.threads import MAX_BATCH, Work, Worker
from comfy_mcp.store.view_cache import ViewCache

READERS = 2
CHECKPOINT_COMMITS = 100
"""A commit writes some 5 to 15 pages of 4 KiB, unless a graph is large."""

KEPT_SHAPES = 1_000
"""Shapes whose VRAM is remembered, those seen last: more than anybody runs in turn."""


SMALL_BYTES = 65_536
"""Graphs beyond it are written by the thread: one of a megabyte takes 9 ms."""

T = TypeVar("T")


class Store(SideTables):
    """Jobs, attempts, events, outputs and leases. Belongs to the event loop on which it was opened."""

    def __init__(
        self,
        database: Database,
        *,
        kept_shapes: int,
        on_read: Callable[[float], None] = lambda _seconds: None,
        on_write: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        super().__init__(kept_shapes=kept_shapes, path=database.info.path)
        self._database = database
        self._callbacks: list[Callable[[Sequence[StoredEvent]], None]] = []
        self._commits = 0
        self._views = ViewCache()
        self._driven = Driven()
        path = database.info.path
        self._writer = Worker(
            database.writer,
            path,
            name="store-writer",
            batch=MAX_BATCH,
            before=database.check_identity,
            on_commit=self._committed,
            on_done=on_write,
        )
        self._readers = Worker(
            database.reader,
            path,
            name="store-reader",
            threads=READERS,
            before=database.check_identity,
            on_done=on_read,
        )
        self._by_key = Direct(
            database.loop_reader, self._readers, path, before=database.check_identity, on_done=on_read
        )
        self._small = Direct(
            database.loop_writer,
            self._writer,
            path,
            in_order=True,
            before=database.check_identity,
            on_commit=self._committed,
            on_done=on_write,
        )
        # Elsewhere each commit waits for the disk.
        info = database.info
        self._may_write_here = info.journal_mode == "wal" and info.synchronous == "normal"

    @classmethod
    async def open(
        cls,
        settings: Settings,
        *,
        kept_shapes: int = KEPT_SHAPES,
        on_read: Callable[[float], None] = lambda _seconds: None,
        on_write: Callable[[float], None] = lambda _seconds: None,
    ) -> "Store":
        """Creates or migrates the file if need be. Raises StoreFault, see `open_database`.

        `on_read` and `on_write` hear how many seconds each caller waited.
        """
        database = await asyncio.to_thread(open_database, settings)
        return cls(database, kept_shapes=kept_shapes, on_read=on_read, on_write=on_write)

    async def close(self) -> None:
        """Finishes the writes that were handed over. Idempotent; later calls raise StoreFault."""
        await self._writer.close()
        await self._readers.close()
        self._by_key.close()
        self._small.close()
        self._database.close()

    @property
    def info(self) -> StoreInfo:
        return self._database.info

    def on_commit(self, callback: Callable[[Sequence[StoredEvent]], None]) -> None:
        """`callback` runs on the loop after each commit of this store that appended events, and gets them.

        Commits come in order. Nobody else's event lies between those of one commit. Steps of progress, which
        are `volatile`, come as they are recorded; those have no `seq` yet.
        """
        self._callbacks.append(callback)

    # ------------------------------------------------------------------ submit, read

    async def add_job(
        self,
        event: JobQueued,
        graph: Mapping[str, Any],
        *,
        max_queued: int,
        idempotency: Idempotency | None = None,
        ahead: int = 0,
        fair: bool = True,
        needs: Needs | None = None,
        submitted: Submitted | None = None,
    ) -> tuple[Job, int]:
        """The job and its place in its lane's run order (1 = next), durable once returned.

        `ahead` more run before it than the store knows of. `fair`: clients take turns within a priority;
        otherwise the job stands behind all of its priority.

        With `idempotency`, the client's first submit under that key is answered again, however many come at
        once. Raises LimitExceeded (`queue_full`), Conflict (`idempotency_mismatch`), and then writes nothing.
        """
        job, position, _ = await self.add_and_claim(
            event,
            graph,
            None,
            max_queued=max_queued,
            idempotency=idempotency,
            ahead=ahead,
            fair=fair,
            needs=needs,
            submitted=submitted,
        )
        return job, position

    async def add_and_claim(
        self,
        event: JobQueued,
        graph: Mapping[str, Any],
        offer: ClaimOffer | None,
        *,
        max_queued: int,
        idempotency: Idempotency | None = None,
        ahead: int = 0,
        fair: bool = True,
        needs: Needs | None = None,
        submitted: Submitted | None = None,
    ) -> tuple[Job, int, Claim | None]:
        """As `add_job`, and in the same transaction the claim, if the job is the next to run.

        None: nothing was offered, others are before it, the engine has no memory for it, or its lease is
        lost. Then it waits.
        """
        text, beside = graph_text(graph), submitted_text(submitted)
        added = await self._write(
            lambda connection: queue.add(
                connection, event, text, max_queued, idempotency, ahead, fair, needs, offer, beside
            ),
            size=len(text) + len(beside or ""),
        )
        if offer is None or not added.claimed:
            return added.job, added.position, None
        self._driven.wrote(offer.lease, added.job)
        claim = Claim(
            job=added.job,
            graph=dict(graph),
            submitted=submitted,
            stream_id=offer.stream_id,
            more=added.others_wait,
        )
        return added.job, added.position, claim

    async def get_job(self, job_id: JobId) -> Job | None:
        job = await self._by_key.do(lambda connection: reads.get(connection, job_id))
        return None if job is None else self._driven.shown(job)

    async def view_job(self, job_id: JobId) -> JobView | None:
        """The job with its outputs and its place in the run order, as of one moment.

        Asked again while nobody has committed, it is answered from memory: half of what a poll costs.
        """
        version = await self.data_version()
        view = self._views.get(job_id, version)
        if view is None:
            view = await self._by_key.do(lambda connection: reads.view(connection, job_id))
            if view is None:
                return None
            self._views.put(view, version)
        return self._shown(view)

    async def get_graph(self, job_id: JobId) -> JobGraph | None:
        return await self._readers.do(lambda connection: reads.get_graph(connection, job_id))

    async def list_jobs(self, query: JobQuery) -> Page[Job]:
        """Newest first. Raises InvalidInput (`invalid_argument`)."""
        page = await self._readers.do(lambda connection: reads.listing(connection, query))
        return replace(page, items=tuple(self._driven.shown(job) for job in page.items))

    async def list_views(self, query: JobQuery) -> Page[JobView]:
        """The same with each job's outputs and place in the run order, as of one moment."""
        page = await self._readers.do(lambda connection: reads.views(connection, query))
        return replace(page, items=tuple(self._shown(view) for view in page.items))

    async def queue_position(self, job_id: JobId) -> int | None:
        """Place in the lane's run order, 1 = next; None unless queued. Claimed jobs come first."""
        return await self._by_key.do(lambda connection: reads.position(connection, job_id))

    async def queue(self, limit: int) -> QueueView:
        view = await self._readers.do(lambda connection: reads.queue(connection, limit))
        return replace(view, running=tuple(self._driven.shown(job) for job in view.running))

    async def backlog(self) -> Backlog:
        return await self._readers.do(backlog)

    async def counts(self) -> dict[JobStatus, int]:
        return await self._readers.do(reads.counts)

    async def attempts_of(self, job_id: JobId) -> list[AttemptView]:
        """Oldest first, those of the jobs that it retries before its own. Empty for an unknown job."""
        return await self._readers.do(lambda connection: history.attempts_of(connection, job_id))

    async def own_prompts(self, prompts: Sequence[PromptId]) -> set[PromptId]:
        """Those that a process of this store chose. The others in an engine's queue are foreign."""
        return await self._readers.do(lambda connection: history.ours(connection, prompts))

    async def expire_overdue(self, *, now: int) -> list[Job]:
        """End what no engine has and what has waited beyond its deadline, some at a time."""
        if not await self._readers.do(lambda connection: expiry.any_overdue(connection, now)):
            return []  # the usual case takes no writer
        return await self._writer.do(lambda connection: expiry.expire(connection, now))

    async def request_cancel(self, job_id: JobId, *, at: int, reason: str | None) -> tuple[Job, CancelAnswer]:
        """Cancels at once what no engine has, else notes the request once. Raises NotFound."""
        return await self._write(lambda connection: queue.cancel(connection, job_id, at, reason))

    async def abandon(self, job_id: JobId, *, at: int, reason: str) -> Job | None:
        """Cancels it now, also what an engine has. None: it has ended. Raises NotFound."""
        return await self._write(lambda connection: queue.abandon(connection, job_id, at, reason))

    # ------------------------------------------------------------------ dispatch

    async def acquire_lease(self, engine: EngineId, holder: str, ttl_s: float) -> Lease | None:
        """None while another holder's is live. `holder` must be this process's alone."""
        return await self._write(lambda connection: leases.acquire(connection, engine, holder, ttl_s))

    async def renew_lease(self, lease: Lease, ttl_s: float) -> None:
        """Raises Fenced once another holder took over."""
        await self._write(lambda connection: leases.renew(connection, lease, ttl_s))

    async def release_lease(self, lease: Lease) -> None:
        self._driven.forget(lease)
        await self._write(lambda connection: leases.release(connection, lease))

    async def lease_of(self, engine: EngineId) -> LeaseState | None:
        return await self._readers.do(lambda connection: leases.state(connection, engine))

    async def claim_next(
        self,
        lease: Lease,
        *,
        prompt_id: PromptId,
        now: int,
        lane: str = "local",
        stream_id: str | None = None,
        admission: Admission | None = None,
    ) -> Claim | None:
        """The next job by priority, the clients' turns and age, with its attempt written down. Raises Fenced.

        With `admission`, jobs that the engine has no memory for are passed over, and what they wait for is
        written down. After a cancelled await the job may be claimed all the same: `adopt` finds it.
        """
        claim = await self._write(
            lambda connection: claims.claim_next(
                connection, lease, prompt_id, stream_id, now, lane, admission
            )
        )
        if claim is not None:
            self._driven.wrote(lease, claim.job)
        return claim

    async def any_waits(self, *, now: int, lane: str = "local") -> bool:
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
        """Write down what happened to a job that this holder drives.

        Steps of progress are told to this process at once, and written at most once a second. A final event
        drops the job's progress from the log; that of a measured run teaches what workflows of its shape
        need.

        Raises Fenced, IllegalTransition or NotFound, and then writes nothing.
        """
        happened, made = tuple(events), tuple(outputs)
        if happened and not made and (job := self._driven.take(lease, job_id, happened)) is not None:
            self._tell([StoredEvent(seq=0, event=event, volatile=True) for event in happened])
            return job
        happened = self._driven.unwritten(lease, job_id) + happened
        try:
            known = self._driven.job(lease, job_id)
            job = await self._write(
                lambda connection: claims.record(connection, lease, job_id, happened, made, known)
            )
        except Fenced:
            self._driven.forget(lease)
            raise
        self._driven.wrote(lease, job)
        if happened:
            self._taught(job, happened[-1])
        return job

    async def others_steps(self) -> tuple[int, list[JobProgressed]]:
        """How far the running jobs of other processes are, by their rows, and where the log ended then."""
        seq, steps = await self._readers.do(reads.running_steps)
        return seq, [step for step in steps if not self._driven.knows(step.job_id)]

    # ------------------------------------------------------------------ events

    async def events_after(
        self, seq: int, *, job_id: JobId | None = None, client: ClientId | None = None, limit: int = 500
    ) -> list[StoredEvent]:
        """In order. Gaps are normal; a `seq` is never used twice."""
        return await self._readers.do(
            lambda connection: event_log.after(connection, seq, job_id, limit, client)
        )

    async def last_seq(self) -> int:
        """Of the newest event there is; 0 if none. Retention may lower it: never move a cursor back."""
        return await self._readers.do(event_log.last_seq)

    async def data_version(self) -> int:
        """A number that changes whenever any process has committed.

        Asked many times a second by every idle process, so it takes no thread (a fifth of the cost): it
        never waits, and where the file is locked just now it answers -1, which is unlike the next answer.
        """
        self._readers.check_open()
        self._database.check_identity()
        return self._database.data_version()

    async def file_sizes(self) -> dict[str, int]:
        """Bytes of the `database` and of its `wal`."""
        return await asyncio.to_thread(self._database.sizes)

    def _shown(self, view: JobView) -> JobView:
        job = self._driven.shown(view.job)
        return view if job is view.job else replace(view, job=job)

    async def _write(self, work: Work[T], *, size: int = 0) -> T:
        """What is small, if this is where small work is done at once; else in the thread."""
        here = self._may_write_here and size <= SMALL_BYTES
        return await (self._small.do(work) if here else self._writer.do(work))

    def _committed(self, appended: Sequence[StoredEvent]) -> None:
        self._commits += 1
        if self._commits % CHECKPOINT_COMMITS == 0 and self.info.journal_mode == "wal":
            self._readers.post(lambda _connection: self._database.checkpoint())
        if appended:
            self._tell(appended)

    def _tell(self, events: Sequence[StoredEvent]) -> None:
        for callback in self._callbacks:
            callback(events)
