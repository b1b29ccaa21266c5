"""Webhooks and their outbox. Synchronous; runs in a transaction of the caller.

A delivery is written by the journal in the transaction of its event, so that what rolls back is never sent
and what is committed is not lost. It stays `pending` while it is tried: the next one of its job waits for it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from comfy_mcp.domain.catalog import Page
from comfy_mcp.domain.events import JobEvent, Priority
from comfy_mcp.domain.ids import ClientId, JobId
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.domain.webhooks import (
    EVENTS,
    PREFIX,
    ClientWebhook,
    Delivery,
    DeliveryQuery,
    DeliveryState,
    Webhook,
    delivery_id,
    host_of,
)
from comfy_mcp.store import due
from comfy_mcp.store.codec import UNREADABLE, job_of, job_values, storable
from comfy_mcp.store.connection import AnyRow, Connection, Pages, Statement
from comfy_mcp.store.core import (
    IS_PENDING,
    ONE,
    Integer,
    bindparam,
    delete,
    deliveries,
    exists,
    func,
    insert,
    jobs,
    literal_column,
    select,
    update,
    webhooks,
)
from comfy_mcp.store.queries import clamp, page_of, seq_of

_d, _w = deliveries.c, webhooks.c
_earlier = deliveries.alias("earlier")
_PENDING = DeliveryState.PENDING.value
_NULL: Any = literal_column("NULL")

_WEBHOOKS = Statement(select(webhooks).order_by(_w.client))
_WEBHOOK = Statement(select(webhooks).where(_w.client == bindparam("b_client")))
_PUT_WEBHOOK = Statement(insert(webhooks), "(client) DO UPDATE SET {new}")
_DELETE_WEBHOOK = Statement(delete(webhooks).where(_w.client == bindparam("b_client")))
_FOLLOW_URL = Statement(
    update(deliveries)
    .where(_d.client == bindparam("b_client"), _d.registered, _d.state != DeliveryState.DELIVERED.value)
    .values(url=bindparam("b_url"), host=bindparam("b_host"))
)
_END_ALL = Statement(
    update(deliveries)
    .where(_d.client == bindparam("b_client"), IS_PENDING)
    .values(state=DeliveryState.DEAD.value, ended_at=bindparam("b_at"), error=bindparam("b_error"))
)

_KNOWN = Statement(select(_d.seq).where(_d.id == bindparam("b_id")))
_INSERT = Statement(insert(deliveries))
_ANY_PENDING = Statement(select(_d.seq).where(_d.job_id == bindparam("b_job_id"), IS_PENDING).limit(ONE))
_FIRST_OF_JOB = (
    select(func.min(_earlier.c.seq))
    .where(_earlier.c.job_id == bindparam("b_job_id"), _earlier.c.state == _PENDING)
    .scalar_subquery()
)
_LINE_UP = Statement(
    update(deliveries)
    .where(_d.job_id == bindparam("b_job_id"), IS_PENDING)
    .values(waits=_d.seq > _FIRST_OF_JOB)
)
_TRY = Statement(
    update(deliveries)
    .where(_d.seq == bindparam("b_seq"))
    .values(tries=_d.tries + 1, due_at=bindparam("b_until"))
)
# Of a try that somebody else has begun again meanwhile, nothing is written.
_SAME_TRY = (_d.id == bindparam("b_id"), _d.tries == bindparam("b_tries"), IS_PENDING)
_DELIVERED = Statement(
    update(deliveries)
    .where(*_SAME_TRY)
    .values(state=DeliveryState.DELIVERED.value, ended_at=bindparam("b_at"), job=_NULL, error=_NULL)
)
_AGAIN = Statement(
    update(deliveries).where(*_SAME_TRY).values(due_at=bindparam("b_due"), error=bindparam("b_error"))
)
_DEAD = Statement(
    update(deliveries)
    .where(*_SAME_TRY)
    .values(state=DeliveryState.DEAD.value, ended_at=bindparam("b_at"), error=bindparam("b_error"))
)
_RELEASE = Statement(
    update(deliveries).where(*_SAME_TRY).values(due_at=bindparam("b_at"), tries=_d.tries - 1)
)
_OLD = (_d.state == DeliveryState.DELIVERED.value, _d.ended_at < bindparam("b_before"))
_ANY_OLD = Statement(select(_d.seq).where(*_OLD).limit(ONE))
_PRUNE = Statement(delete(deliveries).where(*_OLD))
_CONDITIONS = {
    "b_state": _d.state == bindparam("b_state"),
    "b_client": _d.client == bindparam("b_client"),
    "b_job_id": _d.job_id == bindparam("b_job_id"),
    "b_id": _d.id == bindparam("b_id"),
    "b_cursor": _d.seq < bindparam("b_cursor"),
}
PAGES = Pages(
    select(deliveries).order_by(_d.seq.desc()).limit(bindparam("b_limit", type_=Integer)), _CONDITIONS
)
_REPLAY = Statement(
    update(deliveries)
    .where(_d.seq == bindparam("b_seq"))
    .values(state=_PENDING, tries=0, due_at=bindparam("b_at"), ended_at=_NULL)
)
HAS_PENDING = exists().where(_d.job_id == jobs.c.id, IS_PENDING)
"""Of a job that is not to be deleted: an event of it has not been sent."""

KEPT_MS = 7 * 86_400_000
"""How long a delivery that was made is listed."""

REPLAYED = 1_000
"""Dead deliveries that one call sends again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A delivery that this process tries now. `job` is the job as it was at the event; None: not readable."""

    delivery: Delivery
    job: Job | None


# ---------------------------------------------------------------------------- the clients' webhooks


def all_webhooks(connection: Connection) -> list[ClientWebhook]:
    return [_webhook(row) for row in connection.execute(_WEBHOOKS)]


def put_webhook(connection: Connection, webhook: ClientWebhook) -> None:
    """New, or instead of the one that the client has. What has not been delivered goes to its URL."""
    client = {"b_client": storable(webhook.client)}
    values = {
        "url": storable(webhook.url),
        "events": " ".join(webhook.events),
        "created_at": webhook.created_at,
        "secret": webhook.secret,
        "old_secret": webhook.old_secret,
        "old_until": webhook.old_until,
    }
    connection.execute(_PUT_WEBHOOK, {"client": client["b_client"], **values})
    if webhook.url is not None:
        where = {"b_url": storable(webhook.url), "b_host": host_of(webhook.url)}
        connection.execute(_FOLLOW_URL, {**client, **where})


def remove_webhook(connection: Connection, client: ClientId, at: int) -> bool:
    """With its secrets: what has not been delivered can't be signed any more. False: there was none."""
    who = {"b_client": storable(client)}
    connection.execute(_END_ALL, {**who, "b_at": at, "b_error": "the webhook was removed"})
    return bool(connection.execute(_DELETE_WEBHOOK, who).rowcount)


