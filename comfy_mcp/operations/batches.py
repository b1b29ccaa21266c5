"""Several workflows as one: those of a batch, or of ids that a caller gives together."""

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from comfy_mcp.domain.errors import LimitExceeded, NotFound
from comfy_mcp.domain.ids import BatchId, JobId, OutputId
from comfy_mcp.domain.job import CancelAnswer, Job, JobQuery
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.services import Services
from comfy_mcp.operations.shapes import MINE, StatusName, WaitingForItem, WorkflowResult

if TYPE_CHECKING:
    from comfy_mcp.store import JobView

MOST = 200
"""Workflows that one call is about; a batch has fewer."""

OPEN = frozenset({"queued", "running"})


async def jobs_of(services: Services, batch: BatchId) -> list[Job]:
    """Oldest first."""
    return list(reversed((await services.store.list_jobs(JobQuery(batch=batch, limit=MOST))).items))


async def views_of(context: OperationContext, given: str) -> "list[JobView]":
    """What the ids stand for, with commas between them: of each its workflow, or all of its batch. Each has
    its first outputs only, as in a list.

    Raises NotFound, also for what the caller may not see, and LimitExceeded.
    """
    ids = list(dict.fromkeys(given.split(",")))
    if len(ids) > MOST:
        raise _too_many()
    known = {view.job.id: view for view in await _seen(context, ids=[JobId(each) for each in ids])}
    found: dict[JobId, JobView] = {}
    for each in ids:
        one = known.get(JobId(each))
        views = [one] if one is not None else await _seen(context, batch=BatchId(each))
        if not views:
            raise await _not_found(context, each)
        found |= {view.job.id: view for view in views}
        if len(found) > MOST:
            raise _too_many()
    return list(found.values())


def _too_many() -> LimitExceeded:
    return LimitExceeded(
        f"The ids stand for more than {MOST} workflows.", next_step="Give fewer ids in one call."
    )


async def _seen(context: OperationContext, **which: Any) -> "list[JobView]":
    """Those that the caller may see, oldest first."""
    client = None if context.caller.sees_all else context.caller.client
    page = await context.services.store.list_views(JobQuery(client=client, limit=MOST, **which))
    return list(reversed(page.items))


async def first_of(context: OperationContext, given: str) -> Job:
    """The workflow with this id, or the first of the batch. Raises NotFound."""
    return (await views_of(context, given))[0].job


async def _not_found(context: OperationContext, given: str) -> NotFound:
    """The error for it, which names the workflow of what is the id of an output."""
    if given.lower() == "all":
        step = f'Call cancel_workflow(workflow_id="{MINE}") to cancel all that you submitted.'
        return NotFound(not_found(JobId(given)).message, next_step=step)
    error, output = not_found(JobId(given)), await context.services.store.get_output(OutputId(given))
    job = None if output is None else await context.services.store.get_job(output.job_id)
    if job is None or not context.caller.may_see(job.client):
        return error
    step = f'It is the id of an output; the id of its workflow is "{job.id}".'
    return NotFound(error.message, next_step=step)


def not_found(job_id: JobId) -> NotFound:
    return NotFound(
        f"Workflow {job_id} not found",
        next_step="Call list_workflows for existing ids; old workflows are deleted in time.",
    )


async def cancel_all(
    context: OperationContext, ids: Collection[JobId], reason: str | None
) -> tuple[int, list[JobId]]:
    """How many were cancelled at once, and those that an engine has been asked to stop."""
    services = context.services
    done = await services.store.request_cancels(
        ids, at=services.now_ms(), reason=reason, by=context.caller.said
    )
    asked = [job.id for job, answer in done if answer is CancelAnswer.ASK_ENGINE]
    return sum(answer is CancelAnswer.CANCEL_NOW for _, answer in done), asked


