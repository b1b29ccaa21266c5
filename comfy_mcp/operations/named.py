"""Workflows by name: which there are, and the one that a caller means."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from comfy_mcp.domain.errors import ErrorCode, InvalidInput, NotFound
from comfy_mcp.domain.nearest import nearest
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.starters import starter, starters_of
from comfy_mcp.domain.workflow_entries import WorkflowEntry, WorkflowOrigin
from comfy_mcp.operations.batches import first_of, not_found
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.ids import whole_id

JOB = "job:"
"""Before the id of a job whose workflow is meant."""

_SHOWN = 100

_NOT_ASKED = " No engine answers now: it may be one of its own."
_WHY_NOT = "Call system_status to see why no engine answers. "


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """`raw` is the workflow as it is kept. `entry` is None for that of a job."""

    raw: Any
    title: str
    entry: WorkflowEntry | None = None

    @property
    def is_starter(self) -> bool:
        return self.entry is not None and self.entry.origin is WorkflowOrigin.STARTER


async def entries_of(context: OperationContext, info: ObjectInfo | None) -> tuple[WorkflowEntry, ...]:
    """All that the caller may see, in the order in which a name is looked up."""
    settings, caller = context.services.settings, context.caller
    listed = (*await context.services.workflows.entries(), *starters_of(info))
    if settings.isolate_clients and not caller.sees_all:
        listed = tuple(each for each in listed if each.origin is not WorkflowOrigin.SAVED)
    return tuple(sorted(listed, key=lambda each: _ORDER[each.origin]))


async def named_workflow(
    context: OperationContext,
    name: str,
    info: ObjectInfo | None,
    inputs: Mapping[str, object] | None = None,
) -> Named:
    """The workflow of a job ("job:ID"), or the one with this name. `info`: what starters are made for;
    `inputs`: for a starter, which checkpoint.

    Raises NotFound with the nearest names.
    """
    if name.startswith(JOB):
        return await _of_job(context, name.removeprefix(JOB).strip())
    entries = await entries_of(context, info)
    entry = _meant(name, entries)
    if entry is None:
        raise _unknown(name, entries, asked=info is not None, files=context.caller.may_read_files)
    return Named(raw=await read_entry(context, entry, info, inputs), title=entry.title, entry=entry)


async def read_entry(
    context: OperationContext,
    entry: WorkflowEntry,
    info: ObjectInfo | None,
    inputs: Mapping[str, object] | None = None,
) -> Any:
    """The workflow itself. Raises NotFound where it can't be had."""
    if entry.origin is not WorkflowOrigin.STARTER:
        raw = await context.services.workflows.read(entry)
    else:
        raw = None if info is None else starter(entry.name, info, (inputs or {}).get("checkpoint"))
        if raw is None:
            raise InvalidInput(
                f"The starter {entry.name!r} needs a checkpoint, and the engine lists none.",
                next_step="Put a checkpoint into the engine's folder models/checkpoints; "
                'list_models(type="checkpoints") shows it.',
            )
    if raw is None:
        raise NotFound(
            f"The workflow {entry.name!r} has gone.",
            next_step="Call find_workflow for those that exist.",
            code=ErrorCode.NOT_FOUND,
        )
    return raw


async def _of_job(context: OperationContext, given: str) -> Named:
    """`given` may be the beginning of the id; of a batch it is the first one's."""
    job = await first_of(context, await whole_id(context, "workflow_id", given))
    kept = await context.services.store.get_graph(job.id)
    if kept is None:
        raise not_found(job.id)
    file = None if kept.submitted is None else kept.submitted.file
    return Named(raw=kept.graph if file is None else file, title=job.name or "")


def _meant(name: str, entries: tuple[WorkflowEntry, ...]) -> WorkflowEntry | None:
    """The first that has the name, as it is or in another spelling."""
    spelled = name.strip().removesuffix(".json")
    for same in (
        lambda each: each.whole_name == spelled,
        lambda each: each.name == spelled,
        lambda each: each.name.lower() == spelled.lower(),
        lambda each: each.title.lower() == spelled.lower(),
    ):
        found = next(filter(same, entries), None)
        if found is not None:
            return found
    return None


def _unknown(name: str, entries: tuple[WorkflowEntry, ...], *, asked: bool, files: bool) -> NotFound:
    near = nearest(name[:_SHOWN], {each.name for each in entries})
    hint = f" Nearest: {', '.join(near)}." if near else ""
    return NotFound(
        f"There is no workflow {name!r:.100}.{hint}{'' if asked else _NOT_ASKED}",
        next_step=f"{'' if asked else _WHY_NOT}"
        'Call find_workflow(query="…") for those that exist. A workflow itself is passed as an '
        f"object{', or as the path of its file' if files else ''}.",
        code=ErrorCode.NOT_FOUND,
        details={"nearest": list(near)},
    )


_ORDER = {origin: at for at, origin in enumerate(WorkflowOrigin)}
