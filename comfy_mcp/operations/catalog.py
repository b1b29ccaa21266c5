"""Models and outputs: list, view and read them."""

from comfy_mcp.domain.catalog import Output, OutputKind, OutputQuery
from comfy_mcp.domain.errors import ErrorCode, NotFound
from comfy_mcp.domain.ids import JobId, OutputId
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.saving import checked_place, places, saved
from comfy_mcp.operations.shapes import (
    ListModelsParams,
    ListOutputsParams,
    ModelItem,
    ModelsResult,
    OutputContentResult,
    OutputParams,
    OutputsResult,
    ViewOutputParams,
    ViewResult,
)
from comfy_mcp.operations.views import output_item, output_items


async def list_models(context: OperationContext, params: ListModelsParams) -> ModelsResult:
    models = context.services.models
    page = await models.list(type=params.type, search=params.search, limit=params.limit, cursor=params.cursor)
    return ModelsResult(
        models=[
            ModelItem(name=item.name, type=item.type, size=item.size, hash=item.sha256) for item in page.items
        ],
        types=list(await models.types()),
        next_cursor=page.next_cursor,
        total=page.total,
    )


async def list_outputs(context: OperationContext, params: ListOutputsParams) -> OutputsResult:
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
    return OutputsResult(outputs=output_items(page.items), next_cursor=page.next_cursor)


async def view_output(context: OperationContext, params: ViewOutputParams) -> ViewResult:
    """A preview within the clients' limits. Raises NotFound (`not_found`, `output_gone`)."""
    save_to = await checked_place(context, params.save_to)
    output = await find_output(context, params.output_id)
    view = await _view(context, output, params)
    (item,) = await places(context, [view.output])
    paths = [] if save_to is None else await saved(context, [output], save_to)
    return view.model_copy(update={"output": item, "saved": paths})


async def _view(context: OperationContext, output: Output, params: ViewOutputParams) -> ViewResult:
    services, item = context.services, output_item(output)
    if output.file.text is not None:
        return ViewResult(output=item, note=output.file.text)
    if output.file.is_written:
        return ViewResult(output=item, note=await services.outputs.text(output))
    if output.file.kind is not OutputKind.IMAGE:
        return ViewResult(output=item, note="There is no preview for this type; read the link.")
    preview = await services.outputs.preview(output, max_px=params.max_px)
    return ViewResult(
        output=item,
        width=preview.width,
        height=preview.height,
        preview=preview.data,
        preview_media_type=preview.media_type,
    )


async def read_output(context: OperationContext, params: OutputParams) -> OutputContentResult:
    """The bytes, at most `library.outputs.MEMORY_BYTES`. Raises NotFound, LimitExceeded (`too_large`)."""
    services = context.services
    output = await find_output(context, params.output_id)
    content = await services.outputs.read(output)
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
