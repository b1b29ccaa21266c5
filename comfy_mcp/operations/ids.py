"""Ids that callers shorten, as people do with those of commits: the whole one, where there is one only."""

import re
from collections.abc import Sequence
from functools import cache
from typing import TypeVar

from comfy_mcp.domain.catalog import OutputQuery
from comfy_mcp.domain.errors import InvalidInput
from comfy_mcp.domain.job import JobQuery
from comfy_mcp.operations.context import OperationContext
from comfy_mcp.operations.shapes import Params

P = TypeVar("P", bound=Params)

WELL_KNOWN = 8
"""Characters of an id in our own lists (operations/brief.py): no warning names how it was read."""

_SHORT = re.compile(r"[0-9a-f][0-9a-f-]{3,34}", re.IGNORECASE)


async def whole_ids(context: OperationContext, params: P) -> tuple[P, tuple[str, ...]]:
    """`params` with whole ids, and warnings. Ids of other clients do not count. Raises InvalidInput."""
    for name in _names_of(type(params)):
        given = getattr(params, name)
        if given is None or not _SHORT.fullmatch(given):
            continue
        found = await _starting(context, name, given.lower())
        if len(found) > 1:
            raise InvalidInput(
                f"{name}: several ids start with {given!r}.", next_step="Give more of the id, or all of it."
            )
        if found and len(given) >= WELL_KNOWN:
            return params.model_copy(update={name: found[0]}), ()
        if found:
            warning = f"{name} {given!r} was read as {found[0]!r}, the only one that starts with it."
            return params.model_copy(update={name: found[0]}), (warning,)
    return params, ()


@cache
def _names_of(params: type[Params]) -> Sequence[str]:
    return [name for name in ("workflow_id", "output_id") if name in params.model_fields]


async def whole_id(context: OperationContext, name: str, given: str) -> str:
    """The whole id of what `name` says, of a part of it. Raises InvalidInput where several start so."""
    if not _SHORT.fullmatch(given):
        return given
    found = await _starting(context, name, given.lower())
    if len(found) > 1:
        raise InvalidInput(f"several ids start with {given!r}.", next_step="Give more of the id.")
    return found[0] if found else given


async def _starting(context: OperationContext, name: str, start: str) -> list[str]:
    store, caller = context.services.store, context.caller
    client = None if caller.sees_all else caller.client
    if name == "workflow_id":
        jobs = await store.list_jobs(JobQuery(id_start=start, client=client, limit=2))
        return [job.id for job in jobs.items]
    outputs = await store.list_outputs(OutputQuery(id_start=start, client=client, limit=2))
    return [output.id for output in outputs.items]
