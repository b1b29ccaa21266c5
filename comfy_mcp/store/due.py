"""Which deliveries are tried next, however many one client has. Synchronous; runs in a transaction.

In the order of time those that may not be sent now, because their client or their host has enough tries under
way, would be passed over one by one. Here the clients that have some are found by an index, and of each its
hosts: one step for each, as in `heads`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from comfy_mcp.domain.webhooks import Delivery, host_of
from comfy_mcp.shares import may_hold_more
from comfy_mcp.store.codec import storable
from comfy_mcp.store.connection import AnyRow, Connection, Statement
from comfy_mcp.store.core import (
    IS_FIRST,
    ONE,
    Integer,
    bindparam,
    deliveries,
    func,
    literal_column,
    select,
)

HOSTS = 128
"""Hosts of one client among which one look chooses, by name; the one of its oldest delivery is always among
them. More than are tried at once."""

_d, _more = deliveries.c, deliveries.alias("more")
_IS_DUE = _d.due_at <= bindparam("b_now")


def _by(index: str, core: Any, table: Any = deliveries) -> Any:
    """SQLite would take any of the indexes."""
    return core.with_hint(table, f"INDEXED BY ix_deliveries_{index}", "sqlite")


_FIRST = _by("due", select(func.min(_d.client).label("client"))).where(IS_FIRST)
_LEAST = _FIRST.cte("clients", recursive=True)
_NEXT = _by("due", select(func.min(_more.c.client)), _more).where(IS_FIRST, _more.c.client > _LEAST.c.client)
_CLIENTS = _LEAST.union_all(select(_NEXT.scalar_subquery()).where(_LEAST.c.client.is_not(None)))
_OLDEST_HOST = (
    _by("due", select(_d.host))
    .where(IS_FIRST, _d.client == _CLIENTS.c.client, _IS_DUE)
    .order_by(_d.due_at)
    .limit(ONE)
    .correlate(_CLIENTS)
    .scalar_subquery()
)
_OLDEST = select(_CLIENTS.c.client, _OLDEST_HOST.label("host")).cte("oldest")
_FIRST_HOST = _by("host", select(func.min(_d.host))).where(IS_FIRST, _d.client == _OLDEST.c.client)
_WALK = (
    select(_OLDEST.c.client, _FIRST_HOST.scalar_subquery().label("host"), literal_column("1").label("step"))
    .where(_OLDEST.c.host.is_not(None))
    .cte("hosts", recursive=True)
)
_NEXT_HOST = _by("host", select(func.min(_more.c.host)), _more).where(
    IS_FIRST, _more.c.client == _WALK.c.client, _more.c.host > _WALK.c.host
)
_HOSTS = _WALK.union_all(
    select(_WALK.c.client, _NEXT_HOST.scalar_subquery(), _WALK.c.step + literal_column("1")).where(
        _WALK.c.host.is_not(None), _WALK.c.step < literal_column(str(HOSTS))
    )
)
_BOTH = (
    select(_OLDEST.c.client, _OLDEST.c.host)
    .union(select(_HOSTS.c.client, _HOSTS.c.host))
    .subquery("receivers")
)
_DUE_AT = _by("host", select(func.min(_d.due_at))).where(
    IS_FIRST, _d.client == _BOTH.c.client, _d.host == _BOTH.c.host, _IS_DUE
)
_RECEIVERS = Statement(
    select(_BOTH.c.client, _BOTH.c.host, _DUE_AT.scalar_subquery().label("due_at")).where(
        _BOTH.c.host.is_not(None)
    )
)
_OF = Statement(
    _by("host", select(deliveries))
    .where(IS_FIRST, _d.client == bindparam("b_client"), _d.host == bindparam("b_host"), _IS_DUE)
    .order_by(_d.due_at, _d.seq)
    .limit(bindparam("count", type_=Integer))
)


class Room:
    """What may be tried beside `busy`: `free` more in all, `per_host` of one host together. Of both, a client
    gets its share."""

    def __init__(self, free: int, per_host: int, busy: Iterable[Delivery]) -> None:
        self.free = free
        self.per_host = per_host
        self._hosts: Counter[str] = Counter()
        self._clients: Counter[str] = Counter()
        self._both: Counter[tuple[str, str]] = Counter()
        for each in busy:
            self._count(host_of(each.url), storable(each.client) or "")

    def allows(self, host: str, client: str) -> bool:
        at_host = self.per_host - self._hosts[host]
        return (
            at_host > 0
            and may_hold_more(self._clients[client], self.free)
            and may_hold_more(self._both[host, client], at_host)
        )

    def take(self, host: str, client: str) -> None:
        self.free -= 1
        self._count(host, client)

    def _count(self, host: str, client: str) -> None:
        self._hosts[host] += 1
        self._clients[client] += 1
        self._both[host, client] += 1


def receivers(connection: Connection, now: int, room: Room) -> list[AnyRow]:
    """Clients with a host of theirs, of whom something is due and may be tried; the longest due first."""
    found = [
        row
        for row in connection.execute(_RECEIVERS, {"b_now": now})
        if row.due_at is not None and room.allows(row.host, row.client)
    ]
    return sorted(found, key=lambda row: (row.due_at, row.client, row.host))


def taken(connection: Connection, now: int, room: Room) -> Iterator[AnyRow]:
    """The deliveries that are due and find room, which each takes."""
    for receiver in receivers(connection, now, room):
        host, client = receiver.host, receiver.client
        if not room.allows(host, client):
            continue
        count = min(room.free, room.per_host)
        for row in connection.execute(
            _OF, {"b_now": now, "b_client": client, "b_host": host, "count": count}
        ):
            if room.allows(host, client):
                room.take(host, client)
                yield row
