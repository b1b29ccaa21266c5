"""The state of jobs as their callers see it: what they wait for, if their engine answers, the time left."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from comfy_mcp.domain.errors import NotFound
from comfy_mcp.domain.ids import JobId
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.domain.time_left import in_range, time_left
from comfy_mcp.operations.batches import combined, not_found, views_of
from comfy_mcp.operations.beside import beside
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.services import Services
from comfy_mcp.operations.shapes import SilenceItem, WaitingForItem, WorkflowResult
from comfy_mcp.operations.views import result_of
from comfy_mcp.operations.waiting import with_turns
from comfy_mcp.places.protocol import HANGS_S

if TYPE_CHECKING:  # the surfaces build their schemas from this package: it must not load the database
    from comfy_mcp.places.protocol import Silence
    from comfy_mcp.store import JobView


MANY_OUTPUTS = 1_000
"""Those of more are shown beside the event loop: 10,000 take 0.2 s."""


async def state_of(context: OperationContext, job_id: JobId) -> WorkflowResult:
    """The job as the wire shows it. Raises NotFound, also for a job that the caller may not see."""
    try:
        view = await view_of(context, job_id)
    except NotFound:
        return await _state_of_several(context, job_id)
    return await shown(context, view)


async def view_of(context: OperationContext, job_id: JobId) -> "JobView":
    view = await context.services.store.view_job(job_id)
    if view is None or not context.caller.may_see(view.job.client):
        raise not_found(job_id)
    return view


async def _state_of_several(context: OperationContext, given: str) -> WorkflowResult:
    """Of a batch, or of several ids. Raises NotFound."""
    return combined(given, await all_shown(context, await views_of(context, given)))


async def shown(context: OperationContext, view: "JobView") -> WorkflowResult:
    if view.job.is_final:  # it waits for nothing, and no engine has it
        return await beside(len(view.outputs) > MANY_OUTPUTS, result_of, view, None)
    return (await all_shown(context, [view]))[0]


async def all_shown(context: OperationContext, views: Sequence["JobView"]) -> list[WorkflowResult]:
    """With what each waits for, and whether its engine answers."""
    services = context.services
    await make_results(views)
    await services.engines.learn_causes(view.job for view in views)
    states = [
        (view.job, await with_silence(services, view.job, result_now(services, view))) for view in views
    ]
    return await with_turns(context, states)


async def with_silence(services: Services, job: Job, result: WorkflowResult) -> WorkflowResult:
    """A job that an engine has, and of which nothing can be known now, says so instead of guessing."""
    if job.engine is None or not job.is_claimed:
        return result
    silence = await services.engines.silence(job.engine)
    if silence is None:
        return result
    cause = f" ({silence.cause.rstrip('.')})" if silence.cause else ""
    item = SilenceItem(
        message=f"The engine has not answered for {silence.seconds:.0f} s{cause}; "
        "the job may still run there.",
        since=services.now_ms() - round(silence.seconds * 1000),
        cause=silence.cause,
    )
    step = f"{_after(silence)} {result.next_step}"
    unknown = {"eta_ms": None, "eta_range_ms": None}
    return result.model_copy(update={"silence": item, "next_step": step} | unknown)


def _after(silence: "Silence") -> str:
    """Nobody restarts an engine because it loads a model."""
    if silence.accepts and silence.seconds < HANGS_S:
        return "It may load a model."
    return "Start or restart ComfyUI: then the bridge finds out what became of the job."


async def require_visible(context: OperationContext, job_id: JobId) -> Job:
    """What a caller may not see does not exist for it. Raises NotFound."""
    job = await context.services.store.get_job(job_id)
    if job is None or not context.caller.may_see(job.client):
        raise not_found(job_id)
    return job


async def make_results(views: Sequence["JobView"]) -> None:
    """What takes longest of `result_now`, beside the event loop where they have many outputs."""
    made = [view for view in views if view.outputs and view.position is None]
    many = sum(len(view.outputs) for view in made) > MANY_OUTPUTS
    await beside(many, lambda: [result_of(view, None) for view in made])


def result_now(services: Services, view: "JobView") -> WorkflowResult:
    place = view.position
    if place is not None:  # with the foreign prompts that this process knows of: no engine is asked for it
        place += services.engines.foreign_ahead(view.job.engine, lane=view.job.lane)
    return _aged(services, view.job, with_cause(services, view.job, result_of(view, place)))


def _aged(services: Services, job: Job, result: WorkflowResult) -> WorkflowResult:
    """The time left as of now, with its range; the view is as old as the last step."""
    if job.status is not JobStatus.RUNNING or job.eta_ms is None:
        return result
    left = time_left(job, services.now_ms())
    shown = None if left is None else list(in_range(left))
    return result.model_copy(update={"eta_ms": left, "eta_range_ms": shown})


def with_cause(services: Services, job: Job, result: WorkflowResult) -> WorkflowResult:
    """A job that waits for an engine that can't run it says so, as far as this process knows."""
    if job.status is not JobStatus.QUEUED or result.waiting_for is not None:
        return result
    why = services.engines.keeps_waiting(job)
    if why is None:
        return result
    return result.model_copy(update={"waiting_for": WaitingForItem(reason="engine", message=why)})
