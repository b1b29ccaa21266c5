"""What is shown of workflows: one, its graph, lists of them, and the queue."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from comfy_mcp.domain.events import FailureKind
from comfy_mcp.domain.ids import ClientId, EngineId, JobId
from comfy_mcp.domain.job import TERMINAL, Job, JobQuery, JobStatus
from comfy_mcp.operations.batches import first_of, not_found
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.saving import with_places
from comfy_mcp.operations.services import Services
from comfy_mcp.operations.shapes import (
    ForeignItem,
    GraphResult,
    ListWorkflowsParams,
    NoParams,
    QueueResult,
    StatusFilterName,
    StatusParams,
    WorkflowParams,
    WorkflowResult,
    WorkflowsResult,
)
from comfy_mcp.operations.states import make_results, result_now, state_of, with_cause, with_silence
from comfy_mcp.operations.views import attempt_item, workflow_result
from comfy_mcp.operations.waiting import Turns, quota_of, turns_now, with_turn, with_turns

if TYPE_CHECKING:  # the surfaces build their schemas from this package: it must not load the database
    from comfy_mcp.driving.engines import EnginePrompt


QUEUE_SHOWN = 50
"""Jobs of each list in the queue view; the counts cover all."""


FOREIGN_SHOWN = 50
"""Foreign prompts in the queue view, of all engines together."""


async def workflow_status(context: OperationContext, params: StatusParams) -> WorkflowResult:
    job_id = JobId(params.workflow_id)
    state = await with_places(context, await state_of(context, job_id))
    if not params.attempts:
        return state
    tried = await context.services.store.attempts_of(job_id)
    return state.model_copy(update={"attempts": [attempt_item(each) for each in tried]})


async def workflow_graph(context: OperationContext, params: WorkflowParams) -> GraphResult:
    """What was submitted, and what became of it in API format; of a batch, its first. Raises NotFound."""
    job_id = (await first_of(context, params.workflow_id)).id
    kept = await context.services.store.get_graph(job_id)
    if kept is None:
        raise not_found(job_id)  # forgotten between the two reads
    file = None if kept.submitted is None else kept.submitted.file
    return GraphResult(workflow_id=job_id, graph=kept.graph, file=None if file is None else dict(file))


async def list_workflows(context: OperationContext, params: ListWorkflowsParams) -> WorkflowsResult:
    services = context.services
    page = await services.store.list_views(
        JobQuery(
            statuses=_statuses(params.status),
            client=context.caller.client if params.mine else _whose(context, params.client),
            failure_kind=FailureKind(params.failure_kind) if params.failure_kind else None,
            retried=params.retried,
            created_after=params.since,
            tag=None if params.tag is None else _tag(params.tag),
            limit=params.limit,
            cursor=params.cursor,
        )
    )
    await make_results(page.items)
    await services.engines.learn_causes(view.job for view in page.items)
    shown = await with_turns(context, [(view.job, result_now(services, view)) for view in page.items])
    return WorkflowsResult(workflows=shown, next_cursor=page.next_cursor)


def _tag(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


async def queue(context: OperationContext, params: NoParams) -> QueueResult:
    """The caller's jobs in their places; the counts and places are those of everybody's.

    Prompts that people gave to ComfyUI itself are counted for all and listed for who may see all.
    """
    services, caller = context.services, context.caller
    view = await services.store.queue(QUEUE_SHOWN)
    await services.engines.learn_causes(view.queued)
    engines = await services.engines.queues()
    foreign = [
        ForeignItem(engine=engine, prompt_id=each.prompt_id, state="running" if each.running else "pending")
        for engine, prompts in engines.items()
        for each in prompts
        if not each.ours
    ]
    turns = await turns_now(context, view.queued)
    return QueueResult(
        running=[
            await with_silence(services, job, workflow_result(job, ()))
            for job in view.running
            if caller.may_see(job.client)
        ],
        queued=[
            _in_turn(services, turns, job, place, foreign_before(job, engines))
            for place, job in enumerate(view.queued, start=1)
            if caller.may_see(job.client)
        ],
        blocked=[workflow_result(job, ()) for job in view.blocked if caller.may_see(job.client)],
        counts={status.value: count for status, count in view.counts.items()},
        foreign=foreign[:FOREIGN_SHOWN] if caller.sees_all else [],
        foreign_count=len(foreign),
        quota=await quota_of(context),
    )


def _in_turn(services: Services, turns: Turns, job: Job, place: int, foreign: int) -> WorkflowResult:
    result = with_cause(services, job, workflow_result(job, (), place + foreign))
    return with_turn(turns, job, result, foreign)


def foreign_before(job: Job, engines: "Mapping[EngineId, Sequence[EnginePrompt]]") -> int:
    """Foreign prompts that run before a queued job: those in front of it where an engine has it already, else
    all of the engine that has the fewest."""
    if job.engine is None:
        return min((sum(not each.ours for each in prompts) for prompts in engines.values()), default=0)
    ids = [each.prompt_id for each in engines.get(job.engine, ())]
    if job.prompt_id not in ids:
        return 0  # not there yet, or no more
    return sum(not each.ours for each in engines[job.engine][: ids.index(job.prompt_id)])


def _statuses(asked: StatusFilterName | None) -> Collection[JobStatus]:
    """None at all means every status."""
    if asked is None:
        return ()
    if asked == "queued":
        return (JobStatus.QUEUED, JobStatus.BLOCKED)
    return TERMINAL if asked == "ended" else (JobStatus(asked),)


def _whose(context: OperationContext, asked: str | None) -> ClientId | None:
    """Whose jobs a list shows: those of the client asked for, and only one's own without the right to all."""
    caller = context.caller
    if not caller.sees_all:
        return caller.client
    return ClientId(asked) if asked else None
