"""What was written is the answer to its submit, whatever goes wrong behind the commit."""

from collections.abc import Awaitable, Sequence

import structlog

from comfy_mcp.domain.errors import Conflict, LimitExceeded, StoreFault
from comfy_mcp.domain.ids import JobId
from comfy_mcp.domain.job import Job
from comfy_mcp.operations.services import Services

log = structlog.get_logger(__name__)

Added = list[tuple[Job, int]]
"""The jobs, each with its place in the queue."""


async def as_written(services: Services, ids: Sequence[JobId], submitting: Awaitable[Added]) -> Added:
    """What `submitting` returns; if it raises, the jobs `ids` as the store has them.

    Raises what it raises where none was written, and names the first id where the store does not say.
    """
    try:
        return await submitting
    except (Conflict, LimitExceeded):
        raise  # they say that nothing was written
    except Exception as error:
        found = await _looked_up(services, ids, error)
        if not found:
            raise
        log.exception("submit_raised_behind_its_commit", job_ids=ids)
        return found


async def _looked_up(services: Services, ids: Sequence[JobId], error: Exception) -> Added:
    try:
        views = [view for each in ids if (view := await services.store.view_job(each)) is not None]
    except StoreFault as fault:
        log.warning("submit_not_looked_up", job_ids=ids, error=str(error))
        raise StoreFault(
            fault.message,
            next_step=f'Call workflow_status(workflow_id="{ids[0]}"): if there is none, submit it again. '
            f"{fault.next_step}",
            code=fault.code,
            details={**fault.details, "workflowId": ids[0]},
        ) from error
    return [(view.job, view.position or 0) for view in views]