def _webhook(row: AnyRow) -> ClientWebhook:
    return ClientWebhook(
        client=row.client,
        url=row.url,
        events=tuple(row.events.split()),
        created_at=row.created_at,
        secret=row.secret,
        old_secret=row.old_secret,
        old_until=row.old_until,
    )


# ---------------------------------------------------------------------------- the outbox


def post(connection: Connection, job: Job, event: JobEvent) -> None:
    """Write down that the event is to be sent, once, if the job has a webhook that wants it."""
    webhook, event_type = job.webhook, f"{PREFIX}{event.type}"
    if webhook is None or event_type not in EVENTS:
        return
    registered = webhook.url is None
    if registered:
        row = connection.execute(_WEBHOOK, {"b_client": storable(job.client)}).first()
        if row is None:
            return
        webhook = Webhook(url=row.url, events=tuple(row.events.split()))
    url = webhook.url
    message = delivery_id(job.id, event_type, job.attempt)
    if url is None or not webhook.wants(event_type) or connection.execute(_KNOWN, {"b_id": message}).rows:
        return
    values = {
        "id": message,
        "job_id": job.id,
        "client": storable(job.client),
        "type": event_type,
        "at": event.at,
        "registered": registered,
        "url": storable(url),
        "host": host_of(url),
        "job": json.dumps(job_values(job)),
        "state": _PENDING,
        "tries": 0,
        "due_at": event.at,
        "waits": bool(connection.execute(_ANY_PENDING, {"b_job_id": job.id}).rows),
    }
    connection.execute(_INSERT, values)


