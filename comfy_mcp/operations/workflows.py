"""Submit, follow, wait for, cancel and list workflows."""

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from comfy_mcp.domain.access import Idempotency, Right
from comfy_mcp.domain.errors import Conflict, ErrorCode, InvalidInput, LimitExceeded, NotFound
from comfy_mcp.domain.events import FINAL_EVENTS, JobQueued, Priority, StoredEvent
from comfy_mcp.domain.graph import parse_graph
from comfy_mcp.domain.graph_checks import check_graph
from comfy_mcp.domain.ids import ClientId, JobId
from comfy_mcp.domain.job import CancelAnswer, Job, JobQuery, JobStatus
from comfy_mcp.operations.context import OperationContext, Services, require_right
from comfy_mcp.operations.models import (
    CancelParams,
    CancelResult,
    ListWorkflowsParams,
    NoParams,
    QueueResult,
    SubmitParams,
    SubmitResult,
    WaitParams,
    WorkflowParams,
    WorkflowResult,
    WorkflowsResult,
)
from comfy_mcp.operations.views import workflow_result

FRESH_S = 5.0
"""Before a graph is refused for an unknown name, a node list older than this is asked for again."""

QUEUE_SHOWN = 50
"""Jobs of each list in the queue view; the counts cover all."""


async def submit_workflow(context: OperationContext, params: SubmitParams) -> SubmitResult:
    """Check the graph, write the job, return. From then on it is durable."""
    services = context.services
    if params.gpu == "salad":
        raise InvalidInput(
            "The salad lane is not available in this version.",
            next_step='Submit with gpu="local".',
            code=ErrorCode.LANE_UNAVAILABLE,
        )
    raw = await _graph_of(context, params)
    graph = parse_graph(raw)
    report = check_graph(graph, await services.engines.object_info())
    if report.may_be_stale:  # a node or a model may have come since
        report = check_graph(graph, await services.engines.object_info(max_age_s=FRESH_S))
    if (error := report.error()) is not None:
        raise error
    warnings = report.warnings + services.engines.submit_warnings()
    event = JobQueued(
        job_id=JobId(services.new_id()),
        at=services.now_ms(),
        client=context.caller.client,
        lane=params.gpu,
        priority=Priority(params.priority),
        node_count=len(graph.nodes),
        warnings=warnings,
    )
    # Told before the write: the claim then stands right behind it at the store. Drivers that look too early
    # hear of the job again through the log.
    services.engines.work_arrived()
    job, position = await services.store.add_job(
        event,
        graph.raw,
        max_queued=services.settings.max_queued,
        idempotency=_idempotency(context, params, graph.raw),
    )
    return SubmitResult(
        workflow_id=job.id,
        status="queued",  # a repeated submit gets the first answer again, whatever has become of the job
        queue_position=position,
        warnings=list(job.warnings),
        next_step=f'Call wait_for_workflow(workflow_id="{job.id}").',
    )


async def workflow_status(context: OperationContext, params: WorkflowParams) -> WorkflowResult:
    return await state_of(context, JobId(params.workflow_id))


async def wait_for_workflow(context: OperationContext, params: WaitParams) -> WorkflowResult:
    """Wait for the end, bounded. A wait that is cancelled leaves the job alone unless asked otherwise.

    When this process goes, the answer is the state as it then is: to its job, that is no caller who left.
    """
    services, job_id = context.services, JobId(params.workflow_id)
    settings = services.settings
    limit = settings.wait_default_s if params.timeout_s is None else params.timeout_s
    if params.cancel_on_disconnect:
        require_right(context, Right.CANCEL, "wait_for_workflow with cancel_on_disconnect")
        await _require_visible(context, job_id)
    try:
        async with context.leaving.ends() if context.leaving else nullcontext():
            return await _follow(context, job_id, min(limit, settings.wait_max_s))
    except TimeoutError:
        return await state_of(context, job_id)
    except asyncio.CancelledError:
        if params.cancel_on_disconnect and not (context.leaving and context.leaving.begun):
            # Only this write is shielded: the caller has gone, its wish has not.
            await asyncio.shield(
                services.store.request_cancel(
                    job_id, at=services.now_ms(), reason="the waiting caller disconnected"
                )
            )
        raise


async def cancel_workflow(context: OperationContext, params: CancelParams) -> CancelResult:
    """Ask, wait a bounded time for the effect, and report what is true.

    Raises NotFound, and Conflict (`not_cancellable`) once the job is completed or failed.
    """
    services, job_id = context.services, JobId(params.workflow_id)
    await _require_visible(context, job_id)
    job, answer = await services.store.request_cancel(job_id, at=services.now_ms(), reason=params.reason)
    if answer is CancelAnswer.ASK_ENGINE:
        await _follow(context, job_id, services.settings.cancel_wait_s)
        job = await services.store.get_job(job_id) or job
    if job.status in {JobStatus.COMPLETED, JobStatus.FAILED}:
        raise Conflict(
            "Workflow cannot be cancelled",
            next_step=f"It is {job.status.value}: nothing is left to stop. See workflow_status.",
            details={"currentStatus": job.status.value},
        )
    pending = job.status is not JobStatus.CANCELLED
    return CancelResult(
        workflow_id=job_id,
        status=job.status.value,
        cancel_requested=job.cancel_requested,
        next_step="The engine has been asked and stops at its next node or step; see workflow_status."
        if pending
        else None,
    )


