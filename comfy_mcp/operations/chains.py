"""Workflows that wait for others: which these are, at a submit and at a retry."""

from collections.abc import Mapping, Sequence

from comfy_mcp.domain.chains import MAX_PARENTS, Parent, replaced
from comfy_mcp.domain.errors import Conflict, ErrorCode, InvalidInput, LimitExceeded
from comfy_mcp.domain.ids import JobId
from comfy_mcp.domain.job import Job
from comfy_mcp.operations.batches import views_of
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.file_inputs import newest_try
from comfy_mcp.operations.ids import whole_id
from comfy_mcp.operations.repairs import plain_id
from comfy_mcp.operations.shapes import SubmitParams


async def parents_of(context: OperationContext, params: SubmitParams) -> tuple[Parent, ...]:
    """The workflows that `after` and `after_any` name; those of a batch are all of its.

    Raises NotFound, LimitExceeded, and InvalidInput for one that has failed already.
    """
    found: dict[JobId, Parent] = {}
    for given, any_end in ((params.after_any, True), (params.after, False)):
        for each in given:
            whole = await whole_id(context, "workflow_id", plain_id(each))
            for view in await views_of(context, whole):
                if not any_end and view.job.can_be_retried:
                    raise _failed(view.job)
                found[view.job.id] = Parent(id=view.job.id, any_end=any_end)
    return _bounded(tuple(found.values()))


async def parents_again(context: OperationContext, old: Job) -> tuple[Parent, ...]:
    """What a retry of a workflow waits for: the newest retries of what failed.

    Raises Conflict (`not_retryable`) where one has failed and was not retried.
    """
    instead: dict[JobId, JobId] = {}
    for parent in old.after:
        job = await newest_try(context, parent.id)
        if job is not None:
            instead[parent.id] = job.id
        if job is not None and job.can_be_retried and not parent.any_end:
            raise Conflict(
                f"Workflow {job.id}, which this one waits for, {_became(job)}.",
                next_step=f'Call retry_workflow(workflow_id="{job.id}") first.',
                code=ErrorCode.NOT_RETRYABLE,
                details={"currentStatus": old.shown_status},
            )
    return replaced([each for each in old.after if each.id in instead], instead)


def with_takes(after: Sequence[Parent], takes: Mapping[JobId, int]) -> tuple[Parent, ...]:
    """And the workflows whose outputs it takes, which have to complete unless they are in `after_any`."""
    known = {parent.id: parent for parent in after}
    for job_id, count in takes.items():
        any_end = known[job_id].any_end if job_id in known else False
        known[job_id] = Parent(id=job_id, any_end=any_end, outputs=count)
    return _bounded(tuple(known.values()))


def _bounded(parents: tuple[Parent, ...]) -> tuple[Parent, ...]:
    if len(parents) > MAX_PARENTS:
        raise LimitExceeded(
            f"The workflow would wait for {len(parents)} others; the limit is {MAX_PARENTS}.",
            next_step="Wait for one that waits for some of them.",
        )
    return parents


def _failed(job: Job) -> InvalidInput:
    return InvalidInput(
        f"after: workflow {job.id} {_became(job)}.",
        next_step=f'Call retry_workflow(workflow_id="{job.id}") and name the new one, or give it in '
        "after_any: then this one runs all the same.",
    )


def _became(job: Job) -> str:
    return "was cancelled" if job.failure is None else f"failed: {job.failure.message.rstrip('.')}"
