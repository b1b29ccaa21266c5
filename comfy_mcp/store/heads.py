"""The next job of each client, while some client is at its limit. Synchronous; runs in a transaction.

In the order of the queue the jobs of a client at its limit would be passed over one by one: 100,000 of them
at each claim. Here the clients that have jobs waiting are found by an index, one step for each, and of those
below their limits only the next job is looked at.
"""

from typing import Any

from comfy_mcp.domain.placing import WINDOW
from comfy_mcp.store.connection import AnyRow, Connection, Statement, Values
from comfy_mcp.store.core import (
    IS_QUEUED,
    ONE,
    bindparam,
    func,
    graphs,
    jobs,
    literal,
    literal_column,
    select,
)
from comfy_mcp.store.vram import NEED, WITH_NEED

_j, _more = jobs.c, jobs.alias("more")


def _by_client(core: Any, table: Any = jobs) -> Any:
    """SQLite would take another index, because of the status, and walk the queue."""
    return core.with_hint(table, "INDEXED BY ix_jobs_client_queue", "sqlite")


_FIRST = _by_client(select(func.min(_j.client).label("client"))).where(IS_QUEUED)
_LEAST = _FIRST.cte("clients", recursive=True)
_NEXT = _by_client(select(func.min(_more.c.client)), _more).where(IS_QUEUED, _more.c.client > _LEAST.c.client)
_CLIENTS = _LEAST.union_all(select(_NEXT.scalar_subquery()).where(_LEAST.c.client.is_not(None)))
_BELOW = _CLIENTS.c.client.not_in(bindparam("at_limit", expanding=True))
_ORDER = (_j.priority, _j.share_tag, _j.seq)
SEEN = (_j.id, *_ORDER, _j.shape, _j.needs_key, _j.refused_by, graphs.c.needs, NEED)
"""What a claim looks at, of each job among which it chooses."""

_SEEN = Statement(
    select(*SEEN)
    .select_from(WITH_NEED.join(graphs, graphs.c.job_id == _j.id))
    .where(_j.seq.in_(bindparam("seqs", expanding=True)))
    .order_by(*_ORDER)
    .limit(literal_column(str(WINDOW)))
)
NOT_AT_LIMIT: Any = _j.client.not_in(bindparam("at_limit", expanding=True))
"""Of a job, where each is looked at."""


def heads(table: Any, *conditions: Any) -> Statement:
    """The first job that meets `conditions` of each client that is not `at_limit`. `table`: the jobs, with
    what the conditions are about."""
    first = _first(table, _j.priority >= bindparam("b_from"), *conditions)
    return Statement(select(first.label("seq")).select_from(_CLIENTS).where(_BELOW))


def found(connection: Connection, statement: Statement, values: Values) -> list[AnyRow]:
    """What `statement`, made by `heads`, finds: in the order of the queue, as much as a claim looks at."""
    seqs = [seq for seq in connection.execute(statement, values).scalars() if seq is not None]
    return connection.execute(_SEEN, {"seqs": seqs}).rows if seqs else []


def any_head(*conditions: Any) -> Statement:
    """Whether such a client has a job that meets `conditions`."""
    has_one = _first(jobs, *conditions).is_not(None)
    return Statement(select(literal(1)).select_from(_CLIENTS).where(_BELOW, has_one).limit(ONE))


def _first(table: Any, *conditions: Any) -> Any:
    """Of one client. The order leads PostgreSQL to the index too."""
    return (
        _by_client(select(_j.seq).select_from(table))
        .where(_j.client == _CLIENTS.c.client, *conditions)
        .order_by(*_ORDER)
        .limit(ONE)
        .correlate(_CLIENTS)
        .scalar_subquery()
    )
