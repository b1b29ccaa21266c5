"""The job and its one state machine.

`evolve(job, event)` is the only place where a job's state changes. It reads no clock and does no I/O:
the event carries its time. TRANSITIONS is the table; nothing leaves a final state.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Literal, TypeVar, assert_never

from comfy_mcp.domain.chains import Parent
from comfy_mcp.domain.events import (
    CancelRequested,
    FailureKind,
    JobCancelled,
    JobClaimed,
    JobCompleted,
    JobEvent,
    JobFailed,
    JobFailure,
    JobProgressed,
    JobQueued,
    JobRequeued,
    JobStarted,
    JobWaiting,
    Priority,
    PriorityChanged,
)
from comfy_mcp.domain.gpu_use import GpuUse
from comfy_mcp.domain.ids import BatchId, ClientId, EngineId, JobId, PromptId
from comfy_mcp.domain.spending import Spend
from comfy_mcp.domain.vram import WaitingFor
from comfy_mcp.domain.webhooks import Webhook

T = TypeVar("T")

ShownStatus = Literal["queued", "running", "completed", "failed", "cancelled"]


class JobStatus(StrEnum):
    BLOCKED = "blocked"  # it waits for other jobs, and has no turn; callers see "queued"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED})

_SHOWN: Mapping[JobStatus, ShownStatus] = MappingProxyType(
    {
        JobStatus.BLOCKED: "queued",
        JobStatus.QUEUED: "queued",
        JobStatus.RUNNING: "running",
        JobStatus.COMPLETED: "completed",
        JobStatus.FAILED: "failed",
        JobStatus.CANCELLED: "cancelled",
    }
)

TRANSITIONS: Mapping[JobStatus, frozenset[JobStatus]] = MappingProxyType(
    {
        JobStatus.BLOCKED: frozenset(
            {JobStatus.BLOCKED, JobStatus.QUEUED, JobStatus.FAILED, JobStatus.CANCELLED}
        ),
        # queued → completed: the engine finished it before any event of its start was seen (resync).
        JobStatus.QUEUED: frozenset({JobStatus.QUEUED, JobStatus.RUNNING, *TERMINAL}),
        # running → queued: the engine was lost and an attempt is left; visible as a `requeued` event.
        JobStatus.RUNNING: frozenset({JobStatus.RUNNING, JobStatus.QUEUED, *TERMINAL}),
        JobStatus.COMPLETED: frozenset(),
        JobStatus.FAILED: frozenset(),
        JobStatus.CANCELLED: frozenset(),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One submitted workflow. Times are epoch milliseconds; `progress` is a fraction in [0, 1].

    `attempt` counts submissions to an engine; 0 = never claimed. `prompt_id` and `engine` belong to the
    latest attempt and are None while no attempt is in flight and none has finished. `queue_deadline` is when
    the present wait for a start is too long; it begins anew with each requeue, and with the end of the jobs
    that it waits for (`after`). `gpu_seconds` is the sum and
    `peak_vram_bytes` the greatest of all attempts that were measured. `shape` says which workflows are alike
    in what they need; `name` is for people; `progress_at` is when `progress` and `eta_ms` were so;
    `waiting_for` why a queued one was passed over; `refused_by` which engines have refused it: none of them
    gets it again. `retried_by` is the newest job that retries this one: no event of this job reports it, and
    its state stays what it is. `cancelled_by`: who asked for it first.
    `webhook`: where its events are sent. `spend`: what it may cost and has cost at a service.
    `tags`: the client's own words, each a name and a value.
    """

    id: JobId
    client: ClientId
    lane: str
    priority: Priority
    status: JobStatus
    created_at: int
    node_count: int
    attempt: int = 0
    engine: EngineId | None = None
    prompt_id: PromptId | None = None
    started_at: int | None = None
    finished_at: int | None = None
    progress: float = 0.0
    current_node: str | None = None
    current_node_title: str | None = None
    eta_ms: int | None = None
    progress_at: int | None = None
    cancel_requested: bool = False
    cancel_reason: str | None = None
    cancelled_by: str | None = None
    failure: JobFailure | None = None
    warnings: tuple[str, ...] = ()
    output_count: int = 0
    queue_timeout_ms: int | None = None
    run_timeout_ms: int | None = None
    queue_deadline: int | None = None
    retry_of: JobId | None = None
    retried_by: JobId | None = None
    oom_retried: bool = False
    gpu_seconds: float | None = None
    peak_vram_bytes: int | None = None
    shape: str | None = None
    batch: BatchId | None = None
    name: str | None = None
    after: tuple[Parent, ...] = ()
    waiting_for: WaitingFor | None = None
    refused_by: tuple[EngineId, ...] = ()
    webhook: Webhook | None = None
    spend: Spend | None = None
    tags: tuple[tuple[str, str], ...] = ()

    @property
    def is_final(self) -> bool:
        return self.status in TERMINAL

    @property
    def shown_status(self) -> ShownStatus:
        """For callers, who know five of them: a job that waits for others is queued, and says so."""
        return _SHOWN[self.status]

    @property
    def is_claimed(self) -> bool:
        """An attempt is in flight: an engine has, or may have, its prompt."""
        return not self.is_final and self.prompt_id is not None

    @property
    def waits_unclaimed(self) -> bool:
        """No engine has it: its priority still matters."""
        return self.status in {JobStatus.QUEUED, JobStatus.BLOCKED} and self.prompt_id is None

    @property
    def run_left_ms(self) -> int | None:
        """How long its next run may take, or the present one. Where runs cost money those before count."""
        if self.run_timeout_ms is None or self.spend is None:
            return self.run_timeout_ms
        return max(1, self.run_timeout_ms - self.spend.ran_ms)

    @property
    def run_deadline(self) -> int | None:
        """When the present run is too long. None: it does not run, or may run for ever."""
        left_ms = self.run_left_ms
        if self.status is not JobStatus.RUNNING or self.started_at is None or left_ms is None:
            return None
        return self.started_at + left_ms

    @property
    def can_be_retried(self) -> bool:
        """True for a failed or cancelled job. The retry is a new job, because a final state never changes."""
        return self.status in {JobStatus.FAILED, JobStatus.CANCELLED}


