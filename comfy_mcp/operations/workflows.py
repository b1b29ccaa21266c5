"""Follow, wait for, cancel and list workflows."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Literal

from comfy_mcp.domain.access import Right
from comfy_mcp.domain.deadlines import STOP_LIMIT_S
from comfy_mcp.domain.errors import Conflict, NotFound
from comfy_mcp.domain.events import FINAL_EVENTS, FailureKind, StoredEvent
from comfy_mcp.domain.ids import ClientId, EngineId, JobId
from comfy_mcp.domain.job import TERMINAL, CancelAnswer, Job, JobQuery, JobStatus
from comfy_mcp.domain.time_left import in_range, time_left
from comfy_mcp.operations.batches import (
    MOST,
    OPEN,
    cancel_all,
    combined,
    first_of,
    not_found,
    rest_of,
    views_of,
)
from comfy_mcp.operations.context import OperationContext, require_right
from comfy_mcp.operations.saving import checked_place, with_places, with_saved
from comfy_mcp.operations.services import Services
from comfy_mcp.operations.shapes import (
    MINE,
    CancelParams,
    CancelResult,
    ForeignItem,
    GraphResult,
    ListWorkflowsParams,
    NoParams,
    QueueResult,
    SilenceItem,
    StatusFilterName,
    StatusParams,
    WaitingForItem,
    WaitParams,
    WorkflowParams,
    WorkflowResult,
    WorkflowsResult,
    counted,
)
from comfy_mcp.operations.shapes.params import WAIT_DEFAULT_S, WAIT_MAX_S
from comfy_mcp.operations.views import attempt_item, result_of, workflow_result
from comfy_mcp.operations.waiting import Turns, turns_now, with_turn, with_turns
from comfy_mcp.places.protocol import HANGS_S

if TYPE_CHECKING:  # the surfaces build their schemas from this package: it must not load the database
    from comfy_mcp.driving.engines import EnginePrompt
    from comfy_mcp.places.protocol import Silence
    from comfy_mcp.store import JobView

LOOK_S = 5.0
"""A wait in which nothing happens looks at the job's state again after this."""

CANCEL_WAIT_S = 5.0
"""How long a cancel waits for the engine to confirm: ComfyUI stops between two steps."""

QUEUE_SHOWN = 50
"""Jobs of each list in the queue view; the counts cover all."""

MINE_AT_ONCE = 500
"""Workflows of the caller that are read at once to be cancelled."""

UNENDED = frozenset(JobStatus) - TERMINAL

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
            result = await _follow(context, given, min(limit, WAIT_MAX_S), until=params.until)
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
        await _follow(context, job_id, CANCEL_WAIT_S)
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
    state = await _follow(context, JobId(",".join(asked[:MOST])), CANCEL_WAIT_S)
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


async def list_workflows(context: OperationContext, params: ListWorkflowsParams) -> WorkflowsResult:
    services = context.services
    page = await services.store.list_views(
        JobQuery(
            statuses=_statuses(params.status),
            client=context.caller.client if params.mine else _whose(context, params.client),
            failure_kind=FailureKind(params.failure_kind) if params.failure_kind else None,
            retried=params.retried,
            created_after=params.since,
            limit=params.limit,
            cursor=params.cursor,
        )
    )
    shown = await with_turns(context, [(view.job, _result(services, view)) for view in page.items])
    return WorkflowsResult(workflows=shown, next_cursor=page.next_cursor)


async def queue(context: OperationContext, params: NoParams) -> QueueResult:
    """The caller's jobs in their places; the counts and places are those of everybody's.

    Prompts that people gave to ComfyUI itself are counted for all and listed for who may see all.
    """
    services, caller = context.services, context.caller
    view = await services.store.queue(QUEUE_SHOWN)
    engines = await services.engines.queues()
    foreign = [
        ForeignItem(engine=engine, prompt_id=each.prompt_id, state="running" if each.running else "pending")
        for engine, prompts in engines.items()
        for each in prompts
        if not each.ours
    ]
    turns = await turns_now(context)
    return QueueResult(
        running=[workflow_result(job, ()) for job in view.running if caller.may_see(job.client)],
        queued=[
            _in_turn(services, turns, job, place, foreign_before(job, engines))
            for place, job in enumerate(view.queued, start=1)
            if caller.may_see(job.client)
        ],
        blocked=[workflow_result(job, ()) for job in view.blocked if caller.may_see(job.client)],
        counts={status.value: count for status, count in view.counts.items()},
        foreign=foreign[:FOREIGN_SHOWN] if caller.sees_all else [],
        foreign_count=len(foreign),
    )


def _in_turn(services: Services, turns: Turns, job: Job, place: int, foreign: int) -> WorkflowResult:
    result = _with_cause(services, job, workflow_result(job, (), place + foreign))
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


async def state_of(context: OperationContext, job_id: JobId) -> WorkflowResult:
    """The job as the wire shows it. Raises NotFound, also for a job that the caller may not see."""
    try:
        view = await _view_of(context, job_id)
    except NotFound:
        return await _state_of_several(context, job_id)
    return await _shown(context, view)


