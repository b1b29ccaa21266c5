"""Which jobs an engine has memory for, and what the others are shown to wait for.

The rule is `domain/vram.py`'s; here it is put as a filter. Synchronous; runs in a transaction of the caller.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from comfy_mcp.domain.events import JobWaiting
from comfy_mcp.domain.ids import JobId
from comfy_mcp.domain.vram import Admission, WaitingFor
from comfy_mcp.store import journal
from comfy_mcp.store.codec import UNREADABLE, job_of
from comfy_mcp.store.connection import AnyRow, Connection, Statement
from comfy_mcp.store.core import IS_HELD, ONE, bindparam, or_, select, tuple_, vram_shapes
from comfy_mcp.store.core import jobs as table
from comfy_mcp.store.heads import NOT_AT_LIMIT
from comfy_mcp.store.vram import NEED, WITH_NEED
from comfy_mcp.store.waiting import ORDER, WAITS

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


_TOLD = Statement(
    select(table, NEED)
    .select_from(WITH_NEED)
    .where(_j.id.in_(bindparam("ids", expanding=True)), _j.prompt_id.is_(None))
)
# Jobs that an engine passes over for want of memory and that are not marked so yet.
_UNSEEN = (
    select(table, NEED)
    .select_from(WITH_NEED)
    .where(
        WAITS,
        NOT_AT_LIMIT,
        _j.held_since.is_(None),
        _s.need_bytes > bindparam("b_most"),
        _s.need_bytes <= bindparam("b_ceiling"),
    )
    .limit(MARKED_AT_ONCE)
)
_PASSED_OVER = Statement(_UNSEEN)
_PASSED_OVER_BEFORE = Statement(
    _UNSEEN.where(tuple_(*ORDER) < tuple_(bindparam("b_priority"), bindparam("b_tag"), bindparam("b_seq")))
)


def limits(admission: Admission) -> Mapping[str, int]:
    return {
        "b_limit": admission.limit,
        "b_ceiling": admission.rooms.ceiling,
        "b_due": admission.due,
    }


def any_held(connection: Connection) -> bool:
    return connection.execute(_ANY_HELD).first() is not None


def news(
    connection: Connection, admission: Admission, values: Mapping[str, Any], now: int, before: AnyRow | None
) -> list[JobId]:
    """Those to `tell` what they wait for, where that has changed: held ones, and those that are passed over,
    `before` the one that is claimed. It may walk the whole queue, so it is for a thread that only reads."""
    rows = _concerned(connection, admission, values, before)
    return [row.id for row in rows if _has_news(row, admission, now)]


def tell(connection: Connection, admission: Admission, told: Sequence[JobId], now: int) -> None:
    """Those that wait still."""
    for row in connection.execute(_TOLD, {"ids": told}).all() if told else ():
        _tell(connection, row, admission, now)


def _concerned(
    connection: Connection, admission: Admission, values: Mapping[str, Any], before: AnyRow | None
) -> list[AnyRow]:
    bound = {**values, "b_most": admission.most, "b_ceiling": admission.rooms.ceiling}
    passed_over = _PASSED_OVER
    if before is not None:
        passed_over = _PASSED_OVER_BEFORE
        bound |= {"b_priority": before.priority, "b_tag": before.share_tag, "b_seq": before.seq}
    return connection.execute(_HELD).rows + connection.execute(passed_over, bound).rows


def _has_news(row: AnyRow, admission: Admission, now: int) -> bool:
    try:
        before = job_of(row).waiting_for
    except UNREADABLE:
        return True
    return admission.wait(row.need_bytes, now=now, before=before) != before


def _tell(connection: Connection, row: AnyRow, admission: Admission, now: int) -> None:
    before = journal.readable(connection, row)
    if before.is_final:
        return
    found: WaitingFor | None = admission.wait(row.need_bytes, now=now, before=before.waiting_for)
    if found == before.waiting_for:
        return
    event = JobWaiting(job_id=before.id, at=now, waiting_for=found)
    journal.apply(connection, before, (event,))
