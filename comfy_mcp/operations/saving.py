"""Outputs into folders of this machine, for callers on it."""

from collections.abc import Sequence

from comfy_mcp.domain.catalog import Output, OutputQuery, lasting
from comfy_mcp.domain.errors import BridgeError, ErrorCode, InvalidInput
from comfy_mcp.domain.ids import JobId, OutputId
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.shapes import OutputItem, WorkflowResult

PLACES = 50
"""Outputs of one result of which the place is said."""


async def checked_place(context: OperationContext, asked: str | None) -> str | None:
    """The absolute path of `save_to`. Raises InvalidInput (path_not_allowed)."""
    if asked is None:
        return None
    if not context.caller.may_read_files:
        raise InvalidInput(
            "This surface can't write files on this machine (save_to).",
            next_step="Leave save_to out, and fetch the outputs by their URLs.",
            code=ErrorCode.PATH_NOT_ALLOWED,
        )
    if "://" in asked:
        raise InvalidInput(
            f"save_to is a folder or a file of this machine, not {asked!r:.200}.",
            next_step='Give a path, such as save_to="art/fox.png".',
        )
    return await context.services.saver.check(asked)


async def with_saved(context: OperationContext, result: WorkflowResult, asked: str | None) -> WorkflowResult:
    """A completed workflow with its outputs written to `asked`, or to where its submit asked for.

    What can't be written is a warning: the state is true all the same. The engine's own files are named too.
    """
    result = await with_places(context, result)
    if result.status != "completed" or not context.caller.may_read_files:
        return result
    store, job_id = context.services.store, JobId(result.workflow_id)
    if asked is None:
        first = next(iter(result.workflows or {}), job_id)  # of a batch: what was asked for one was for all
        kept = await store.submitted(JobId(first))
        asked = None if kept is None else kept.save_to
    if asked is None:
        return result
    try:
        paths = await saved(context, await _outputs_of(context, job_id), asked)
    except BridgeError as error:
        warning = f"The outputs were not saved: {error}"
        return result.model_copy(update={"warnings": [*result.warnings, warning]})
    return result.model_copy(update={"saved": paths})


async def with_places(context: OperationContext, result: WorkflowResult) -> WorkflowResult:
    """With where each output can be had: the file on this machine, or a link that needs no key."""
    items = await places(context, result.outputs)
    return result if items is result.outputs else result.model_copy(update={"outputs": items})


async def places(context: OperationContext, items: list[OutputItem]) -> list[OutputItem]:
    services = context.services
    if not items:
        return items
    if not context.caller.may_read_files:
        if not services.links.given:
            return items
        some = [(item, services.links.of(item.url, OutputId(item.output_id))) for item in items[:PLACES]]
        return [item.model_copy(update={"link": link}) for item, link in some] + items[PLACES:]
    paths = await services.outputs.local_paths(
        [(each.folder, each.subfolder, each.filename) for each in items[:PLACES]]
    )
    if not any(paths):
        return items
    named = [each.model_copy(update={"path": path}) for each, path in zip(items, paths, strict=False)]
    return named + items[PLACES:]


async def saved(context: OperationContext, outputs: Sequence[Output], where: str) -> list[str]:
    """Raises what `Saver.save` raises."""
    return [str(path) for path in await context.services.saver.save(outputs, where)]


async def _outputs_of(context: OperationContext, job_id: JobId) -> list[Output]:
    """All of them in the order in which they were made, without previews where there is more than those."""
    found: list[Output] = []
    cursor: str | None = None
    while True:
        page = await context.services.store.list_outputs(OutputQuery(job_id=job_id, limit=200, cursor=cursor))
        found += page.items
        if (cursor := page.next_cursor) is None:
            break
    found.reverse()
    return list(lasting(found))