async def _view_of(context: OperationContext, job_id: JobId) -> "JobView":
    view = await context.services.store.view_job(job_id)
    if view is None or not context.caller.may_see(view.job.client):
        raise not_found(job_id)
    return view


async def _state_of_several(context: OperationContext, given: str) -> WorkflowResult:
    """Of a batch, or of several ids. Raises NotFound."""
    return combined(given, await _all_shown(context, await views_of(context, given)))


async def _shown(context: OperationContext, view: "JobView") -> WorkflowResult:
    if view.job.is_final:  # it waits for nothing, and no engine has it
        return result_of(view, None)
    return (await _all_shown(context, [view]))[0]


async def _all_shown(context: OperationContext, views: Sequence["JobView"]) -> list[WorkflowResult]:
    """With what each waits for, and whether its engine answers."""
    services = context.services
    states = [(view.job, await _with_silence(services, view.job, _result(services, view))) for view in views]
    return await with_turns(context, states)


async def _with_silence(services: Services, job: Job, result: WorkflowResult) -> WorkflowResult:
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


async def _follow(
    context: OperationContext, job_id: JobId, limit_s: float, *, until: Literal["all", "any"] = "all"
) -> WorkflowResult:
    """Snapshot first, then the events, until the job is final or the time is up."""
    # Subscribed before the snapshot is read: what happens in between is in the stream.
    with context.services.feed.follow(context.caller, job_id=job_id) as reader:
        try:
            view = await _view_of(context, job_id)
        except NotFound:
            return await _follow_several(context, job_id, limit_s, until)
        await _report(context, view)
        try:
            async with asyncio.timeout(limit_s):
                while not view.job.is_final:
                    try:
                        async with asyncio.timeout(LOOK_S):
                            happened, lost = await reader.newest()
                    except TimeoutError:  # nothing happens: perhaps because the engine does not answer
                        happened, lost = [], True
                    if context.on_progress is None and not lost and not _ends(happened):
                        continue
                    view = await _view_of(context, job_id)
                    await _report(context, view)
        except TimeoutError:
            view = await _view_of(context, job_id)
    return await _shown(context, view)


async def _follow_several(
    context: OperationContext, job_id: JobId, limit_s: float, until: Literal["all", "any"]
) -> WorkflowResult:
    """The same for several, by the events of all that the caller may see. A single id that is none of a job
    is a batch's."""
    with context.services.feed.follow(context.caller) as reader:
        result = await state_of(context, job_id)
        await _report_state(context, result)
        try:
            async with asyncio.timeout(limit_s):
                while not _is_over(result, until):
                    happened, lost = await reader.newest()
                    happened = [each for each in happened if each.event.job_id in result.workflows]
                    if not lost and not (_ends(happened) or (happened and context.on_progress)):
                        continue
                    result = await state_of(context, job_id)
                    await _report_state(context, result)
        except TimeoutError:
            result = await state_of(context, job_id)
    return result


def _is_over(batch: WorkflowResult, until: Literal["all", "any"]) -> bool:
    some = any(status not in OPEN for status in batch.workflows.values())
    return batch.status not in OPEN or (until == "any" and some)


def _ends(happened: Sequence[StoredEvent]) -> bool:
    return any(isinstance(stored.event, FINAL_EVENTS) for stored in happened)


async def _report(context: OperationContext, view: "JobView") -> None:
    if context.on_progress is not None:
        await context.on_progress(await _shown(context, view))


async def _report_state(context: OperationContext, batch: WorkflowResult) -> None:
    if context.on_progress is not None:
        await context.on_progress(batch)


async def require_visible(context: OperationContext, job_id: JobId) -> Job:
    """What a caller may not see does not exist for it. Raises NotFound."""
    job = await context.services.store.get_job(job_id)
    if job is None or not context.caller.may_see(job.client):
        raise not_found(job_id)
    return job


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


def _result(services: Services, view: "JobView") -> WorkflowResult:
    place = view.position
    if place is not None:  # with the foreign prompts that this process knows of: no engine is asked for it
        place += services.engines.foreign_ahead(view.job.engine, lane=view.job.lane)
    return _aged(services, view.job, _with_cause(services, view.job, result_of(view, place)))


def _aged(services: Services, job: Job, result: WorkflowResult) -> WorkflowResult:
    """The time left as of now, with its range; the view is as old as the last step."""
    if job.status is not JobStatus.RUNNING or job.eta_ms is None:
        return result
    left = time_left(job, services.now_ms())
    shown = None if left is None else list(in_range(left))
    return result.model_copy(update={"eta_ms": left, "eta_range_ms": shown})


def _with_cause(services: Services, job: Job, result: WorkflowResult) -> WorkflowResult:
    """A job that waits for an engine that can't run it says so, as far as this process knows."""
    if job.status is not JobStatus.QUEUED or result.waiting_for is not None:
        return result
    why = services.engines.keeps_waiting(job)
    if why is None:
        return result
    return result.model_copy(update={"waiting_for": WaitingForItem(reason="engine", message=why)})