# `status` comes from the table of transitions.
_FIELDS = tuple(each.name for each in fields(Job) if each.name != "status")
_values_of = attrgetter(*_FIELDS)
_NO_NODE: Mapping[str, None] = MappingProxyType(
    dict.fromkeys(("current_node", "current_node_title", "eta_ms", "progress_at"))
)


class IllegalTransition(Exception):
    """An event that the table does not allow in this state. The job is unchanged."""

    def __init__(self, job: Job, event: JobEvent) -> None:
        super().__init__(f"{type(event).__name__} is not allowed for a {job.status} job")
        self.job = job
        self.event = event


def queued(event: JobQueued) -> Job:
    """The first state of a job."""
    return Job(
        id=event.job_id,
        client=event.client,
        lane=event.lane,
        priority=event.priority,
        status=JobStatus.BLOCKED if event.after else JobStatus.QUEUED,
        created_at=event.at,
        node_count=event.node_count,
        warnings=event.warnings,
        queue_timeout_ms=event.queue_timeout_ms,
        run_timeout_ms=event.run_timeout_ms,
        queue_deadline=None if event.after else _deadline(event.at, event.queue_timeout_ms),
        after=event.after,
        retry_of=event.retry_of,
        shape=event.shape,
        batch=event.batch,
        name=event.name,
        webhook=event.webhook,
        spend=event.spend,
        tags=event.tags,
    )


def evolve(job: Job, event: JobEvent) -> Job:
    """The job after `event`.

    Raises IllegalTransition when the table forbids it, or when the event names an attempt other than the
    one in flight (a late word from an engine that lost the job).
    """
    target = _target_status(job, event)
    if target not in TRANSITIONS[job.status] or not _concerns_this_attempt(job, event):
        raise IllegalTransition(job, event)
    return Job(**(dict(zip(_FIELDS, _values_of(job), strict=True)) | _changes(job, event)), status=target)


def is_step(job: Job, event: JobEvent) -> bool:
    """Whether `event` only moves the progress of a running job, inside the node that it is at.

    Only the last step counts: the log keeps none of them, the job's row has the last one.
    """
    return (
        isinstance(event, JobProgressed)
        and job.status is JobStatus.RUNNING
        and event.node_id in {None, job.current_node}
    )


def _target_status(job: Job, event: JobEvent) -> JobStatus:
    match event:
        case JobQueued() | JobRequeued() | JobWaiting():
            return JobStatus.QUEUED
        case JobClaimed() | CancelRequested() | PriorityChanged():
            return job.status
        case JobStarted() | JobProgressed():
            return JobStatus.RUNNING
        case JobCompleted():
            return JobStatus.COMPLETED
        case JobFailed():
            return JobStatus.FAILED
        case JobCancelled():
            return JobStatus.CANCELLED
        case _:
            assert_never(event)


def _concerns_this_attempt(job: Job, event: JobEvent) -> bool:
    match event:
        case JobQueued():
            return False
        case JobWaiting():
            free = job.status is JobStatus.BLOCKED and event.waiting_for is None
            return free or (job.status is JobStatus.QUEUED and job.prompt_id is None)
        case JobClaimed():
            waits = job.status is JobStatus.QUEUED and job.prompt_id is None
            return waits and event.attempt == job.attempt + 1
        case JobStarted() | JobProgressed() | JobCompleted() | JobRequeued():
            return job.prompt_id is not None and event.attempt == job.attempt
        case JobFailed() | JobCancelled():
            return event.attempt == job.attempt
        case CancelRequested():
            return True
        case PriorityChanged():
            return job.waits_unclaimed
        case _:
            assert_never(event)


