"""Wait for the end of a workflow, or of several."""

import asyncio
from contextlib import nullcontext
from typing import Literal

from comfy_mcp.domain.access import Right
from comfy_mcp.domain.errors import NotFound
from comfy_mcp.domain.ids import JobId
from comfy_mcp.domain.job import Job
from comfy_mcp.operations.batches import OPEN, cancel_all, rest_of, views_of
from comfy_mcp.operations.context import OperationContext, require_right
from comfy_mcp.operations.saving import checked_place, with_saved
from comfy_mcp.operations.shapes import WaitParams, WorkflowResult
from comfy_mcp.operations.shapes.params import WAIT_DEFAULT_S, WAIT_MAX_S
from comfy_mcp.operations.states import require_visible, shown, state_of, view_of

LOOK_S = 5.0
"""A wait in which nothing happens looks at the job's state again after this."""


async def wait_for_workflow(context: OperationContext, params: WaitParams) -> WorkflowResult:
    """Wait for the end, bounded. A wait that is cancelled leaves the job alone unless asked otherwise.

    On shutdown the wait returns the current state; the job is not cancelled. Outputs are saved if that is
    asked for, here or by the submit.
    """
    save_to = await checked_place(context, params.save_to)
    return await with_saved(context, await _waited(context, params), save_to)


async def _waited(context: OperationContext, params: WaitParams) -> WorkflowResult:
    given = JobId(params.workflow_id)
    limit = WAIT_DEFAULT_S if params.timeout_s is None else params.timeout_s
    if params.cancel_on_disconnect:
        require_right(context.caller, Right.CANCEL, "wait_for_workflow with cancel_on_disconnect")
        await views_of(context, given)
    try:
        async with context.leaving.ends() if context.leaving else nullcontext():
            result = await follow(context, given, min(limit, WAIT_MAX_S), until=params.until)
    except TimeoutError:
        return await state_of(context, given)
    except asyncio.CancelledError:
        if params.cancel_on_disconnect and not (context.leaving and context.leaving.begun):
            # Only this write is shielded: the caller has gone, its wish has not.
            await asyncio.shield(_cancel_left(context, given))
        raise
    if params.until == "any" and result.status in OPEN and _is_over(result, "any"):
        return result.model_copy(update={"next_step": rest_of(result)})
    return _with_cut_named(result, WAIT_MAX_S) if limit > WAIT_MAX_S else result


async def _cancel_left(context: OperationContext, given: str) -> None:
    ids = [view.job.id for view in await views_of(context, given)]
    await cancel_all(context, ids, "the waiting caller disconnected")


def _with_cut_named(result: WorkflowResult, longest_s: float) -> WorkflowResult:
    if result.status not in {"queued", "running"}:
        return result
    step = f"timeout_s was cut to {longest_s:g} s, the longest wait. {result.next_step}"
    return result.model_copy(update={"next_step": step})


async def follow(
    context: OperationContext, job_id: JobId, limit_s: float, *, until: Literal["all", "any"] = "all"
) -> WorkflowResult:
    """Snapshot first, then the events, until the job is final or the time is up."""
    # Subscribed before the snapshot is read: what happens in between is in the stream.
    silent = context.on_progress is None
    with context.services.feed.follow(context.caller, job_id=job_id, only_ends=silent) as reader:
        try:
            job = await _looked_at(context, job_id)
        except NotFound:
            return await _follow_several(context, job_id, limit_s, until)
        now = asyncio.get_running_loop().time
        until_s = now() + limit_s
        while not job.is_final and now() < until_s:
            try:
                async with asyncio.timeout(min(LOOK_S, until_s - now())):
                    _, lost = await reader.newest()
            except TimeoutError:  # nothing happens: perhaps because the engine does not answer
                lost = True
            if silent and not lost:
                break
            job = await _looked_at(context, job_id)
    return await shown(context, await view_of(context, job_id))


async def _follow_several(
    context: OperationContext, job_id: JobId, limit_s: float, until: Literal["all", "any"]
) -> WorkflowResult:
    """The same for several, by the events of all that the caller may see. A single id that is none of a job
    is a batch's."""
    silent = context.on_progress is None
    with context.services.feed.follow(context.caller, only_ends=silent) as reader:
        result = await state_of(context, job_id)
        await _report_state(context, result)
        try:
            async with asyncio.timeout(limit_s):
                while not _is_over(result, until):
                    happened, lost = await reader.newest()
                    happened = [each for each in happened if each.event.job_id in result.workflows]
                    if not lost and not happened:
                        continue
                    result = await state_of(context, job_id)
                    await _report_state(context, result)
        except TimeoutError:
            result = await state_of(context, job_id)
    return result


def _is_over(batch: WorkflowResult, until: Literal["all", "any"]) -> bool:
    some = any(status not in OPEN for status in batch.workflows.values())
    return batch.status not in OPEN or (until == "any" and some)


async def _looked_at(context: OperationContext, job_id: JobId) -> Job:
    """The job. Whoever listens gets its state, with its place in the queue."""
    if context.on_progress is None:
        return await require_visible(context, job_id)
    view = await view_of(context, job_id)
    await context.on_progress(await shown(context, view))
    return view.job


async def _report_state(context: OperationContext, batch: WorkflowResult) -> None:
    if context.on_progress is not None:
        await context.on_progress(batch)
