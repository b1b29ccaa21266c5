"""Which queued jobs wait for an engine, as conditions of statements, in which order, and how many."""

from comfy_mcp.store.core import IS_QUEUED, and_, bindparam, false, func, jobs, or_, select

_j = jobs.c

WAITS = and_(
    IS_QUEUED,
    _j.lane == bindparam("b_lane"),
    _j.prompt_id.is_(None),
    _j.cancel_requested == false(),
    or_(_j.queue_deadline.is_(None), _j.queue_deadline > bindparam("b_now")),
)
ORDER = (_j.priority, _j.share_tag, _j.seq)
# An engine that has refused a job is not asked again.
_NOT_MINE = func.replace(_j.refused_by, bindparam("b_me"), "") == _j.refused_by
NOT_REFUSED = or_(_j.refused_by.is_(None), _NOT_MINE)
SIZES = (
    select(
        _j.lane,
        _j.priority,
        func.count().label("jobs"),
        func.count(_j.prompt_id).label("claimed"),
    )
    .where(IS_QUEUED)
    .group_by(_j.lane, _j.priority)
)
"""How many are queued, those that are claimed among them."""
