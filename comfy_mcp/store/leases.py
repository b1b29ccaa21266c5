"""Who drives which engine. Time is the database's own: no holder's clock decides over another's lease.

A wall clock that jumps forward ends leases early. One that goes back must not make them last for hours: a
lease with more time left than it was ever given counts as expired, until its holder renews it. The fence
keeps every write right all the same.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from comfy_mcp.domain.errors import Fenced
from comfy_mcp.domain.ids import EngineId
from comfy_mcp.store.connection import Connection, Statement
from comfy_mcp.store.core import (
    api_keys,
    bindparam,
    case,
    delete,
    exists,
    insert,
    literal,
    now_ms,
    or_,
    select,
    update,
)
from comfy_mcp.store.core import engine_leases as leases
from comfy_mcp.store.queries import Lease, LeaseState

BRIDGES = "/bridge/"
"""What the names of the leases begin with by which bridges are seen. No engine can have such a name."""

_LEFT = leases.c.expires_at - now_ms()
_STATE = Statement(
    select(
        leases.c.engine,
        leases.c.holder,
        leases.c.fence,
        case((leases.c.ttl_ms < _LEFT, 0), else_=_LEFT).label("left_ms"),
    ).where(leases.c.engine == bindparam("b_engine"))
)
_EXPIRY = now_ms() + bindparam("ttl_ms", type_=leases.c.expires_at.type)
_INSERT = Statement(
    insert(leases).values(
        engine=bindparam("b_engine"),
        holder=bindparam("b_holder"),
        fence=1,
        expires_at=_EXPIRY,
        ttl_ms=bindparam("ttl_ms"),
    )
)
_TAKE = Statement(
    update(leases)
    .where(leases.c.engine == bindparam("b_engine"), leases.c.fence == bindparam("b_fence"))
    .values(
        holder=bindparam("b_holder"),
        fence=leases.c.fence + 1,
        expires_at=_EXPIRY,
        ttl_ms=bindparam("ttl_ms"),
    )
)
OWN = (
    leases.c.engine == bindparam("b_engine"),
    leases.c.holder == bindparam("b_holder"),
    leases.c.fence == bindparam("b_fence"),
)
_RENEW = Statement(
    update(leases)
    .where(leases.c.holder == bindparam("b_holder"))
    .values(expires_at=_EXPIRY, ttl_ms=bindparam("ttl_ms"))
)
_HELD = Statement(select(leases.c.engine, leases.c.fence).where(leases.c.holder == bindparam("b_holder")))
_LIVE = Statement(select(leases.c.engine, leases.c.holder).where(_LEFT > 0, leases.c.ttl_ms >= _LEFT))
_FORGET_BRIDGES = Statement(
    delete(leases).where(leases.c.engine.like(literal(BRIDGES + "%")), leases.c.expires_at < now_ms())
)
_RELEASE = Statement(update(leases).where(*OWN).values(holder="", expires_at=0))
_VERIFY = Statement(select(leases.c.drained_at).where(*OWN))
_KEEP_MEMORY = Statement(insert(leases), "(engine) DO UPDATE SET gpu_bytes = excluded.gpu_bytes")
_MEMORY = Statement(select(leases.c.engine, leases.c.gpu_bytes).where(leases.c.gpu_bytes.is_not(None)))
_DRAIN = Statement(insert(leases), "(engine) DO UPDATE SET drained_at = excluded.drained_at")
_NOBODY = {"holder": "", "fence": 0, "expires_at": 0, "ttl_ms": 0}
_k = api_keys.c
_LIMITS = exists().where(or_(_k.max_running.is_not(None), _k.max_gpu_seconds.is_not(None)))
_CLAIMING = Statement(select(leases.c.drained_at, _LIMITS.label("limits")).where(*OWN))
_DRAINED = Statement(select(leases.c.engine).where(leases.c.drained_at.is_not(None)))


def acquire(connection: Connection, engine: EngineId, holder: str, ttl_s: float) -> Lease | None:
    """None while another holder's lease is live. A holder that asks again gets a new fence: its older
    Lease is then void, so a holder's name must be one process's alone."""
    row = connection.execute(_STATE, {"b_engine": engine}).first()
    values: dict[str, Any] = {"b_engine": engine, "b_holder": holder, "ttl_ms": _ms(ttl_s)}
    if row is None:
        connection.execute(_INSERT, values)
        return Lease(engine=engine, holder=holder, fence=1)
    if row.left_ms > 0 and row.holder != holder:
        return None
    taken = connection.execute(_TAKE, {**values, "b_fence": row.fence})
    return Lease(engine=engine, holder=holder, fence=row.fence + 1) if taken.rowcount == 1 else None


def renew(
    connection: Connection, holder: str, ttl_s: float, unheard: Collection[EngineId]
) -> dict[EngineId, int]:
    """All leases of a process, however many engines it drives; also those that have expired but that nobody
    took. The fences of the engines that it holds. A lease of an `unheard` one is released."""
    held = {row.engine: row.fence for row in connection.execute(_HELD, {"b_holder": holder})}
    for engine in held.keys() & unheard:
        release(connection, Lease(engine=engine, holder=holder, fence=held.pop(engine)))
    connection.send(_RENEW, {"b_holder": holder, "ttl_ms": _ms(ttl_s)})
    return held


def release(connection: Connection, lease: Lease) -> None:
    """A lease that is lost already needs no release."""
    connection.execute(_RELEASE, own(lease))


def holds(connection: Connection, lease: Lease) -> bool:
    """Whether `lease` is the engine's present one, live or not."""
    return connection.execute(_VERIFY, own(lease)).first() is not None


