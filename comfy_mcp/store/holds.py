"""Which jobs an engine has memory for, and what the others are shown to wait for.

The rule is `domain/vram.py`'s; here it is put as a filter. Synchronous; runs in a transaction of the caller.
"""

from collections.abc import Mapping
from typing import Any

from comfy_mcp.domain.events import JobWaiting
from comfy_mcp.domain.vram import Admission, WaitingFor
from comfy_mcp.store import journal
from comfy_mcp.store.connection import AnyRow, Connection, Statement
from comfy_mcp.store.core import IS_HELD, ONE, bindparam, or_, select, vram_shapes
from comfy_mcp.store.core import jobs as table
from comfy_mcp.store.vram import NEED, WITH_NEED

MARKED_AT_ONCE = 50
"""Most jobs marked as held per claim; later claims mark the rest."""

REVIEWED_AT_ONCE = 50
"""Held jobs, the longest held first, that one claim compares with what is free now."""

_j, _s = table.c, vram_shapes.c

FITS = or_(
    _s.need_bytes.is_(None),
    _s.need_bytes <= bindparam("b_limit"),
    _s.need_bytes > bindparam("b_ceiling"),
    _j.held_since <= bindparam("b_due"),
)
"""`Admission.admits` as a filter; bound by `limits`."""

_ANY_HELD = Statement(select(_j.id).where(IS_HELD).limit(ONE))
_HELD = Statement(
    select(table, NEED)
    .select_from(WITH_NEED)
    .where(IS_HELD, _j.prompt_id.is_(None))
    .order_by(_j.held_since)
    .limit(REVIEWED_AT_ONCE)
)


def unseen(passed_over: Any) -> Statement:
    """Jobs that an engine passes over for want of memory and that are not marked so yet."""
    return Statement(
        select(table, NEED)
        .select_from(WITH_NEED)
        .where(
            passed_over,
            _j.held_since.is_(None),
            _s.need_bytes > bindparam("b_most"),
            _s.need_bytes <= bindparam("b_ceiling"),
        )
        .limit(MARKED_AT_ONCE)
    )


def limits(admission: Admission) -> Mapping[str, int]:
    return {
        "b_limit": admission.limit,
        "b_ceiling": admission.rooms.ceiling,
        "b_due": admission.due,
    }


def any_held(connection: Connection) -> bool:
    return connection.execute(_ANY_HELD).first() is not None


def review(
    connection: Connection,
    admission: Admission,
    passed_over: Statement,
    values: Mapping[str, Any],
    now: int,
) -> None:
    """Tell jobs what they wait for, where that has changed. `passed_over`: a statement of `unseen`, with its
    `values`."""
    for row in connection.execute(_HELD).all():
        _tell(connection, row, admission, now)
    bound = {**values, "b_most": admission.most, "b_ceiling": admission.rooms.ceiling}
    for row in connection.execute(passed_over, bound).all():
        _tell(connection, row, admission, now)


def _tell(connection: Connection, row: AnyRow, admission: Admission, now: int) -> None:
    before = journal.readable(connection, row)
    if before.is_final:
        return
    found: WaitingFor | None = admission.wait(row.need_bytes, now=now, before=before.waiting_for)
    if found == before.waiting_for:
        return
    event = JobWaiting(job_id=before.id, at=now, waiting_for=found)
    journal.apply(connection, before, (event,))
