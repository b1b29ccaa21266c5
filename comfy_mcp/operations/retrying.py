"""Submit again what failed or was cancelled, as a new job."""

from comfy_mcp.domain.errors import Conflict, ErrorCode, NotFound
from comfy_mcp.domain.extra_data import Submitted
from comfy_mcp.domain.ids import BatchId, JobId
from comfy_mcp.domain.job import Job
from comfy_mcp.operations.batches import not_found, views_of
from comfy_mcp.operations.chains import parents_again
from comfy_mcp.operations.checking import faults_of
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.json_texts import as_json
from comfy_mcp.operations.lanes import require_lane
from comfy_mcp.operations.priorities import require_high
from comfy_mcp.operations.shapes import RetryParams, RetryResult
from comfy_mcp.operations.spilling import Made
from comfy_mcp.operations.states import require_visible
from comfy_mcp.operations.submitting import How, checked_graph, idempotency_of, submit_batch, write_one


async def retry_workflow(context: OperationContext, params: RetryParams) -> RetryResult:
    """The same graph as a new job for the same client, with the same priority and timeouts.

    Raises NotFound, Conflict (`not_retryable`) unless the old job failed or was cancelled, and what a submit
    raises: the graph is checked again.
    """
    services, old_id = context.services, JobId(params.workflow_id)
    try:
        old = await require_visible(context, old_id)
    except NotFound:
        return await _retry_batch(context, BatchId(old_id), params)
    if not old.can_be_retried:
        raise Conflict(
            f"The workflow is {old.status.value}: only failed or cancelled workflows can be retried.",
            next_step=f'Call submit_workflow(workflow="job:{old_id}") to run it again.'
            if old.is_final
            else f'Call wait_for_workflow(workflow_id="{old_id}").',
            code=ErrorCode.NOT_RETRYABLE,
            details={"currentStatus": old.status.value},
        )
    use = await idempotency_of(context, params.idempotency_key, lambda: ["retry", old_id])
    made, how = await _again(context, old)
    job, position = await write_one(services, made, use, how)
    return RetryResult(
        workflow_id=job.id,
        name=job.name,
        status="queued",
        queue_position=position or None,
        warnings=list(job.warnings),
        **faults_of([made[0].report]),
        retry_of=old_id,
        next_step=f'Call wait_for_workflow(workflow_id="{job.id}").',
    )


async def _retry_batch(context: OperationContext, batch: BatchId, params: RetryParams) -> RetryResult:
    """What failed or was cancelled in it and has not been retried, as a new batch. Raises NotFound."""
    jobs = [view.job for view in await views_of(context, batch)]
    olds = [job for job in jobs if job.can_be_retried and job.retried_by is None]
    use = await idempotency_of(context, params.idempotency_key, lambda: ["retry", batch])
    if use is not None and await context.services.store.is_used(use):
        olds = [job for job in jobs if job.can_be_retried]  # the store has the first answer
    if not olds:
        raise Conflict(
            "No workflow of the batch has failed or was cancelled, or each has been retried.",
            next_step=f'Call workflow_status(workflow_id="{batch}").',
            code=ErrorCode.NOT_RETRYABLE,
        )
    submitted = await submit_batch(context.services, [await _again(context, old) for old in olds], use)
    return RetryResult(**dict(submitted), retry_of=batch)


async def _again(context: OperationContext, old: Job) -> "tuple[Made, How]":
    require_high(context, old.priority)
    kept = await context.services.store.get_graph(old.id)
    if kept is None:
        raise not_found(old.id)  # forgotten between the two reads
    submitted, after = kept.submitted or Submitted(), await parents_again(context, old)
    _, text, _ = await as_json(kept.graph)
    require_lane(context, old.lane, kept.wish)
    made = await checked_graph(
        context, kept.graph, text, submitted.file, (), submitted.save_to, kept.wish, old.lane
    )
    how = How(
        after=after,
        client=old.client,
        lane=old.lane,
        priority=old.priority,
        queue_timeout_ms=old.queue_timeout_ms,
        run_timeout_ms=old.run_timeout_ms,
        name=old.name,
        retry_of=old.id,
        webhook=old.webhook,
        tags=old.tags,
    )
    return made, how