@dataclass(frozen=True, slots=True)
class Claiming:
    """`takes_jobs`: the engine takes new ones. `limits`: some client's key limits what runs."""

    takes_jobs: bool
    limits: bool


def claiming(connection: Connection, lease: Lease) -> Claiming:
    """Raises Fenced unless the lease is the present one."""
    row = connection.execute(_CLAIMING, own(lease)).first()
    if row is None:
        raise lost(lease)
    return Claiming(takes_jobs=row.drained_at is None, limits=bool(row.limits))


def drain(connection: Connection, engine: EngineId, at: int | None) -> None:
    """From now on the engine takes nothing new; None: it does again. Nobody need have driven it before."""
    connection.execute(_DRAIN, {"engine": engine, "drained_at": at, **_NOBODY})


def keep_gpu_memory(connection: Connection, memory: Mapping[EngineId, int]) -> None:
    """Bytes of the GPUs of engines. Nobody need have driven them before."""
    for engine, size in memory.items():
        connection.execute(_KEEP_MEMORY, {"engine": engine, "gpu_bytes": size, **_NOBODY})


def gpu_memory(connection: Connection) -> dict[EngineId, int]:
    """What was kept."""
    return {row.engine: row.gpu_bytes for row in connection.execute(_MEMORY)}


def drained(connection: Connection) -> set[EngineId]:
    return {row.engine for row in connection.execute(_DRAINED)}


def verify(connection: Connection, lease: Lease) -> None:
    """Raises Fenced unless it is."""
    if not holds(connection, lease):
        raise lost(lease)


def state(connection: Connection, engine: EngineId) -> LeaseState | None:
    row = connection.execute(_STATE, {"b_engine": engine}).first()
    if row is None:
        return None
    return LeaseState(engine=row.engine, holder=row.holder, fence=row.fence, expires_in_s=row.left_ms / 1000)


def live(connection: Connection) -> dict[EngineId, str]:
    """The holders of all leases that have not expired."""
    return {row.engine: row.holder for row in connection.execute(_LIVE)}


def forget_bridges(connection: Connection) -> None:
    """Those that are no more. One that was only stopped for a while asks for its lease again."""
    connection.execute(_FORGET_BRIDGES)


def own(lease: Lease) -> dict[str, Any]:
    return {"b_engine": lease.engine, "b_holder": lease.holder, "b_fence": lease.fence}


def lost(lease: Lease) -> Fenced:
    return Fenced(
        f"This process no longer holds the lease of {lease.engine}.",
        next_step="Nothing to do: another process has taken over its jobs.",
        details={"engine": lease.engine, "fence": lease.fence},
    )


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
