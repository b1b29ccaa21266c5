"""API keys. Synchronous; runs in a transaction of the caller."""

from collections.abc import Collection, Mapping

from comfy_mcp.domain.access import ApiKey, Right
from comfy_mcp.domain.errors import Conflict, ErrorCode
from comfy_mcp.store.codec import storable
from comfy_mcp.store.connection import Connection, Statement
from comfy_mcp.store.core import api_keys, bindparam, insert, select, update

_k = api_keys.c
_KEYS = Statement(select(api_keys).order_by(_k.name))
_INSERT = Statement(insert(api_keys))
_CHANGE = Statement(update(api_keys).where(_k.name == bindparam("b_name"), _k.revoked_at.is_(None)))


_RIGHTS = {right.value: right for right in Right}


def keys(connection: Connection) -> list[ApiKey]:
    """All, revoked ones too, by name. A right of a newer version is none here."""
    return [
        ApiKey(
            name=row.name,
            digest=row.digest,
            rights=frozenset(_RIGHTS[word] for word in row.rights.split() if word in _RIGHTS),
            created_at=row.created_at,
            revoked_at=row.revoked_at,
            max_queued=row.max_queued,
            max_queued_bytes=row.max_queued_bytes,
            max_running=row.max_running,
            max_gpu_seconds=row.max_gpu_seconds,
        )
        for row in connection.execute(_KEYS)
    ]


def add_key(connection: Connection, key: ApiKey) -> None:
    """Raises Conflict (`invalid_argument`) when a key, or a revoked one, has the name."""
    known = next((each for each in keys(connection) if each.name == key.name), None)
    if known is not None:
        revoked = known.revoked_at is not None
        raise Conflict(
            f"A key named {key.name!r} already exists{', and was revoked' if revoked else ''}.",
            next_step="Choose another name: the workflows of a revoked key keep its name."
            if revoked
            else f"Choose another name, or change this key: `comfy-bridge keys change {key.name}`.",
            code=ErrorCode.INVALID_ARGUMENT,
        )
    values = {
        "name": storable(key.name),
        "digest": key.digest,
        "rights": _words(key.rights),
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
        "max_queued": key.max_queued,
        "max_queued_bytes": key.max_queued_bytes,
        "max_running": key.max_running,
        "max_gpu_seconds": key.max_gpu_seconds,
    }
    connection.execute(_INSERT, values)


def revoke_key(connection: Connection, name: str, at: int) -> bool:
    """False when there is no such key, or it has been revoked before."""
    return bool(connection.execute(_CHANGE, {"b_name": storable(name), "revoked_at": at}).rowcount)


def change_key(
    connection: Connection, name: str, rights: Collection[Right], limits: Mapping[str, float | None]
) -> ApiKey | None:
    """The key as it is now. No `rights`: they stay; `limits` by the names of ApiKey, the others stay. None:
    there is no such key, or it is revoked."""
    changes = dict(limits) if not rights else {"rights": _words(rights), **limits}
    if not connection.execute(_CHANGE, {"b_name": storable(name), **changes}).rowcount:
        return None
    return next(key for key in keys(connection) if key.name == name)


def _words(rights: Collection[Right]) -> str:
    return " ".join(sorted(right.value for right in rights))
