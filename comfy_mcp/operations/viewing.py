"""Look at outputs: one, or several on one sheet."""

from comfy_mcp.domain.catalog import Output, OutputQuery
from comfy_mcp.domain.errors import ErrorCode, InvalidInput, NotFound
from comfy_mcp.domain.ids import JobId
from comfy_mcp.library.showing import SHEET, show, show_several
from comfy_mcp.operations.batches import views_of
from comfy_mcp.operations.catalog import find_output
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.ids import whole_id
from comfy_mcp.operations.repairs import plain_id
from comfy_mcp.operations.saving import checked_place, places, saved
from comfy_mcp.operations.shapes import PreviewResult, ViewOutputParams, ViewResult, WorkflowParams
from comfy_mcp.operations.views import output_item

MAX_IDS = 64
"""Ids in one call."""


async def view_output(context: OperationContext, params: ViewOutputParams) -> ViewResult:
    """A picture within the clients' limits. Raises NotFound (`not_found`, `output_gone`)."""
    save_to = await checked_place(context, params.save_to)
    outputs = await _wanted(context, params.output_id)
    files, client = context.services.outputs, context.caller.client
    if len(outputs) > 1:
        preview, note = await show_several(files, outputs, client=client, max_px=params.max_px)
    elif outputs[0].file.text is not None:
        preview, note = None, outputs[0].file.text
    elif outputs[0].file.is_written:
        preview, note = None, await files.text(outputs[0])
    else:
        preview, note = await show(files, outputs[0], client=client, max_px=params.max_px)
    items = await places(context, [output_item(each) for each in outputs])
    paths = [] if save_to is None else await saved(context, outputs, save_to)
    return ViewResult(
        output=items[0],
        outputs=items[:SHEET] if len(items) > 1 else [],
        width=None if preview is None else preview.width,
        height=None if preview is None else preview.height,
        preview=None if preview is None else preview.data,
        preview_media_type=None if preview is None else preview.media_type,
        note=note or None,
        saved=paths,
    )


async def workflow_preview(context: OperationContext, params: WorkflowParams) -> PreviewResult:
    """Of a batch: of the first that has one. Raises NotFound where there is none: it does not run here, or
    the engine sends none."""
    engines = context.services.engines
    views = await views_of(context, params.workflow_id)
    frames = ((view.job.id, engines.preview(view.job.id)) for view in views if not view.job.is_final)
    job_id, frame = next(((each, frame) for each, frame in frames if frame is not None), (None, None))
    if job_id is None or frame is None:
        raise NotFound(
            f"There is no preview of workflow {params.workflow_id} now.",
            next_step="ComfyUI sends previews while it samples if it was started with --preview-method auto. "
            "The process that drives the engine has the last one.",
            code=ErrorCode.NOT_FOUND,
        )
    return PreviewResult(workflow_id=job_id, media_type=frame.media_type, data=frame.data)


async def _wanted(context: OperationContext, given: str) -> list[Output]:
    """The outputs of all ids, each once, in their order."""
    ids = [each for each in (plain_id(part.strip(" []")) for part in given.split(",")) if each]
    if not 0 < len(ids) <= MAX_IDS:
        raise InvalidInput(
            f"view_output takes 1 to {MAX_IDS} ids.",
            next_step="Pass ids of outputs, with commas between them.",
        )
    found: dict[str, Output] = {}
    for each in ids:
        found |= {output.id: output for output in await _of_id(context, each)}
    return list(found.values())


async def _of_id(context: OperationContext, given: str) -> list[Output]:
    """One output, those whose file has this name, or those of a workflow. Raises NotFound."""
    try:
        return [await find_output(context, await whole_id(context, "output_id", given))]
    except NotFound:
        whose = None if context.caller.sees_all else context.caller.client
        query = OutputQuery(filename=given.rpartition("/")[2], client=whose, limit=SHEET)
        if "." not in given:
            job_id = await whole_id(context, "workflow_id", given)
            query = OutputQuery(job_id=JobId(job_id), client=whose, limit=200)
        page = await context.services.store.list_outputs(query)
        if not page.items:
            await _require_no_workflow(context, query.job_id)
            raise
        return list(reversed(page.items))


async def _require_no_workflow(context: OperationContext, job_id: JobId | None) -> None:
    """Raises NotFound, with what to do, for a workflow or a batch that has no outputs, perhaps not yet."""
    try:
        views = [] if job_id is None else await views_of(context, job_id)
    except NotFound:
        views = []
    if views:
        ended = all(view.job.is_final for view in views)
        tool = "workflow_status" if ended else "wait_for_workflow"
        raise NotFound(
            f"Workflow {job_id} has no outputs{'' if ended else ' yet'}.",
            next_step=f'Call {tool}(workflow_id="{job_id}").',
            code=ErrorCode.NOT_FOUND,
        )
