"""Change the priority of workflows that wait."""

from comfy_mcp.domain.access import Right
from comfy_mcp.domain.events import Priority
from comfy_mcp.domain.ids import JobId
from comfy_mcp.operations.batches import views_of
from comfy_mcp.operations.context import OperationContext, require_right
from comfy_mcp.operations.shapes import PriorityParams, PriorityResult
from comfy_mcp.operations.states import state_of


async def prioritize_workflow(context: OperationContext, params: PriorityParams) -> PriorityResult:
    """Of those that no engine has. Raises NotFound, and Denied for "high" without the right."""
    priority, services = Priority(params.priority), context.services
    require_high(context, priority)
    ids = [view.job.id for view in await views_of(context, params.workflow_id)]
    fair = services.settings.fair_share
    changed = await services.store.set_priorities(
        ids, priority, at=services.now_ms(), by=context.caller.said, fair=fair
    )
    state = await state_of(context, JobId(params.workflow_id))
    return PriorityResult(
        workflow_id=params.workflow_id,
        status=state.status,
        priority=state.priority,
        changed=len(changed),
        queue_position=state.queue_position,
        next_step=state.next_step,
    )


def require_high(context: OperationContext, priority: Priority) -> None:
    """Raises Denied: a job that passes all others' needs a right of its own."""
    if priority is Priority.HIGH:
        require_right(context.caller, Right.HIGH, 'The priority "high"')
