"""Cancel workflows, or end them without their engine's word."""

from collections.abc import Sequence

from comfy_mcp.domain.deadlines import STOP_LIMIT_S
from comfy_mcp.domain.errors import Conflict, NotFound
from comfy_mcp.domain.ids import JobId
from comfy_mcp.domain.job import TERMINAL, CancelAnswer, Job, JobQuery, JobStatus
from comfy_mcp.operations.batches import MOST, OPEN, cancel_all, views_of
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.following import follow
from comfy_mcp.operations.services import Services
from comfy_mcp.operations.shapes import (
    MINE,
    CancelParams,
    CancelResult,
    WorkflowParams,
    WorkflowResult,
    counted,
)
from comfy_mcp.operations.states import require_visible, state_of

CANCEL_WAIT_S = 5.0
"""How long a cancel waits for the engine to confirm: ComfyUI stops between two steps."""

MINE_AT_ONCE = 500
"""Workflows of the caller that are read at once to be cancelled."""

UNENDED = frozenset(JobStatus) - TERMINAL


async def cancel_workflow(context: OperationContext, params: CancelParams) -> CancelResult:
    """Ask, wait a bounded time for the effect, and report what is true.

    Raises NotFound, and Conflict (`not_cancellable`) once all are completed or failed.
    """
    services, job_id = context.services, JobId(params.workflow_id)
    if job_id == MINE:
        return await _cancel_mine(context, params.reason)
    try:
        await require_visible(context, job_id)
    except NotFound:
        return await _cancel_several(context, job_id, params.reason)
    job, answer = await services.store.request_cancel(
        job_id, at=services.now_ms(), reason=params.reason, by=context.caller.said
    )
    if answer is CancelAnswer.ASK_ENGINE:
        await follow(context, job_id, CANCEL_WAIT_S)
        job = await services.store.get_job(job_id) or job
    if job.status in {JobStatus.COMPLETED, JobStatus.FAILED}:
        raise _not_cancellable(job.shown_status, f"It is {job.shown_status}", job_id)
    return CancelResult(
        workflow_id=job_id,
        status=job.shown_status,
        cancel_requested=job.cancel_requested,
        next_step=None if job.status is JobStatus.CANCELLED else await _until_cancelled(services, job),
    )


def _not_cancellable(status: str, because: str, given: str) -> Conflict:
    return Conflict(
        "Workflow cannot be cancelled",
        next_step=f'{because}: there is nothing to cancel. workflow_status(workflow_id="{given}") shows it.',
        details={"currentStatus": status},
    )


async def _until_cancelled(services: Services, job: Job) -> str:
    """What will become of a cancel that had no effect yet."""
    shows = f'workflow_status(workflow_id="{job.id}") shows when.'
    silence = None if job.engine is None else await services.engines.silence(job.engine)
    if silence is None:
        return f"The engine stops at its next node or step: {shows}"
    return f"The engine has not answered for {silence.seconds:.0f} s. {_ENDS_HERE} {shows}"


_ENDS_HERE = (
    f"{STOP_LIMIT_S:.0f} s after the request the workflow ends as cancelled, also without its answer; "
    "ComfyUI may still finish it."
)


async def _cancel_several(context: OperationContext, given: str, reason: str | None) -> CancelResult:
    """Of a batch or of several ids, those that have not ended. Raises NotFound, Conflict."""
    going = [view.job.id for view in await views_of(context, given) if not view.job.is_final]
    cancelled, stopping, silent = await _stopped(context, going, reason)
    state = await state_of(context, JobId(given))
    if not going and state.status != "cancelled":
        raise _not_cancellable(state.status, f"All have ended ({counted(state.workflows)})", given)
    return CancelResult(
        workflow_id=given,
        status=state.status,
        cancel_requested=state.cancel_requested,
        cancelled=cancelled,
        stopping=stopping,
        next_step=f'{silent}Call wait_for_workflow(workflow_id="{given}").' if stopping else None,
    )


async def _cancel_mine(context: OperationContext, reason: str | None) -> CancelResult:
    """All of the caller's that have not ended, newest first."""
    cancelled, asked, cursor = 0, list[JobId](), None
    while True:
        query = JobQuery(statuses=UNENDED, client=context.caller.client, limit=MINE_AT_ONCE, cursor=cursor)
        page = await context.services.store.list_jobs(query)
        at_once, more = await cancel_all(context, [job.id for job in page.items], reason)
        cancelled, asked, cursor = cancelled + at_once, asked + more, page.next_cursor
        if cursor is None:
            break
    stopped, stopping, silent = await _end_of(context, asked)
    return CancelResult(
        status="running" if stopping else "cancelled",
        cancel_requested=bool(asked),
        cancelled=cancelled + stopped,
        stopping=stopping,
        next_step=f'{silent}Call list_workflows(status="running") to see which.' if stopping else None,
    )


async def _stopped(
    context: OperationContext, ids: Sequence[JobId], reason: str | None
) -> tuple[int, int, str]:
    """How many are cancelled now, how many still stop, and that an engine does not answer."""
    at_once, asked = await cancel_all(context, ids, reason)
    stopped, stopping, silent = await _end_of(context, asked)
    return at_once + stopped, stopping, silent


async def _end_of(context: OperationContext, asked: Sequence[JobId]) -> tuple[int, int, str]:
    """The same of those that engines were asked to stop, after a bounded wait."""
    if not asked:
        return 0, 0, ""
    state = await follow(context, JobId(",".join(asked[:MOST])), CANCEL_WAIT_S)
    statuses = list(state.workflows.values()) or [state.status]
    silent = "" if state.silence is None else f"{state.silence.message} {_ENDS_HERE} "
    return statuses.count("cancelled"), sum(each in OPEN for each in statuses), silent


async def abandon_workflow(context: OperationContext, params: WorkflowParams) -> WorkflowResult:
    """End a job without asking the engine that has it.

    Raises NotFound, and Conflict (`not_cancellable`) once the job has ended.
    """
    services, job_id, by = context.services, JobId(params.workflow_id), context.caller.said
    if await services.store.abandon(job_id, at=services.now_ms(), reason="abandoned", by=by) is None:
        raise Conflict(
            "The workflow has ended already.",
            next_step=f'workflow_status(workflow_id="{job_id}") shows its state.',
        )
    return await state_of(context, job_id)
