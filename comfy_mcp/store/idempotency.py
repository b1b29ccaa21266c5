"""Idempotency keys of submits. Synchronous; runs in a transaction of the caller."""

from comfy_mcp.domain.access import Idempotency
from comfy_mcp.domain.errors import Conflict, ErrorCode
from comfy_mcp.domain.ids import JobId
from comfy_mcp.store.codec import storable
from comfy_mcp.store.connection import Connection, Statement
from comfy_mcp.store.core import (
    bindparam,
    delete,
    idempotency_keys,
    insert,
    literal_column,
    select,
    tuple_,
)

_i = idempotency_keys.c
_USED = Statement(
    select(idempotency_keys).where(_i.client == bindparam("b_client"), _i.key == bindparam("b_key"))
)
_REMEMBER = Statement(insert(idempotency_keys))
_FORGET = Statement(
    delete(idempotency_keys).where(_i.client == bindparam("b_client"), _i.key == bindparam("b_key"))
)
AT_ONCE = 1_000
"""Uses forgotten in one transaction: some milliseconds, so that nobody waits for long."""

_OLD = select(_i.client, _i.key).where(_i.created_at < bindparam("b_before"))
_FORGET_OLD = Statement(
    delete(idempotency_keys).where(tuple_(_i.client, _i.key).in_(_OLD.limit(literal_column(str(AT_ONCE)))))
)


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
            next_step="Use a new key for each submit; repeat a key only to repeat the same submit.",
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
    connection.send(_REMEMBER, values)


def forget_uses(connection: Connection, before: int) -> int:
    """At most AT_ONCE of those whose time has passed. How many went."""
    return connection.execute(_FORGET_OLD, {"b_before": before}).rowcount
