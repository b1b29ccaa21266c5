"""Which job a claim takes. Reads only. Synchronous; runs in a transaction of the caller.

A claim holds the writer, so it looks at few jobs, the first one that waits or WINDOW of them, and reads the
graph of the one that it takes. With `admission` it may pass over the whole queue: then a thread that only
reads finds the job first (`look`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from comfy_mcp.domain import fair_share
from comfy_mcp.domain.ids import JobId
from comfy_mcp.domain.needs import Needs
from comfy_mcp.domain.placing import WINDOW, Waiting
from comfy_mcp.store import heads, holds, leases, quotas, turns
from comfy_mcp.store.codec import UNREADABLE, needs_of
from comfy_mcp.store.connection import AnyRow, Connection, Statement, Values
from comfy_mcp.store.core import bindparam, graphs, literal_column, or_, select
from comfy_mcp.store.core import jobs as jobs_table
from comfy_mcp.store.queries import Chooser, ClaimOffer
from comfy_mcp.store.vram import WITH_NEED
from comfy_mcp.store.waiting import NOT_REFUSED, ORDER, WAITS

MAX_WINDOWS = 8
"""How often one claim looks further where an engine can run none of the first jobs; the next goes on."""

_j = jobs_table.c


def _two(limit: int, *conditions: Any) -> tuple[Statement, Statement]:
    """As it is, and for priorities that were passed over: the condition hides the order from PostgreSQL."""
    seen = select(*heads.SEEN).select_from(WITH_NEED.join(graphs, graphs.c.job_id == _j.id))
    core = seen.where(WAITS, NOT_REFUSED, *conditions).order_by(*ORDER).limit(literal_column(str(limit)))
    return Statement(core), Statement(core.where(_j.priority >= bindparam("b_from")))


_FIT = or_(_j.needs_key.is_(None), _j.needs_key.not_in(bindparam("b_unfit", expanding=True)))
_NEXT, _NEXT_PASSED = _two(1)
_NEXT_THAT_FITS, _NEXT_PASSED_THAT_FITS = _two(1, holds.FITS)
_WINDOW, _WINDOW_PASSED = _two(WINDOW, _FIT)
_WINDOW_THAT_FITS, _WINDOW_PASSED_THAT_FITS = _two(WINDOW, _FIT, holds.FITS)
_NEEDS = Statement(
    select(graphs.c.job_id, graphs.c.needs).where(graphs.c.job_id.in_(bindparam("ids", expanding=True)))
)
_LOOKS = {  # by: with admission, at passed priorities only
    (False, False): (_NEXT, _WINDOW),
    (False, True): (_NEXT_PASSED, _WINDOW_PASSED),
    (True, False): (_NEXT_THAT_FITS, _WINDOW_THAT_FITS),
    (True, True): (_NEXT_PASSED_THAT_FITS, _WINDOW_PASSED_THAT_FITS),
}
_HEADS = {  # by: with admission
    False: heads.heads(jobs_table, WAITS, NOT_REFUSED, _FIT),
    True: heads.heads(WITH_NEED, WAITS, NOT_REFUSED, _FIT, holds.FITS),
}


@dataclass(frozen=True, slots=True)
class Found:
    """The job to claim, if there is one, and those to `tell` what they wait for."""

    job_id: JobId | None = None
    told: Sequence[JobId] = ()


def values(connection: Connection, offer: ClaimOffer, claiming: leases.Claiming, now: int) -> dict[str, Any]:
    """Those of every statement that looks for a job."""
    return {
        "b_lane": offer.lane,
        "b_now": now,
        "b_me": json.dumps(offer.lease.engine),
        "at_limit": quotas.at_limit(connection, now) if claiming.limits else [],
        "b_from": 0,
        **({} if offer.admission is None else holds.limits(offer.admission)),
    }


def look(connection: Connection, offer: ClaimOffer, now: int) -> Found:
    """What a claim with `admission` would do. Raises Fenced."""
    claiming = leases.claiming(connection, offer.lease)
    if offer.admission is None or not claiming.takes_jobs:
        return Found()
    where = values(connection, offer, claiming, now)
    row = chosen(connection, offer, where, fair_share.first_rank(turns.passed(connection, offer.lane)))
    told = holds.news(connection, offer.admission, where, now, before=row)
    return Found(None if row is None else row.id, told)


def chosen(connection: Connection, offer: ClaimOffer, where: Values, first_rank: int) -> AnyRow | None:
    """The job to claim. `first_rank`: of the priorities that were passed over long enough."""
    row = None
    if first_rank:
        row = _chosen(connection, offer, {**where, "b_from": first_rank}, passed=True)
    return _chosen(connection, offer, where) if row is None else row


def _chosen(
    connection: Connection, offer: ClaimOffer, where: Values, *, passed: bool = False
) -> AnyRow | None:
    """Mostly the first one that waits, and then nothing is read of the others."""
    chooser, limited = offer.chooser, bool(where["at_limit"])
    first, window = _LOOKS[offer.admission is not None, passed]
    if limited:
        window = _HEADS[offer.admission is not None]
    else:
        row = connection.execute(first, where).first()
        if row is None or chooser is None or _taken(chooser, row):
            return row
    for _ in range(MAX_WINDOWS):
        bound = {**where, "b_unfit": () if chooser is None else chooser.unfit}
        rows = heads.found(connection, window, bound) if limited else connection.execute(window, bound).rows
        more = bool(rows) if limited else len(rows) == WINDOW
        needs = {
            row.needs: needs_in(row, row.need_bytes) for row in {row.needs: row for row in rows}.values()
        }
        fitting = [row for row in rows if chooser is None or chooser.fits(row.needs_key, needs[row.needs])]
        if fitting or not more:
            waiting = [(row.id, _waiting(row, needs[row.needs])) for row in fitting]
            at = chooser.choose(waiting, more=more) if chooser is not None and waiting else 0
            return None if at is None or not waiting else fitting[at]
    return None


def _taken(chooser: Chooser, row: AnyRow) -> bool:
    """Whether the engine takes the first one that waits, whatever waits behind it."""
    needs = needs_in(row, row.need_bytes)
    return chooser.fits(row.needs_key, needs) and chooser.takes_first(row.id, _waiting(row, needs))


def needs_of_jobs(connection: Connection, ids: Sequence[JobId]) -> dict[JobId, Needs]:
    """Without those of which none are kept, or can be read."""
    found = {JobId(row.job_id): needs_in(row) for row in connection.execute(_NEEDS, {"ids": ids})}
    return {job_id: needs for job_id, needs in found.items() if needs is not None}


def needs_in(row: AnyRow, memory: int | None = None) -> Needs | None:
    """None where they are not kept, or can't be read: then any engine may have the job."""
    try:
        return None if row.needs is None else needs_of(row.needs, memory)
    except UNREADABLE:
        return None


def _waiting(row: AnyRow, needs: Needs | None) -> Waiting:
    refused_by = () if row.refused_by is None else tuple(json.loads(row.refused_by))
    return Waiting(
        priority=row.priority, shape=row.shape, needs=needs, key=row.needs_key, refused_by=refused_by
    )
