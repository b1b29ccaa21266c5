"""API keys and idempotency keys. Synchronous; runs in a transaction of the caller."""

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from comfy_mcp.domain.access import ApiKey, Idempotency, Right
from comfy_mcp.domain.errors import Conflict, ErrorCode
from comfy_mcp.domain.ids import JobId
from comfy_mcp.store.codec import storable
from comfy_mcp.store.schema import api_keys, idempotency_keys

_k, _i = api_keys.c, idempotency_keys.c
_KEYS = select(api_keys).order_by(_k.name)
_REVOKE = update(api_keys).where(_k.name == bindparam("b_name"), _k.revoked_at.is_(None))
_USED = select(idempotency_keys).where(_i.client == bindparam("b_client"), _i.key == bindparam("b_key"))
_FORGET = delete(idempotency_keys).where(_i.client == bindparam("b_client"), _i.key == bindparam("b_key"))
_FORGET_OLD = delete(idempotency_keys).where(_i.created_at < bindparam("b_before"))


def keys(connection: Connection) -> list[ApiKey]:
    """All, revoked ones too, by name."""
    return [
        ApiKey(
            name=row.name,
            digest=row.digest,
            rights=frozenset(Right(word) for word in row.rights.split()),
            created_at=row.created_at,
            revoked_at=row.revoked_at,
        )
        for row in connection.execute(_KEYS)
    ]


def add_key(connection: Connection, key: ApiKey) -> None:
    """Raises Conflict (`invalid_argument`) when the name is taken, by a revoked key too."""
    if any(known.name == key.name for known in keys(connection)):
        raise Conflict(
            f"There is a key named {key.name!r} already",
            next_step="Choose another name: a revoked key's jobs stay under its name.",
            code=ErrorCode.INVALID_ARGUMENT,
        )
    values = {
        "name": storable(key.name),
        "digest": key.digest,
        "rights": " ".join(sorted(right.value for right in key.rights)),
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }
    connection.execute(insert(api_keys), values)


def revoke_key(connection: Connection, name: str, at: int) -> bool:
    """False when there is no such key, or it has been revoked before."""
    return bool(connection.execute(_REVOKE, {"b_name": storable(name), "revoked_at": at}).rowcount)


def first_use(connection: Connection, use: Idempotency) -> tuple[JobId, int] | None:
    """The job of the key's first use and its place then; None when this is the first.

    Raises Conflict (`idempotency_mismatch`) when the key was used for something else.
    """
    who = {"b_client": storable(use.client), "b_key": storable(use.key)}
    row = connection.execute(_USED, who).first()
    if row is None:
        return None
    if row.created_at < use.since:
        connection.execute(_FORGET, who)
        return None
    if row.digest != use.digest:
        raise Conflict(
            "This idempotency key was used for another workflow",
            next_step="Use a new key for a new submit; keep a key only to repeat the same one.",
            code=ErrorCode.IDEMPOTENCY_MISMATCH,
        )
    return JobId(row.job_id), row.position


def remember_use(connection: Connection, use: Idempotency, job_id: JobId, position: int, at: int) -> None:
    values = {
        "client": storable(use.client),
        "key": storable(use.key),
        "digest": use.digest,
        "job_id": job_id,
        "position": position,
        "created_at": at,
    }
    connection.execute(insert(idempotency_keys), values)


def forget_uses(connection: Connection, before: int) -> int:
    """Of keys whose time has passed. How many went."""
    return connection.execute(_FORGET_OLD, {"b_before": before}).rowcount
