"""Ids that callers shorten, as people do with those of commits: the whole one, where there is one only."""

import re
from collections.abc import Sequence
from functools import cache
from typing import TypeVar

from comfy_mcp.domain.batches import MAX_BATCH
from comfy_mcp.domain.catalog import OutputQuery
from comfy_mcp.domain.errors import InvalidInput
from comfy_mcp.domain.job import JobQuery
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.repairs import UUID, plain_id
from comfy_mcp.operations.shapes import Params

P = TypeVar("P", bound=Params)

WELL_KNOWN = 8
"""Characters of an id in our own lists (operations/brief.py): no warning names how it was read."""

_SHORT = re.compile(r"[0-9a-f][0-9a-f-]{3,34}", re.IGNORECASE)


async def whole_ids(context: OperationContext, params: P) -> tuple[P, tuple[str, ...]]:
    """`params` with whole ids, and warnings. Ids of other clients do not count. Raises InvalidInput."""
    for name in _names_of(type(params)):
        given = getattr(params, name)
        if given is None or (name == "output_id" and "," in given):  # view_output reads several by itself
            continue
        if UUID.fullmatch(given):
            continue
        parts = [plain_id(each.strip(" []")) for each in given.split(",")] if "," in given else [given]
        read = [(each, await whole_id(context, name, each)) for each in parts if each]
        whole = ",".join(dict.fromkeys(found for _, found in read))
        if whole == given:
            continue
        said = [(part, found) for part, found in read if part.lower() != found and len(part) < WELL_KNOWN]
        warnings = tuple(
            f"{name} {part!r} was read as {found!r}, the only one that starts with it."
            for part, found in said
        )
        return params.model_copy(update={name: whole}), warnings
    return params, ()


@cache
def _names_of(params: type[Params]) -> Sequence[str]:
    return [name for name in ("workflow_id", "output_id") if name in params.model_fields]


async def whole_id(context: OperationContext, name: str, given: str) -> str:
    """The whole id of what `name` says, of a part of it: a workflow's or a batch's, or an output's.

    Raises InvalidInput where several start so.
    """
    if not _SHORT.fullmatch(given):
        return given
    found = await _starting(context, name, given.lower())
    if len(found) > 1:
        raise InvalidInput(
            f"{name}: several ids start with {given!r}.", next_step="Give more of the id, or all of it."
        )
    return found.pop() if found else given


async def _starting(context: OperationContext, name: str, start: str) -> set[str]:
    store, caller = context.services.store, context.caller
    client = None if caller.sees_all else caller.client
    if name == "workflow_id":
        jobs = await store.list_jobs(JobQuery(id_start=start, client=client, limit=2))
        batch = await store.list_jobs(JobQuery(batch_start=start, client=client, limit=MAX_BATCH + 1))
        return {job.id for job in jobs.items} | {job.batch for job in batch.items if job.batch is not None}
    outputs = await store.list_outputs(OutputQuery(id_start=start, client=client, limit=2))
    return {output.id for output in outputs.items}
