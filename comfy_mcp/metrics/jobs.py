"""Counters and times of all jobs, from the event log."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import assert_never

from comfy_mcp.domain.bounded import Bounded
from comfy_mcp.domain.events import (
    CancelRequested,
    FailureKind,
    JobCancelled,
    JobClaimed,
    JobCompleted,
    JobEvent,
    JobFailed,
    JobProgressed,
    JobQueued,
    JobRequeued,
    JobStarted,
    JobWaiting,
    Priority,
    PriorityChanged,
    StoredEvent,
)
from comfy_mcp.domain.gpu_use import GpuUse
from comfy_mcp.domain.ids import CLOUDS, LOCAL, EngineId, JobId
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.metrics.instruments import Instruments

OPEN_JOBS = 100_000
"""Jobs whose times are kept in mind (some 20 MB then). Beyond it the oldest are forgotten: they are counted
still, but their waiting and running are not measured."""

SHOWN = frozenset(JobStatus) - {JobStatus.BLOCKED}
"""Callers know no other status."""

OTHER = "other"
LANES = frozenset({LOCAL, *CLOUDS, OTHER})


@dataclass(slots=True, kw_only=True)
class _Open:
    """A job that has not ended. Times are epoch milliseconds; None = not seen."""

    queued_at: int | None = None
    priority: Priority = Priority.NORMAL
    lane: str = OTHER
    engine: EngineId | None = None
    started_at: int | None = None
    ever_started: bool = False
    blocked: bool = False


class JobMeter:
    """Counts each event of the log once: no `seq` is counted again."""

    def __init__(
        self,
        instruments: Instruments,
        *,
        engine_label: Callable[[EngineId | None], str],
        now_ms: Callable[[], int],
        open_jobs: int = OPEN_JOBS,
    ) -> None:
        self._instruments = instruments
        self._engine_label = engine_label
        self._now_ms = now_ms
        self._seq = 0
        self._open: Bounded[JobId, _Open] = Bounded(open_jobs)
        self._ended: set[JobId] | None = None
        self._entered = {status: instruments.workflows.labels(status.value) for status in SHOWN}
        self._failures = {kind: instruments.errors.labels(kind.value) for kind in FailureKind}
        self._waits = {each: instruments.wait_seconds.labels(each.value) for each in Priority}
        self._durations = {lane: instruments.duration.labels(lane) for lane in sorted(LANES)}

    def hear(self, stored: StoredEvent) -> None:
        if stored.seq > self._seq:
            self._seq = stored.seq
            self._count(stored.event)

    def begin_recall(self) -> None:
        """Called before the store is asked for the jobs that `recall` then gets."""
        self._ended = set()

    def recall(self, jobs: Iterable[Job]) -> None:
        """Jobs that were open before this process looked: their times are measured too. Counts nothing."""
        ended = self._ended or set()
        for job in jobs:
            if job.id not in self._open and job.id not in ended and not job.is_final:
                self._note(
                    job.id,
                    _Open(
                        queued_at=job.created_at,
                        priority=job.priority,
                        lane=job.lane,
                        engine=job.engine,
                        started_at=job.started_at,
                        blocked=job.status is JobStatus.BLOCKED,
                        ever_started=job.started_at is not None or job.attempt > 1,
                    ),
                )

    def end_recall(self) -> None:
        self._ended = None

    def _count(self, event: JobEvent) -> None:
        match event:
            case JobQueued():
                self._queued(event)
            case JobClaimed():
                self._instruments.attempts.labels(self._engine_label(event.engine)).inc()
                self._known(event.job_id).engine = event.engine
            case JobStarted():
                self._lag(event.at)
                self._started(event)
            case JobProgressed():
                self._lag(event.at)
            case JobRequeued():
                job = self._known(event.job_id)
                out_of_memory = event.cause is FailureKind.OOM
                counter = self._instruments.oom_retries if out_of_memory else self._instruments.requeues
                counter.labels(self._engine_label(job.engine)).inc()
                self._took(job.engine, event.gpu_use)
                job.engine, job.started_at = None, None
            case CancelRequested() | JobWaiting() | PriorityChanged():
                self._note_wait(event)
            case JobCompleted():
                self._lag(event.at)
                self._end(event, JobStatus.COMPLETED)
            case JobFailed():
                self._lag(event.at)
                self._failures[event.failure.kind].inc()
                self._end(event, JobStatus.FAILED)
            case JobCancelled():
                self._end(event, JobStatus.CANCELLED)
            case _:
                assert_never(event)

    def _queued(self, event: JobQueued) -> None:
        self._entered[JobStatus.QUEUED].inc()
        job = _Open(queued_at=event.at, priority=event.priority, lane=event.lane, blocked=bool(event.after))
        self._note(event.job_id, job)

    def _note_wait(self, event: CancelRequested | JobWaiting | PriorityChanged) -> None:
        """The wait for a start of a job that waited for others begins now; its priority may change."""
        job = self._open.get(event.job_id)
        if job is not None and isinstance(event, PriorityChanged):
            job.priority = event.priority
        elif job is not None and job.blocked and isinstance(event, JobWaiting):
            job.blocked, job.queued_at = False, event.at

    def _started(self, event: JobStarted) -> None:
        job = self._known(event.job_id)
        job.started_at = event.at
        if job.ever_started:
            return
        job.ever_started = True
        self._entered[JobStatus.RUNNING].inc()
        if job.queued_at is not None:
            self._waits[job.priority].observe(_seconds(job.queued_at, event.at))

    def _end(self, event: JobCompleted | JobFailed | JobCancelled, status: JobStatus) -> None:
        self._entered[status].inc()
        if self._ended is not None:
            self._ended.add(event.job_id)
        job = self._open.pop(event.job_id, None)
        self._took(job.engine if job is not None else None, event.gpu_use)
        if job is None or job.started_at is None:
            return
        ran = _seconds(job.started_at, event.at)
        self._instruments.run_seconds.labels(self._engine_label(job.engine), status.value).observe(ran)
        if status is JobStatus.COMPLETED:
            self._durations[job.lane if job.lane in LANES else OTHER].observe(ran)

    def _took(self, engine: EngineId | None, use: GpuUse | None) -> None:
        if use is not None and use.seconds is not None:
            self._instruments.gpu_seconds.labels(self._engine_label(engine)).inc(use.seconds)

    def _known(self, job_id: JobId) -> _Open:
        job = self._open.get(job_id)
        return job if job is not None else self._note(job_id, _Open())

    def _note(self, job_id: JobId, job: _Open) -> _Open:
        self._open[job_id] = job
        return job

    def _lag(self, at: int) -> None:
        self._instruments.event_lag.observe(_seconds(at, self._now_ms()))


def _seconds(since_ms: int, until_ms: int) -> float:
    """Never negative: the times are from the clocks of several processes, and a clock can be set."""
    return max(0, until_ms - since_ms) / 1000
