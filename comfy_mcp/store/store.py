"""The store's face: asynchronous, one writer thread and a few readers behind it.

Each method is one transaction. A cancelled await never tears one: the thread goes on, and what was asked for
commits or rolls back as a whole. Every method raises StoreFault when the database does not do its part.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import structlog

from comfy_mcp.domain.access import Idempotency
from comfy_mcp.domain.catalog import Output, Page
from comfy_mcp.domain.events import JobQueued, Priority, StoredEvent
from comfy_mcp.domain.extra_data import Submitted
from comfy_mcp.domain.ids import ClientId, JobId, OutputId, PromptId
from comfy_mcp.domain.job import CancelAnswer, Job, JobStatus
from comfy_mcp.domain.needs import Needs
from comfy_mcp.settings import StoreGroup
from comfy_mcp.store import chains, event_log, expiry, history, idempotency, journal, outputs, queue, reads
from comfy_mcp.store.backlog import Backlog, backlog
from comfy_mcp.store.database import Database, StoreInfo, open_database
from comfy_mcp.store.driver_side import DriverSide
from comfy_mcp.store.queries import AttemptView, JobGraph, JobQuery, JobView, QueueView, Submission
from comfy_mcp.store.sqlite.direct import Direct
from comfy_mcp.store.threads import MAX_BATCH, Worker

log = structlog.get_logger(__name__)

T = TypeVar("T")

READERS = 2
CHECKPOINT_COMMITS = 300
"""A commit writes some 5 to 15 pages of 4 KiB, unless a graph is large; many of them again and again."""

CANCELS = 100
"""Jobs cancelled in one transaction: some 20 ms, in which nobody else writes."""

KEPT_SHAPES = 1_000
"""Shapes whose VRAM is remembered, those seen last: more than anybody runs in turn."""


class Store(DriverSide):
    """Jobs, attempts, events, outputs and leases. Belongs to the event loop on which it was opened."""

    def __init__(
        self,
        database: Database,
        *,
        kept_shapes: int,
        on_read: Callable[[float], None] = lambda _seconds: None,
        on_write: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        super().__init__(database, kept_shapes=kept_shapes)
        self._callbacks: list[Callable[[Sequence[StoredEvent]], None]] = []
        self._commits = 0
        self._settled_to = 0
        self._version: int | None = None  # of this step of the loop
        info = database.info
        self._writer = Worker(
            database.writer,
            database.translated,
            name="store-writer",
            batch=MAX_BATCH,
            before=database.check_identity,
            on_commit=self._committed,
            on_done=on_write,
        )
        self._readers = Worker(
            database.reader,
            database.translated,
            name="store-reader",
            threads=READERS,
            before=database.check_identity,
            on_done=on_read,
        )
        self._by_key = self._readers
        self._small = None
        if database.loop_reader is not None:
            self._by_key = Direct(
                database.loop_reader,
                self._readers,
                info.path,
                before=database.check_identity_lately,
                on_done=on_read,
            )
        # Elsewhere each commit waits for the disk.
        if database.loop_writer is not None and (info.journal_mode, info.synchronous) == ("wal", "normal"):
            self._small = Direct(
                database.loop_writer,
                self._writer,
                info.path,
                in_order=True,
                before=database.check_identity,
                on_commit=self._committed,
                on_done=on_write,
            )

    @classmethod
    async def open(
        cls,
        settings: StoreGroup,
        *,
        kept_shapes: int = KEPT_SHAPES,
        on_read: Callable[[float], None] = lambda _seconds: None,
        on_write: Callable[[float], None] = lambda _seconds: None,
    ) -> "Store":
        """Creates or migrates it if need be. Raises StoreFault, see `open_database`.

        `on_read` and `on_write` are called with the seconds that each caller waited.
        """
        database = await asyncio.to_thread(open_database, settings)
        return cls(database, kept_shapes=kept_shapes, on_read=on_read, on_write=on_write)

    async def close(self) -> None:
        """Finishes the writes that were handed over. Idempotent; later calls raise StoreFault."""
        await self._writer.close()
        await self._readers.close()
        await asyncio.to_thread(self._database.close)

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
        large: bool = False,
    ) -> tuple[Job, int]:
        """The job and its place in its lane's run order (1 = next), durable once returned.

        `ahead` more run before it than the store knows of. `fair`: clients take turns within a priority;
        otherwise the job stands behind all of its priority.

        With `idempotency`, the client's first submit under that key is answered again, however many come at
        once. Raises LimitExceeded (`queue_full`), Conflict (`idempotency_mismatch`), and then writes nothing.
        """
        submission = Submission(
            event=event,
            graph=graph,
            max_queued=max_queued,
            idempotency=idempotency,
            ahead=ahead,
            fair=fair,
            needs=needs,
            submitted=submitted,
            large=large,
        )
        job, position, _ = await self.add_and_claim(submission, None)
        return job, position

    async def get_job(self, job_id: JobId) -> Job | None:
        if (view := self._views.get(job_id, self._exact_version())) is not None:
            return self._driven.shown(view.job)
        job = await self._by_key.do(lambda connection: reads.get(connection, job_id))
        return None if job is None else self._driven.shown(job)

    async def add_jobs(self, submissions: Sequence[Submission]) -> list[tuple[Job, int]]:
        """Several at once, in one transaction; raises as `add_job`, and then writes none.

        Where the first was submitted before under its idempotency key, that one alone.
        """
        added = await self._writer.do(lambda connection: queue.add_all(connection, submissions))
        return [(each.job, each.position) for each in added]

    async def is_used(self, use: Idempotency) -> bool:
        """Whether the key stands for an earlier submit. Raises Conflict (`idempotency_mismatch`)."""
        return await self._writer.do(lambda connection: idempotency.first_use(connection, use) is not None)

    async def view_job(self, job_id: JobId) -> JobView | None:
        """The job with its outputs and its place in the run order, as of one moment.

        Asked again while nobody has committed, it is answered from memory: half of what a poll costs.
        """
        version, commits = self._exact_version(), self._commits
        view = self._views.get(job_id, version)
        if view is None:
            view = await self._glanced(partial(reads.view, job_id=job_id))
            if view is None:
                return None
            if commits == self._commits:
                self._views.put(view, version)
        return self._shown(view)

    async def _glanced(self, read: reads.Glance[T]) -> T:
        """On the loop, if that does not take long."""
        try:
            return await self._by_key.do(lambda connection: read(connection, at_a_glance=True))
        except reads.TooMuch:
            return await self._readers.do(lambda connection: read(connection, at_a_glance=False))

    async def get_output(self, output_id: OutputId) -> Output | None:
        known = self._views.output(output_id, self._exact_version())
        return known or await self._by_key.do(lambda connection: outputs.get(connection, output_id))

    async def outputs_of(self, job_id: JobId) -> list[Output]:
        """In the order in which they were made."""
        return await self._readers.do(lambda connection: outputs.of_job(connection, job_id))

    async def get_graph(self, job_id: JobId) -> JobGraph | None:
        return await self._readers.do(lambda connection: reads.get_graph(connection, job_id))

    async def submitted(self, job_id: JobId) -> Submitted | None:
        """What is kept of its submit beside the graph. None for most, and that is known without a thread."""
        if job_id in self._plain:
            return None
        if not await self._by_key.do(lambda connection: reads.has_submitted(connection, job_id)):
            return None
        kept = await self.get_graph(job_id)
        return None if kept is None else kept.submitted

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
        return await self._glanced(partial(reads.position, job_id=job_id))

    async def ahead_of(self, job: Job, *, fair: bool) -> int:
        """How many of its lane would run before a job, if it came now."""
        return await self._readers.do(lambda connection: queue.ahead_of(connection, job, fair=fair))

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

    async def settle_chains(self, *, now: int) -> int:
        """Set free or fail those that wait for jobs that have ended, some at a time: what the ends themselves
        left. How many. One call looks at some of them, the next at the next ones."""
        after = self._settled_to
        look = await self._readers.do(lambda connection: chains.look(connection, after))
        if not look.ready:
            self._settled_to = look.next
            return 0  # the usual case takes no writer
        return await self._writer.do(
            lambda connection: chains.settle_some(connection, after, now, journal.WRITER)
        )

    async def request_cancel(
        self, job_id: JobId, *, at: int, reason: str | None, by: str | None = None
    ) -> tuple[Job, CancelAnswer]:
        """Cancels at once what no engine has, else notes the request once. Raises NotFound."""
        return await self._write(lambda connection: queue.cancel(connection, job_id, at, reason, by))

    async def request_cancels(
        self, ids: Collection[JobId], *, at: int, reason: str | None, by: str | None = None
    ) -> list[tuple[Job, CancelAnswer]]:
        """The same for several, some in each transaction. Those that were deleted are left out."""
        left = list(ids)
        done: list[tuple[Job, CancelAnswer]] = []
        while left:
            some, left = left[:CANCELS], left[CANCELS:]
            done += await self._writer.do(partial(queue.cancel_all, ids=some, at=at, reason=reason, by=by))
        return done

    async def set_priorities(
        self, ids: Collection[JobId], priority: Priority, *, at: int, by: str | None, fair: bool
    ) -> list[Job]:
        """Of those that no engine has; the ones that changed."""
        return await self._writer.do(
            lambda connection: queue.set_priorities(connection, ids, priority, at=at, by=by, fair=fair)
        )

    async def abandon(self, job_id: JobId, *, at: int, reason: str, by: str | None = None) -> Job | None:
        """Cancels it now, also what an engine has. None: it has ended. Raises NotFound."""
        return await self._write(lambda connection: queue.abandon(connection, job_id, at, reason, by))

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

    def data_version(self) -> int:
        """A number that changes whenever another process has committed: `on_commit` reports our own commits.

        Asked many times a second by every idle process, so it takes no thread (a fifth of the cost): it
        never waits, and where the file is locked just now it answers -1, which is unlike the next answer.
        """
        self._readers.check_open()
        self._database.check_identity_lately()
        return self._database.data_version()

    def on_change(self, callback: Callable[[], None]) -> bool:
        """`callback` runs on the loop when `data_version` has changed. False: it has to be asked."""
        loop, told = asyncio.get_running_loop(), False

        def call() -> None:
            nonlocal told
            told = False
            callback()

        def tell() -> None:
            nonlocal told
            if not told:
                told = True
                with suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(call)

        return self._database.on_change(tell)

    def _exact_version(self) -> int:
        """What is remembered under it is what would be read now; -1: nothing is remembered.

        Asked once for all that runs in this step of the loop: whoever knows of a commit that came later can
        tell us in the next step at the earliest.
        """
        if not self._database.version_is_exact:
            return -1
        if self._version is None:
            self._version = self.data_version()
            asyncio.get_running_loop().call_soon(self._forget_version)
        return self._version

    def _forget_version(self) -> None:
        self._version = None

    async def file_sizes(self) -> dict[str, int]:
        """Bytes of the `database` and of its `wal`."""
        return await asyncio.to_thread(self._database.sizes)

    def _shown(self, view: JobView) -> JobView:
        job = self._driven.shown(view.job)
        return view if job is view.job else replace(view, job=job, made={})

    def _committed(self, appended: Sequence[StoredEvent]) -> None:
        self._commits += 1
        self._views.committed(appended)
        if self._commits % CHECKPOINT_COMMITS == 0 and self.info.journal_mode == "wal":
            self._readers.post(lambda _connection: self._database.checkpoint())
        if appended:
            self._tell(appended)

    def _tell(self, events: Sequence[StoredEvent]) -> None:
        for callback in self._callbacks:
            try:
                callback(events)
            except Exception:  # it is written, and this must not look like a failure to write
                log.exception("commit_callback_failed")