async def list_workflows(context: OperationContext, params: ListWorkflowsParams) -> WorkflowsResult:
    services = context.services
    page = await services.store.list_jobs(
        JobQuery(
            statuses=(JobStatus(params.status),) if params.status else (),
            client=_whose(context, params.client),
            created_after=params.since,
            limit=params.limit,
            cursor=params.cursor,
        )
    )
    return WorkflowsResult(
        workflows=[await _result(services, job) for job in page.items], next_cursor=page.next_cursor
    )


async def queue(context: OperationContext, params: NoParams) -> QueueResult:
    """The caller's jobs in their places; the counts and places are those of everybody's."""
    view = await context.services.store.queue(QUEUE_SHOWN)
    caller = context.caller
    return QueueResult(
        running=[workflow_result(job, ()) for job in view.running if caller.may_see(job.client)],
        queued=[
            workflow_result(job, (), place)
            for place, job in enumerate(view.queued, start=1)
            if caller.may_see(job.client)
        ],
        counts={status.value: count for status, count in view.counts.items()},
    )


async def state_of(context: OperationContext, job_id: JobId) -> WorkflowResult:
    """The job as the wire shows it. Raises NotFound, also for a job that the caller may not see."""
    view = await context.services.store.view_job(job_id)
    if view is None or not context.caller.may_see(view.job.client):
        raise _not_found(job_id)
    return workflow_result(view.job, view.outputs, view.position)


async def _follow(context: OperationContext, job_id: JobId, limit_s: float) -> WorkflowResult:
    """Snapshot first, then the events, until the job is final or the time is up."""
    services = context.services
    # Subscribed before the snapshot is read: what happens in between is in the stream.
    with services.hub.subscribe(job_id=job_id) as events:
        result = await state_of(context, job_id)
        await _report(context, result)
        try:
            async with asyncio.timeout(limit_s):
                while result.status in {"queued", "running"}:
                    happened = await events.changed()
                    if context.on_progress is None and not _ends(happened):
                        continue
                    result = await state_of(context, job_id)
                    await _report(context, result)
        except TimeoutError:
            result = await state_of(context, job_id)
    return result


def _ends(happened: Sequence[StoredEvent]) -> bool:
    return any(isinstance(stored.event, FINAL_EVENTS) for stored in happened)


async def _report(context: OperationContext, result: WorkflowResult) -> None:
    if context.on_progress is not None:
        await context.on_progress(result)


async def _require_visible(context: OperationContext, job_id: JobId) -> None:
    """What a caller may not see does not exist for it."""
    job = await context.services.store.get_job(job_id)
    if job is None or not context.caller.may_see(job.client):
        raise _not_found(job_id)


def _whose(context: OperationContext, asked: str | None) -> ClientId | None:
    """Whose jobs a list shows: those of the client asked for, and only one's own without the right to all."""
    caller = context.caller
    if not caller.sees_all:
        return caller.client
    return ClientId(asked) if asked else None


def _not_found(job_id: JobId) -> NotFound:
    return NotFound(
        f"Workflow {job_id} not found",
        next_step="Read comfy://workflows for the ids that exist; old ones end with the retention time.",
    )


async def _result(services: Services, job: Job) -> WorkflowResult:
    outputs = await services.store.outputs_of(job.id) if job.output_count else []
    position = await services.store.queue_position(job.id) if job.status is JobStatus.QUEUED else None
    return workflow_result(job, outputs, position)


async def _graph_of(context: OperationContext, params: SubmitParams) -> object:
    """The raw graph: inline as an object or JSON text, or from a file under the allowed roots."""
    services = context.services
    if (params.workflow is None) == (params.path is None):
        raise InvalidInput(
            "Give either workflow or path.", next_step="Pass the graph as an object, or the path of its file."
        )
    if params.path is not None:
        if not context.caller.may_read_files:
            raise InvalidInput(
                "A path can't be read on this surface.",
                next_step="Send the graph itself as workflow.",
                code=ErrorCode.PATH_NOT_ALLOWED,
            )
        return await services.workflow_files.read(params.path)
    if isinstance(params.workflow, str):
        return services.workflow_files.parse(params.workflow)
    _check_size(params.workflow, services.settings.max_graph_bytes)
    return params.workflow


def _idempotency(
    context: OperationContext, params: SubmitParams, graph: Mapping[str, Any]
) -> Idempotency | None:
    if params.idempotency_key is None:
        return None
    submitted = json.dumps([graph, params.priority, params.gpu], sort_keys=True)
    services = context.services
    return Idempotency(
        key=params.idempotency_key,
        digest=hashlib.sha256(submitted.encode("utf-8", "surrogatepass")).hexdigest(),
        since=services.now_ms() - round(services.settings.idempotency_ttl_s * 1000),
    )


def _check_size(graph: Mapping[str, Any] | None, limit: int) -> None:
    size = len(json.dumps(graph, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"))
    if size > limit:
        raise LimitExceeded(
            f"The workflow has {size} bytes; at most {limit} are taken.",
            next_step="Upload large inputs as files, or raise COMFY_BRIDGE_MAX_GRAPH_BYTES.",
            code=ErrorCode.GRAPH_TOO_LARGE,
        )