def combined(given: str, states: Sequence[WorkflowResult]) -> WorkflowResult:
    """One state of them all, in their order. It has failed when all have ended and one failed."""
    shown = _most_telling(states)
    failed = next((each for each in states if each.failure is not None), states[0])
    started = [each.start_time for each in states if each.start_time is not None]
    ended = [each.completion_time for each in states if each.completion_time is not None]
    places = [each.queue_position for each in states if each.queue_position is not None]
    names = {each.name for each in states}
    status = _status([each.status for each in states])
    return shown.model_copy(
        update={
            "workflow_id": given,
            "name": states[0].name if len(names) == 1 else None,
            "batch": None,
            "status": status,
            "queue_position": min(places, default=None) if status == "queued" else None,
            "progress": round(sum(_done(each) for each in states) / len(states), 1),
            "start_time": min(started, default=None),
            "completion_time": None if status in OPEN else max(ended, default=None),
            "created_time": min(each.created_time for each in states),
            "outputs": [output for each in states for output in each.outputs],
            "output_count": sum(each.output_count for each in states),
            "error": failed.error,
            "failure": failed.failure,
            "cancel_requested": any(each.cancel_requested for each in states),
            "warnings": list(dict.fromkeys(text for each in states for text in each.warnings)),
            "eta_ms": None,
            "eta_range_ms": None,
            "waiting_for": _waiting_for(status, states),
            "silence": next((each.silence for each in states if each.silence is not None), None),
            "retry_of": None,
            "retried_by": None,
            "workflows": {each.workflow_id: each.status for each in states},
            "next_step": _next_step(given, status, states),
        }
    )


def _most_telling(states: Sequence[WorkflowResult]) -> WorkflowResult:
    """Whose node and engine are shown: one that runs, else one that waits."""
    for status in ("running", "queued"):
        for each in states:
            if each.status == status:
                return each
    return states[0]


def _waiting_for(status: StatusName, states: Sequence[WorkflowResult]) -> WaitingForItem | None:
    """What the first of those that wait, waits for; beside one that runs, its turn is nothing to tell."""
    for each in states:
        if each.waiting_for is not None and (status == "queued" or each.waiting_for.reason != "turn"):
            return each.waiting_for
    return None


def _done(state: WorkflowResult) -> float:
    return state.progress if state.status in OPEN else 100.0


def _status(statuses: Iterable[StatusName]) -> StatusName:
    found = set(statuses)
    if found & OPEN:
        return "queued" if found == {"queued"} else "running"
    for status in ("failed", "cancelled"):
        if status in found:
            return status
    return "completed"


def _next_step(given: str, status: StatusName, states: Sequence[WorkflowResult]) -> str | None:
    if status in OPEN:
        return f'Call wait_for_workflow(workflow_id="{given}").'
    steps = []
    made = [each.workflow_id for each in states if each.outputs]
    if made:
        whose = given if "," not in given else ",".join(made)
        steps.append(f'Call view_output(output_id="{whose}") to look at them on one sheet.')
    if status != "completed":
        steps.append(_retry(given))
    return " ".join(steps) or None


def _retry(given: str) -> str:
    """A batch is retried as a whole."""
    if "," in given:
        return "Call retry_workflow for each that failed or was cancelled."
    return f'Call retry_workflow(workflow_id="{given}") to run again those that failed or were cancelled.'


def rest_of(state: WorkflowResult) -> str:
    """What to do when the first has ended and others have not."""
    workflows = state.workflows
    rest = [each for each, status in workflows.items() if status in OPEN]
    ended = len(workflows) - len(rest)
    if len(rest) > FEW:
        waits = f'call wait_for_workflow(workflow_id="{state.workflow_id}") for all'
    else:
        waits = f'call wait_for_workflow(workflow_id="{",".join(rest)}") for the rest'
    made = next((each.workflow_id for each in state.outputs), None)
    look = "" if made is None else f'Call view_output(output_id="{made}") to look at its outputs; '
    return f"{ended} of {len(workflows)} ended. {look}{waits}."


FEW = 10
"""Ids that a next step lists."""
