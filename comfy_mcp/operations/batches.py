"""The workflows of one submit as one: a combined state, a cancel of all that have not ended."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from comfy_mcp.domain.ids import BatchId, JobId
from comfy_mcp.domain.job import Job, JobQuery
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.services import Services
from comfy_mcp.operations.shapes import StatusName, WorkflowResult

if TYPE_CHECKING:
    from comfy_mcp.store import JobView

MOST = 200
"""Workflows of a batch that are looked at: more than one can have."""

OPEN = frozenset({"queued", "running"})


async def jobs_of(services: Services, batch: BatchId) -> list[Job]:
    """Oldest first."""
    return list(reversed((await services.store.list_jobs(JobQuery(batch=batch, limit=MOST))).items))


async def views_of(context: OperationContext, batch: BatchId) -> "list[JobView]":
    """Those that the caller may see, oldest first. None at all where there is no such batch."""
    client = None if context.caller.sees_all else context.caller.client
    page = await context.services.store.list_views(JobQuery(batch=batch, client=client, limit=MOST))
    return list(reversed(page.items))


async def cancel_all(context: OperationContext, jobs: Sequence[Job], reason: str | None) -> int:
    """How many had not ended and were asked to."""
    services = context.services
    going = [job for job in jobs if not job.is_final]
    for job in going:
        await services.store.request_cancel(
            JobId(job.id), at=services.now_ms(), reason=reason, by=context.caller.said
        )
    return len(going)


def combined(batch: BatchId, states: Sequence[WorkflowResult]) -> WorkflowResult:
    """One state of them all, oldest first. It has failed when all have ended and one failed."""
    first = states[0]
    failed = next((each for each in states if each.failure is not None), first)
    started = [each.start_time for each in states if each.start_time is not None]
    ended = [each.completion_time for each in states if each.completion_time is not None]
    places = [each.queue_position for each in states if each.queue_position is not None]
    status = _status([each.status for each in states])
    return first.model_copy(
        update={
            "workflow_id": batch,
            "status": status,
            "queue_position": min(places, default=None) if status == "queued" else None,
            "progress": round(sum(_done(each) for each in states) / len(states), 1),
            "start_time": min(started, default=None),
            "completion_time": None if status in OPEN else max(ended, default=None),
            "outputs": [output for each in states for output in each.outputs],
            "output_count": sum(each.output_count for each in states),
            "error": failed.error,
            "failure": failed.failure,
            "cancel_requested": any(each.cancel_requested for each in states),
            "warnings": list(dict.fromkeys(text for each in states for text in each.warnings)),
            "eta_ms": None,
            "eta_range_ms": None,
            "silence": next((each.silence for each in states if each.silence is not None), None),
            "retry_of": None,
            "retried_by": None,
            "workflows": {each.workflow_id: each.status for each in states},
            "next_step": _next_step(batch, status, states),
        }
    )


def _done(state: WorkflowResult) -> float:
    return state.progress if state.status in OPEN else 100.0


def _status(statuses: Sequence[StatusName]) -> StatusName:
    found = set(statuses)
    if found & OPEN:
        return "queued" if found == {"queued"} else "running"
    for status in ("failed", "cancelled"):
        if status in found:
            return status
    return "completed"


def _next_step(batch: BatchId, status: StatusName, states: Sequence[WorkflowResult]) -> str | None:
    if status in OPEN:
        return f'Call wait_for_workflow(workflow_id="{batch}").'
    made = any(each.outputs for each in states)
    return f'Call view_output(output_id="{batch}") to look at them on one sheet.' if made else None
