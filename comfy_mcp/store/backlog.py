"""How much waits and runs, for gauges: counts over the queue's and the attempts' partial indexes only."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from comfy_mcp.domain.events import Priority
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.store.connection import Connection, Statement
from comfy_mcp.store.core import IS_ACTIVE, IS_HELD, attempts, func, jobs, select
from comfy_mcp.store.waiting import SIZES

_WAITING = Statement(SIZES)
_IN_FLIGHT = Statement(
    select(attempts.c.engine, func.count().label("jobs")).where(IS_ACTIVE).group_by(attempts.c.engine)
)
_HELD = Statement(select(func.count()).select_from(jobs).where(IS_HELD))


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """`queued` counts the status by lane; `waiting` those of them that no engine has; `held` those of these
    that are passed over for want of memory; `in_flight` what an engine has."""

    queued: Mapping[str, int]
    waiting: Mapping[Priority, int]
    in_flight: Mapping[EngineId, int]
    held: int


def backlog(connection: Connection) -> Backlog:
    queued, waiting = Counter[str](), Counter[int]()
    for row in connection.execute(_WAITING):
        queued[row.lane] += row.jobs
        waiting[row.priority] += row.jobs - row.claimed
    return Backlog(
        queued=queued,
        waiting={each: waiting[each.rank] for each in Priority if each.rank in waiting},
        in_flight={EngineId(row.engine): row.jobs for row in connection.execute(_IN_FLIGHT)},
        held=connection.execute(_HELD).scalar() or 0,
    )
