"""Webhooks and their outbox. Synchronous; runs in a transaction of the caller.

A delivery is written by the journal in the transaction of its event, so that what rolls back is never sent
and what is committed is not lost. It stays `pending` while it is tried: the next one of its job waits for it.
"""

import json
from collections.abc import Collection, Mapping, Sequence
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
from comfy_mcp.store.connection import AnyRow, Connection, Pages, Statement, Values
from comfy_mcp.store.core import (
    IS_DELIVERED,
    IS_PENDING,
    IS_UNDELIVERED,
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
_PENDING = DeliveryState.PENDING.value
_NULL: Any = literal_column("NULL")

_WEBHOOKS = Statement(select(webhooks).order_by(_w.client))
_WEBHOOK = Statement(select(webhooks).where(_w.client == bindparam("b_client")))
_PUT_WEBHOOK = Statement(insert(webhooks), "(client) DO UPDATE SET {new}")
_DELETE_WEBHOOK = Statement(delete(webhooks).where(_w.client == bindparam("b_client")))
AT_ONCE = 1_000
"""Deliveries that one transaction goes through: some milliseconds, so that nobody waits for long."""

_REST = (_d.client == bindparam("b_client"), IS_UNDELIVERED, _d.seq > bindparam("b_after"))
_LAST_OF_PART = Statement(
    select(_d.seq).where(*_REST).order_by(_d.seq).limit(ONE).offset(literal_column(str(AT_ONCE - 1)))
)
_PART = (*_REST, _d.seq <= bindparam("b_last"))
_FOLLOW_URL = Statement(
    update(deliveries)
    .where(*_PART, _d.registered, _d.url != bindparam("b_url"))
    .values(url=bindparam("b_url"), host=bindparam("b_host"))
)
_PENDING_IN_PART = Statement(select(_d.job_id).where(*_PART, IS_PENDING))
_END_PART = Statement(
    update(deliveries)
    .where(*_PART, IS_PENDING)
    .values(state=DeliveryState.DEAD.value, ended_at=bindparam("b_at"), error=bindparam("b_error"))
)

_KNOWN = Statement(select(_d.seq).where(_d.id == bindparam("b_id")))
_INSERT = Statement(insert(deliveries))
_ANY_PENDING = Statement(select(_d.seq).where(_d.job_id == bindparam("b_job_id"), IS_PENDING).limit(ONE))
_OF_JOBS = (_d.job_id.in_(bindparam("ids", expanding=True)), IS_PENDING)
_ALL_WAIT = Statement(update(deliveries).where(*_OF_JOBS).values(waits=True))
_FIRST_GO = Statement(
    update(deliveries)
    .where(_d.waits, _d.seq.in_(select(func.min(_d.seq)).where(*_OF_JOBS).group_by(_d.job_id)))
    .values(waits=False)
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
_OLD = select(_d.seq).where(IS_DELIVERED, _d.ended_at < bindparam("b_before"))
_ANY_OLD = Statement(_OLD.limit(ONE))
_PRUNE = Statement(delete(deliveries).where(_d.seq.in_(_OLD.limit(literal_column(str(AT_ONCE))))))
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
_TO_REPLAY = (_d.seq.in_(bindparam("seqs", expanding=True)), _d.state == DeliveryState.DEAD.value)
_STILL_DEAD = Statement(select(_d.job_id).where(*_TO_REPLAY))
_REPLAY = Statement(
    update(deliveries)
    .where(*_TO_REPLAY)
    .values(state=_PENDING, tries=0, due_at=bindparam("b_at"), ended_at=_NULL)
)
HAS_PENDING = exists().where(_d.job_id == jobs.c.id, IS_PENDING)
"""Of a job that is not to be deleted: an event of it has not been sent."""

KEPT_MS = 7 * 86_400_000
"""How long a delivery that was made is listed."""

MAX_SEQ = 2**63 - 1
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
    """New, or instead of the one that the client has."""
    values = {
        "client": storable(webhook.client),
        "url": storable(webhook.url),
        "events": " ".join(webhook.events),
        "created_at": webhook.created_at,
        "secret": webhook.secret,
        "old_secret": webhook.old_secret,
        "old_until": webhook.old_until,
    }
    connection.execute(_PUT_WEBHOOK, values)


def follow_url(connection: Connection, after: int, client: ClientId) -> int | None:
    """The next AT_ONCE of the client's deliveries that have not been delivered go to the URL that its webhook
    has now. Where to go on; None: that was all."""
    who = {"b_client": storable(client)}
    row = connection.execute(_WEBHOOK, who).first()
    if row is None or row.url is None:
        return None
    part, last = _part(connection, who, after)
    connection.execute(_FOLLOW_URL, {**part, "b_url": row.url, "b_host": host_of(row.url)})
    return last


def remove_webhook(connection: Connection, after: int, client: ClientId, at: int) -> int | None:
    """What has not been delivered ends, a part at a time as in `follow_url`; with the last one the webhook
    goes, with its secrets: nothing can be signed any more."""
    who = {"b_client": storable(client)}
    part, last = _part(connection, who, after)
    ids = connection.execute(_PENDING_IN_PART, part).scalars()
    connection.execute(_END_PART, {**part, "b_at": at, "b_error": "the webhook was removed"})
    _line_up(connection, ids)
    if last is None:
        connection.execute(_DELETE_WEBHOOK, who)
    return last


def _part(connection: Connection, who: Values, after: int) -> tuple[Values, int | None]:
    """The values of its statements, and the last delivery of the part; None: no other part follows."""
    part = {**who, "b_after": after}
    last: int | None = connection.execute(_LAST_OF_PART, part).scalar()
    return {**part, "b_last": MAX_SEQ if last is None else last}, last


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
    if (webhook := job.webhook) is None or (event_type := f"{PREFIX}{event.type}") not in EVENTS:
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
    _line_up(connection, [delivery.job_id])


def again(connection: Connection, delivery: Delivery, due_at: int, error: str) -> None:
    connection.execute(_AGAIN, {**_try(delivery), "b_due": due_at, "b_error": error})


def dead(connection: Connection, delivery: Delivery, at: int, error: str) -> None:
    connection.execute(_DEAD, {**_try(delivery), "b_at": at, "b_error": error})
    _line_up(connection, [delivery.job_id])


def _line_up(connection: Connection, job_ids: Collection[str]) -> None:
    """Of each job's deliveries that are pending the first does not wait."""
    if job_ids:
        connection.execute(_FIRST_GO, {"ids": list(set(job_ids))})


def release(connection: Connection, begun: Sequence[Delivery], at: int) -> None:
    """They were not tried to the end: the next process does it at once."""
    for delivery in begun:
        connection.execute(_RELEASE, {**_try(delivery), "b_at": at})


def dead_ones(connection: Connection, query: DeliveryQuery) -> list[int]:
    """Those that match, at most REPLAYED."""
    dead_only = {**_values(query), "b_state": DeliveryState.DEAD.value}
    return [row.seq for row in PAGES.rows(connection, dead_only, REPLAYED)]


def replay(connection: Connection, seqs: Sequence[int], at: int) -> int:
    """Try them again, where they are dead still. How many."""
    ids: list[str] = connection.execute(_STILL_DEAD, {"seqs": seqs}).scalars()
    if ids:
        connection.execute(_REPLAY, {"seqs": seqs, "b_at": at})
        connection.execute(_ALL_WAIT, {"ids": list(set(ids))})
        _line_up(connection, ids)
    return len(ids)


def any_old(connection: Connection, now: int) -> bool:
    return bool(connection.execute(_ANY_OLD, {"b_before": now - KEPT_MS}).rows)


def prune(connection: Connection, now: int) -> None:
    """Forget what was delivered long ago, at most AT_ONCE of it."""
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
