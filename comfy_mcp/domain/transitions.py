"""How events change a job: pure, and the only rules by which one changes."""

from collections.abc import Mapping
from dataclasses import fields
from operator import attrgetter
from types import MappingProxyType
from typing import Any, TypeVar, assert_never

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
    PriorityChanged,
)
from comfy_mcp.domain.gpu_use import GpuUse
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.domain.job import TRANSITIONS, IllegalTransition, Job, JobStatus
from comfy_mcp.domain.spending import Spend

T = TypeVar("T")

# `status` comes from the table of transitions.
_FIELDS = tuple(each.name for each in fields(Job) if each.name != "status")

_values_of = attrgetter(*_FIELDS)

_NO_NODE: Mapping[str, None] = MappingProxyType(
    dict.fromkeys(("current_node", "current_node_title", "eta_ms", "progress_at"))
)


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


def _spend(job: Job, end: JobRequeued | JobCompleted | JobFailed | JobCancelled) -> Spend | None:
    """With the run that has ended: as the place measured it, else from when it was seen to start."""
    if job.spend is None:
        return None
    seen_ms = 0 if job.started_at is None else end.at - job.started_at
    return job.spend.after_run(_first(end.ran_ms, seen_ms), over=not isinstance(end, JobRequeued))
