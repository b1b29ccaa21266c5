"""Models and outputs: list, view and read them."""

from collections.abc import Collection

from comfy_mcp.domain.catalog import Output, OutputKind, OutputQuery
from comfy_mcp.domain.errors import ErrorCode, NotFound
from comfy_mcp.domain.ids import JobId, OutputId
from comfy_mcp.domain.node_lists import as_it_was
from comfy_mcp.operations.batches import views_of
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.shapes import (
    ListModelsParams,
    ListOutputsParams,
    ModelItem,
    ModelsResult,
    OutputContentResult,
    OutputParams,
    OutputsResult,
)
from comfy_mcp.operations.views import output_item, output_items

READ_BYTES = 16 * 2**20
"""Largest output that is given whole, in a resource: its text is written on the event loop, in 0.15 s.
REST streams larger ones."""


async def list_models(context: OperationContext, params: ListModelsParams) -> ModelsResult:
    models = context.services.models
    page = await models.list(type=params.type, search=params.search, limit=params.limit, cursor=params.cursor)
    types = list(await models.types())
    old = [] if models.age_s is None else [f"No engine answers: {as_it_was(models.age_s)}"]
    return ModelsResult(
        warnings=[*old, *_read_as(params.type, {item.type for item in page.items})],
        models=[
            ModelItem(name=item.name, type=item.type, size=item.size, hash=item.sha256) for item in page.items
        ],
        types=types,
        next_cursor=page.next_cursor,
        total=page.total,
    )


def _read_as(asked: str | None, found: Collection[str]) -> list[str]:
    """`asked` in the singular, in another case, or the name of the folder."""
    return [f"type {asked!r} was read as {kind!r}." for kind in found if asked not in (None, kind)]


async def list_outputs(context: OperationContext, params: ListOutputsParams) -> OutputsResult:
    """A workflow that does not exist, or has not ended, may have none; a warning says so."""
    page = await context.services.store.list_outputs(
        OutputQuery(
            job_id=JobId(params.workflow_id) if params.workflow_id else None,
            client=None if context.caller.sees_all else context.caller.client,
            kinds=(OutputKind(params.type),) if params.type else (),
            created_after=params.since,
            limit=params.limit,
            cursor=params.cursor,
        )
    )
    warnings = []
    if params.workflow_id and not page.items:
        try:
            views = await views_of(context, params.workflow_id)
        except NotFound as error:  # none, as the v1 contract wants it
            warnings.append(f"{error.message}.")
        else:
            if not all(view.job.is_final for view in views):
                warnings.append(f"Workflow {params.workflow_id} has not ended yet.")
    return OutputsResult(outputs=output_items(page.items), next_cursor=page.next_cursor, warnings=warnings)


async def read_output(context: OperationContext, params: OutputParams) -> OutputContentResult:
    """The bytes, at most READ_BYTES. Raises NotFound, LimitExceeded (`too_large`)."""
    services = context.services
    output = await find_output(context, params.output_id)
    content = await services.outputs.read(output, limit=READ_BYTES)
    return OutputContentResult(output=output_item(output), media_type=content.media_type, data=content.data)


async def find_output(context: OperationContext, output_id: str) -> Output:
    """Raises NotFound, also for an output of a job that the caller may not see."""
    output = await context.services.store.get_output(OutputId(output_id))
    if output is None or not await _may_see(context, output):
        raise NotFound(
            f"Output {output_id} not found.",
            next_step="Call list_outputs for existing ids.",
            code=ErrorCode.NOT_FOUND,
        )
    return output


async def _may_see(context: OperationContext, output: Output) -> bool:
    if context.caller.sees_all:
        return True
    job = await context.services.store.get_job(output.job_id)
    return job is not None and context.caller.may_see(job.client)
