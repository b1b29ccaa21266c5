"""How much memory workflows of each shape needed. Synchronous; runs in a transaction of the caller."""

import json

from comfy_mcp.domain.events import JobCompleted, JobEvent
from comfy_mcp.domain.job import Job
from comfy_mcp.domain.vram import KEPT_PEAKS, need_of
from comfy_mcp.store.connection import Connection, Statement
from comfy_mcp.store.core import (
    IS_QUEUED,
    Integer,
    bindparam,
    delete,
    func,
    insert,
    select,
    vram_shapes,
)
from comfy_mcp.store.core import jobs as table

_j, _s = table.c, vram_shapes.c

WITH_NEED = table.outerjoin(vram_shapes, _s.shape == _j.shape)
NEED = _s.need_bytes.label("need_bytes")
_FIND = Statement(select(vram_shapes).where(_s.shape == bindparam("b_shape")))
_PUT = Statement(insert(vram_shapes), "(shape) DO UPDATE SET {new}")
_OLDEST = select(_s.shape).order_by(_s.seen_at.desc(), _s.shape).offset(bindparam("b_kept", type_=Integer))
_FORGET = Statement(delete(vram_shapes).where(_s.shape.in_(_OLDEST)))
_KNOWN = Statement(select(func.count()).select_from(vram_shapes))
_GREATEST_NEED = Statement(
    select(func.max(_s.need_bytes).label("need"), func.count().label("jobs"))
    .select_from(WITH_NEED)
    .where(IS_QUEUED, _j.prompt_id.is_(None), _s.need_bytes > bindparam("b_most"))
)


def learn(connection: Connection, job: Job, happened: JobEvent) -> None:
    """One more peak of its shape, if `happened` has one."""
    lesson = lesson_of(job, happened)
    if lesson is None:
        return
    shape, held_bytes = lesson
    row = connection.execute(_FIND, {"b_shape": shape}).first()
    peaks = [] if row is None else list(json.loads(row.peaks))
    peaks = [*peaks, held_bytes][-KEPT_PEAKS:]
    values = {"peaks": json.dumps(peaks), "need_bytes": need_of(peaks), "seen_at": happened.at}
    connection.send(_PUT, {"shape": shape, **values})


def forget(connection: Connection, kept: int) -> None:
    """All but the `kept` shapes that were seen last."""
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


def known(connection: Connection) -> int:
    """How many shapes."""
    return connection.execute(_KNOWN).scalar() or 0