def any_due(connection: Connection, now: int, room: due.Room) -> bool:
    return bool(due.receivers(connection, now, room))


def begin_tries(connection: Connection, now: int, until: int, room: due.Room) -> list[Due]:
    """The deliveries that are tried now, as far as there is room. From `until` on another process may try
    them."""
    begun: list[Due] = []
    for row in due.taken(connection, now, room):
        connection.execute(_TRY, {"b_seq": row.seq, "b_until": until})
        begun.append(_due(row, tries=row.tries + 1, due_at=until))
    return begun


def delivered(connection: Connection, delivery: Delivery, at: int) -> None:
    connection.execute(_DELIVERED, {**_try(delivery), "b_at": at})
    _line_up(connection, delivery.job_id)


def again(connection: Connection, delivery: Delivery, due_at: int, error: str) -> None:
    connection.execute(_AGAIN, {**_try(delivery), "b_due": due_at, "b_error": error})


def dead(connection: Connection, delivery: Delivery, at: int, error: str) -> None:
    connection.execute(_DEAD, {**_try(delivery), "b_at": at, "b_error": error})
    _line_up(connection, delivery.job_id)


def _line_up(connection: Connection, job_id: str) -> None:
    """Of the job's deliveries that are pending the first does not wait."""
    connection.execute(_LINE_UP, {"b_job_id": job_id})


def release(connection: Connection, begun: Sequence[Delivery], at: int) -> None:
    """They were not tried to the end: the next process does it at once."""
    for delivery in begun:
        connection.execute(_RELEASE, {**_try(delivery), "b_at": at})


def replay(connection: Connection, query: DeliveryQuery, at: int) -> int:
    """Try the dead ones again that match, at most REPLAYED. How many."""
    rows = PAGES.rows(connection, {**_values(query), "b_state": DeliveryState.DEAD.value}, REPLAYED)
    for row in rows:
        connection.execute(_REPLAY, {"b_seq": row.seq, "b_at": at})
    for job_id in {row.job_id for row in rows}:
        _line_up(connection, job_id)
    return len(rows)


def any_old(connection: Connection, now: int) -> bool:
    return bool(connection.execute(_ANY_OLD, {"b_before": now - KEPT_MS}).rows)


def prune(connection: Connection, now: int) -> None:
    """Forget what was delivered long ago."""
    connection.execute(_PRUNE, {"b_before": now - KEPT_MS})


def listing(connection: Connection, query: DeliveryQuery) -> Page[Delivery]:
    """Newest first. Raises InvalidInput (`invalid_argument`)."""
    limit = clamp(query.limit)
    return page_of(PAGES.rows(connection, _values(query), limit + 1), limit, _delivery)


def _values(query: DeliveryQuery) -> dict[str, Any]:
    return {
        "b_state": None if query.state is None else query.state.value,
        "b_client": storable(query.client),
        "b_job_id": storable(query.job_id),
        "b_id": storable(query.id),
        "b_cursor": None if query.cursor is None else seq_of(query.cursor),
    }


def _try(delivery: Delivery) -> dict[str, Any]:
    return {"b_id": delivery.id, "b_tries": delivery.tries}


def _due(row: AnyRow, **now: Any) -> Due:
    return Due(delivery=_delivery(row._replace(**now)), job=_job(row.job))


def _delivery(row: AnyRow) -> Delivery:
    return Delivery(
        id=row.id,
        job_id=row.job_id,
        client=row.client,
        type=row.type,
        at=row.at,
        url=row.url,
        state=DeliveryState(row.state),
        tries=row.tries,
        due_at=row.due_at,
        ended_at=row.ended_at,
        error=row.error,
    )


def _job(text: str) -> Job | None:
    """What a newer version added to jobs is null in a text of an older one."""
    try:
        row: Any = SimpleNamespace(**{**_NO_VALUES, **json.loads(text)})
        return job_of(row)
    except UNREADABLE:
        return None


_NO_VALUES: Mapping[str, None] = dict.fromkeys(
    job_values(
        Job(
            id=JobId(""),
            client=ClientId(""),
            lane="",
            priority=Priority.NORMAL,
            status=JobStatus.QUEUED,
            created_at=0,
            node_count=0,
        )
    )
)