def _changes(job: Job, event: JobEvent) -> dict[str, Any]:
    """The fields that `event` sets, but for the status."""
    match event:
        case JobClaimed():
            return {
                "attempt": event.attempt,
                "engine": event.engine,
                "prompt_id": event.prompt_id,
                "waiting_for": None,
            }
        case JobStarted():
            return {"started_at": _first(job.started_at, event.at)}
        case JobProgressed():
            return {
                "started_at": _first(job.started_at, event.at),
                "progress": min(max(job.progress, event.progress), 1.0),
                "current_node": event.node_id,
                "current_node_title": event.node_title,
                "eta_ms": event.eta_ms,
                "progress_at": event.at,
            }
        case JobRequeued():
            return {
                "engine": None,
                "prompt_id": None,
                "started_at": None,
                "progress": 0.0,
                **_NO_NODE,
                "queue_deadline": _deadline(event.at, job.queue_timeout_ms),
                "oom_retried": job.oom_retried or event.cause is FailureKind.OOM,
                "refused_by": _refused_by(job, event),
                "spend": _spend(job, event),
                **_charge(job, event.gpu_use),
            }
        case JobCompleted() | JobFailed() | JobCancelled():
            return _end(job, event)
        case CancelRequested() | PriorityChanged():
            return _asked(job, event)
        case JobWaiting() if job.status is JobStatus.BLOCKED:
            return {"queue_deadline": _deadline(event.at, job.queue_timeout_ms)}
        case JobWaiting():
            return {"waiting_for": event.waiting_for}
        case JobQueued():  # pragma: no cover - refused above: a job is queued once, by `queued`
            return {}
        case _:
            assert_never(event)


def _asked(job: Job, event: CancelRequested | PriorityChanged) -> dict[str, Any]:
    """What a client wants of it."""
    if isinstance(event, PriorityChanged):
        return {"priority": event.priority}
    return {
        "cancel_requested": True,
        "cancel_reason": _first(event.reason, job.cancel_reason),
        "cancelled_by": _first(event.by, job.cancelled_by),
    }


def _refused_by(job: Job, event: JobRequeued) -> tuple[EngineId, ...]:
    if event.cause is not FailureKind.VALIDATION or job.engine is None:
        return job.refused_by
    return (*job.refused_by, job.engine)


def _first(value: T | None, other: T) -> T:
    return other if value is None else value


def _deadline(since: int, timeout_ms: int | None) -> int | None:
    return None if timeout_ms is None else since + timeout_ms


def _end(job: Job, end: JobCompleted | JobFailed | JobCancelled) -> dict[str, Any]:
    return {
        "finished_at": end.at,
        "waiting_for": None,
        "output_count": end.output_count,
        "progress": 1.0 if isinstance(end, JobCompleted) else job.progress,
        "failure": end.failure if isinstance(end, JobFailed) else None,
        "warnings": (*job.warnings, *end.warnings) if isinstance(end, JobCompleted) else job.warnings,
        **_NO_NODE,
        "spend": _spend(job, end),
        **_charge(job, end.gpu_use),
    }


def _spend(job: Job, end: JobRequeued | JobCompleted | JobFailed | JobCancelled) -> Spend | None:
    """With the run that has ended: as the place measured it, else from when it was seen to start."""
    if job.spend is None:
        return None
    seen_ms = 0 if job.started_at is None else end.at - job.started_at
    return job.spend.after_run(_first(end.ran_ms, seen_ms), over=not isinstance(end, JobRequeued))


def _charge(job: Job, use: GpuUse | None) -> dict[str, Any]:
    """Add an attempt's GPU use to the job's sum."""
    if use is None:
        return {}
    seconds, peak = job.gpu_seconds, job.peak_vram_bytes
    if use.seconds is not None:
        seconds = round((seconds or 0.0) + use.seconds, 3)
    if use.peak_bytes is not None:
        peak = max(peak or 0, use.peak_bytes)
    return {"gpu_seconds": seconds, "peak_vram_bytes": peak}


class CancelAnswer(StrEnum):
    """The effect of a cancel request in the job's current state."""

    CANCEL_NOW = "cancel_now"  # no engine has it: the job becomes cancelled in the same transaction
    ASK_ENGINE = "ask_engine"  # an attempt is in flight: whoever drives the engine cancels and verifies
    ALREADY_CANCELLED = "already_cancelled"
    TOO_LATE = "too_late"


def decide_cancel(job: Job) -> CancelAnswer:
    match job.status:
        case JobStatus.CANCELLED:
            return CancelAnswer.ALREADY_CANCELLED
        case JobStatus.COMPLETED | JobStatus.FAILED:
            return CancelAnswer.TOO_LATE
        case JobStatus.BLOCKED | JobStatus.QUEUED | JobStatus.RUNNING:
            return CancelAnswer.ASK_ENGINE if job.is_claimed else CancelAnswer.CANCEL_NOW
        case _:
            assert_never(job.status)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobQuery:
    """Which jobs, newest first. Times are epoch milliseconds; both ends included; no `statuses` means all.

    `retried`: whether another job retries it; None: either.
    """

    statuses: Collection[JobStatus] = ()
    client: ClientId | None = None
    batch: BatchId | None = None
    engine: EngineId | None = None
    failure_kind: FailureKind | None = None
    retried: bool | None = None
    id_start: str | None = None
    batch_start: str | None = None
    tag: tuple[str, str] | None = None
    created_after: int | None = None
    created_before: int | None = None
    limit: int = 50
    cursor: str | None = None
