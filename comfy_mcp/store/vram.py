"""Jobs and memory: what shapes needed, which job an engine has room for, and who is told that it waits.

The rule is `domain/vram.py`'s; here it is put as a filter. Synchronous; runs in a transaction of the caller.
"""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    Connection,
    Integer,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)

from comfy_mcp.domain.events import JobCompleted, JobEvent, JobWaiting
from comfy_mcp.domain.job import Job, evolve
from comfy_mcp.domain.vram import KEPT_PEAKS, Admission, WaitingFor, need_of
from comfy_mcp.store import event_log, journal
from comfy_mcp.store.codec import AnyRow, job_of
from comfy_mcp.store.schema import IS_HELD, IS_QUEUED, ONE, vram_shapes
from comfy_mcp.store.schema import jobs as table

TOLD_AT_ONCE = 50
"""Jobs that one look for work tells that they are held; the next look tells more."""

REVIEWED_AT_ONCE = 50
"""Held jobs, the longest held first, that one look for work compares with what is free now."""

_j, _s = table.c, vram_shapes.c

WITH_NEED = table.outerjoin(vram_shapes, _s.shape == _j.shape)
NEED = _s.need_bytes.label("need_bytes")
FITS = or_(
    _s.need_bytes.is_(None),
    _s.need_bytes <= bindparam("b_limit"),
    _s.need_bytes > bindparam("b_ceiling"),
    _j.held_since <= bindparam("b_due"),
)
"""`Admission.admits` as a filter; bound by `limits`."""

_FIND = select(vram_shapes).where(_s.shape == bindparam("b_shape"))
_UPDATE = update(vram_shapes).where(_s.shape == bindparam("b_shape"))
_OLDEST = select(_s.shape).order_by(_s.seen_at.desc(), _s.shape).offset(bindparam("b_kept", type_=Integer))
_FORGET = delete(vram_shapes).where(_s.shape.in_(_OLDEST))
_ANY_HELD = select(_j.id).where(IS_HELD).limit(ONE)
_HELD = (
    select(table, NEED)
    .select_from(WITH_NEED)
    .where(IS_HELD, _j.prompt_id.is_(None))
    .order_by(_j.held_since)
    .limit(REVIEWED_AT_ONCE)
)
_GREATEST_NEED = (
    select(func.max(_s.need_bytes).label("need"), func.count().label("jobs"))
    .select_from(WITH_NEED)
    .where(IS_QUEUED, _j.prompt_id.is_(None), _s.need_bytes > bindparam("b_most"))
)


def limits(admission: Admission) -> Mapping[str, int]:
    return {
        "b_limit": admission.limit,
        "b_ceiling": admission.rooms.ceiling,
        "b_due": admission.due,
    }


# ------------------------------------------------------------------------------------------- what is learnt


def learn(connection: Connection, job: Job, happened: JobEvent, kept: int) -> None:
    """One more peak of its shape, if `happened` tells one. `kept` shapes stay, the last seen."""
    lesson = lesson_of(job, happened)
    if lesson is None:
        return
    shape, held_bytes = lesson
    row = connection.execute(_FIND, {"b_shape": shape}).first()
    peaks = [] if row is None else list(json.loads(row.peaks))
    peaks = [*peaks, held_bytes][-KEPT_PEAKS:]
    values = {"peaks": json.dumps(peaks), "need_bytes": need_of(peaks), "seen_at": happened.at}
    if row is not None:
        connection.execute(_UPDATE, {"b_shape": shape, **values})
        return
    connection.execute(insert(vram_shapes), {"shape": shape, **values})
    connection.execute(_FORGET, {"b_kept": kept})


def lesson_of(job: Job, happened: JobEvent) -> tuple[str, int] | None:
    """The job's shape and the bytes that it held, where a run was completed and measured."""
    if not isinstance(happened, JobCompleted) or job.shape is None:
        return None
    if happened.gpu_use is None or happened.gpu_use.held_bytes is None:
        return None
    return job.shape, happened.gpu_use.held_bytes


def need(connection: Connection, shape: str) -> int | None:
    row = connection.execute(_FIND, {"b_shape": shape}).first()
    return None if row is None else int(row.need_bytes)


def waiting_beyond(connection: Connection, most: int) -> tuple[int, int]:
    """How many jobs that no engine has need more than `most`, and the greatest need among them (else 0)."""
    row = connection.execute(_GREATEST_NEED, {"b_most": most}).one()
    return row.jobs, row.need or 0


# ------------------------------------------------------------------------------------------- who is held


def any_held(connection: Connection) -> bool:
    return connection.execute(_ANY_HELD).first() is not None


def review(
    connection: Connection,
    admission: Admission,
    passed_over: Any,
    values: Mapping[str, Any],
    now: int,
) -> None:
    """Tell jobs what they wait for, where that has changed. `passed_over`: those of them that `admission`
    made the engine pass over, as a condition with its `values`."""
    for row in connection.execute(_HELD).all():
        _tell(connection, row, admission, now)
    fresh = (
        select(table, NEED)
        .select_from(WITH_NEED)
        .where(
            passed_over,
            _j.held_since.is_(None),
            _s.need_bytes > bindparam("b_most"),
            _s.need_bytes <= bindparam("b_ceiling"),
        )
        .limit(TOLD_AT_ONCE)
    )
    bound = {**values, "b_most": admission.most, "b_ceiling": admission.rooms.ceiling}
    for row in connection.execute(fresh, bound).all():
        _tell(connection, row, admission, now)


def _tell(connection: Connection, row: AnyRow, admission: Admission, now: int) -> None:
    before = job_of(row)
    found: WaitingFor | None = admission.wait(row.need_bytes, now=now, before=before.waiting_for)
    if found == before.waiting_for:
        return
    event = JobWaiting(job_id=before.id, at=now, waiting_for=found)
    journal.write(connection, before, evolve(before, event))
    event_log.append(connection, (event,))


def before_it(order: tuple[Any, ...], row: AnyRow) -> Any:
    """A condition: in front of `row` in that order of columns."""
    return tuple_(*order) < tuple_(*(getattr(row, column.name) for column in order))
