"""Short ways to events and outputs of one job, for tests of the store and of what is built on it."""

import uuid
from typing import Any

from comfy_mcp.domain.catalog import Output, OutputFile, OutputKind, OutputQuery
from comfy_mcp.domain.chains import Parent
from comfy_mcp.domain.events import (
    FailureKind,
    JobCancelled,
    JobCompleted,
    JobFailed,
    JobFailure,
    JobProgressed,
    JobQueued,
    JobRequeued,
    JobStarted,
    Priority,
)
from comfy_mcp.domain.ids import ClientId, EngineId, JobId, NodeId, OutputId, PromptId
from comfy_mcp.domain.job import Job
from comfy_mcp.store import Store, Submission

GRAPH: dict[str, Any] = {
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "t"}},
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
}


def new_job_id() -> JobId:
    return JobId(str(uuid.uuid4()))


def new_prompt_id() -> PromptId:
    return PromptId(str(uuid.uuid4()))


def queued_event(
    job_id: JobId | None = None,
    *,
    at: int = 1_000,
    client: str = "local",
    lane: str = "local",
    priority: Priority = Priority.NORMAL,
    after: tuple[Parent, ...] = (),
) -> JobQueued:
    return JobQueued(
        job_id=job_id or new_job_id(),
        at=at,
        client=ClientId(client),
        lane=lane,
        priority=priority,
        node_count=2,
        after=after,
    )


def submission(event: JobQueued | None = None, *, max_queued: int = 100, **fields: Any) -> Submission:
    return Submission(event=event or queued_event(), graph=GRAPH, max_queued=max_queued, **fields)


def started(job: Job, at: int = 2_000) -> JobStarted:
    return JobStarted(job_id=job.id, at=at, attempt=job.attempt)


def progressed(job: Job, progress: float, at: int = 2_100, node: str = "1") -> JobProgressed:
    """A step, unless the job is at another node by then."""
    return JobProgressed(
        job_id=job.id,
        at=at,
        attempt=job.attempt,
        progress=progress,
        node_id=NodeId(node),
        node_title="Empty",
        eta_ms=50,
    )


def requeued(job: Job, at: int = 2_500) -> JobRequeued:
    return JobRequeued(job_id=job.id, at=at, attempt=job.attempt, reason="the engine was restarted")


def completed(job: Job, at: int = 3_000, output_count: int = 0) -> JobCompleted:
    return JobCompleted(job_id=job.id, at=at, attempt=job.attempt, output_count=output_count)


def failed(job: Job, at: int = 3_000) -> JobFailed:
    failure = JobFailure(
        kind=FailureKind.NODE_ERROR, message="It broke.", node_id=NodeId("1"), detail="…" * 9
    )
    return JobFailed(job_id=job.id, at=at, attempt=job.attempt, failure=failure)


def cancelled(job: Job, at: int = 3_000) -> JobCancelled:
    return JobCancelled(job_id=job.id, at=at, attempt=job.attempt)


def output_of_job(job: Job, filename: str = "t_00001_.png", *, at: int = 3_000, **changes: Any) -> Output:
    kind = changes.pop("kind", OutputKind.IMAGE)
    return Output(
        id=OutputId(str(uuid.uuid4())),
        job_id=job.id,
        attempt=job.attempt,
        engine=job.engine or EngineId("none"),
        file=OutputFile(kind=kind, filename=filename, node=NodeId("2")),
        created_at=at,
        **changes,
    )


async def outputs_of(store: Store, job_id: JobId) -> list[Output]:
    """In the order in which they were recorded."""
    page = await store.list_outputs(OutputQuery(job_id=job_id, limit=200))
    return list(reversed(page.items))
