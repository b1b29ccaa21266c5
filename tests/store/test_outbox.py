"""Webhooks and their outbox: written with the event, tried in order, bounded by host, kept until they end."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from comfy_mcp.domain.errors import Fenced
from comfy_mcp.domain.ids import ClientId, EngineId
from comfy_mcp.domain.job import Job, JobStatus
from comfy_mcp.domain.webhooks import (
    EVENTS,
    ClientWebhook,
    Delivery,
    DeliveryQuery,
    DeliveryState,
    Webhook,
    host_of,
)
from comfy_mcp.store import Lease, Store
from comfy_mcp.store.outbox import KEPT_MS, Due
from tests.support.jobs import GRAPH, completed, failed, new_prompt_id, queued_event, requeued, started

URL = "http://one.example/hook"
ALL = Webhook(url=URL, events=EVENTS)
CLIENT = ClientId("local")
NOW = 10_000


@pytest.fixture
async def lease(store: Store) -> Lease:
    lease = await store.acquire_lease(EngineId("engine"), "me", 600)
    assert lease is not None
    return lease


async def submitted(store: Store, webhook: Webhook | None = ALL, **options: Any) -> Job:
    event = replace(queued_event(**options), webhook=webhook)
    job, _ = await store.add_job(event, GRAPH, max_queued=10_000)
    return job


async def claimed(store: Store, lease: Lease) -> Job:
    claim = await store.claim_next(lease, prompt_id=new_prompt_id(), now=2_000)
    assert claim is not None
    return claim.job


async def ended(store: Store, lease: Lease, webhook: Webhook | None = ALL) -> Job:
    """A job that ran."""
    await submitted(store, webhook)
    job = await claimed(store, lease)
    return await store.record(lease, job.id, [started(job), completed(job)])


async def due(
    store: Store, now: int = NOW, *, count: int = 100, per_host: int = 100, busy: Sequence[Delivery] = ()
) -> list[Due]:
    return await store.begin_tries(now=now, until=now + 1_000, count=count, per_host=per_host, busy=busy)


async def known(store: Store, **query: Any) -> list[Delivery]:
    """Oldest first."""
    return list(reversed((await store.list_deliveries(DeliveryQuery(**query, limit=1000))).items))


def registered(client: str = CLIENT, url: str | None = URL, **fields: Any) -> ClientWebhook:
    values: dict[str, Any] = {"events": (), "created_at": 5, "secret": "whsec_AAAA"} | fields
    return ClientWebhook(client=ClientId(client), url=url, **values)


async def test_each_event_that_is_wanted_is_written_once_with_the_job_as_it_was(
    store: Store, lease: Lease
) -> None:
    await submitted(store)
    first = await claimed(store, lease)
    await store.record(lease, first.id, [started(first)])
    await store.record(lease, first.id, [requeued(first)])
    second = await claimed(store, lease)
    end = await store.record(lease, second.id, [started(second), failed(second)])
    found = await known(store)
    assert [each.id.removeprefix(f"msg_{end.id}_") for each in found] == [
        "queued_0",
        "started_1",
        "requeued_1",
        "started_2",
        "failed_2",
    ]
    assert [each.at for each in found] == [1_000, 2_000, 2_500, 2_000, 3_000]
    states = []
    for _ in found:
        (one,) = await due(store)
        assert one.job is not None
        states.append((one.job.status, one.job.attempt))
        await store.end_try(one.delivery, at=NOW)
    assert states == [
        (JobStatus.QUEUED, 0),
        (JobStatus.RUNNING, 1),
        (JobStatus.QUEUED, 1),
        (JobStatus.RUNNING, 2),
        (JobStatus.FAILED, 2),
    ]
    assert one.job == end  # nothing of a job is lost in its text


async def test_the_ends_alone_are_sent_unless_more_is_asked_for(store: Store, lease: Lease) -> None:
    await ended(store, lease, Webhook(url=URL))
    await ended(store, lease, Webhook(url=URL, events=("workflow.started",)))
    await ended(store, lease, None)
    assert [each.type for each in await known(store)] == ["workflow.completed", "workflow.started"]


async def test_a_write_that_fails_leaves_no_delivery(store: Store, lease: Lease) -> None:
    await submitted(store)
    job = await claimed(store, lease)
    before = await known(store)
    with pytest.raises(Fenced):
        await store.record(replace(lease, fence=lease.fence + 1), job.id, [started(job), completed(job)])
    assert await known(store) == before


async def test_the_next_of_a_job_waits_for_the_one_before(store: Store, lease: Lease) -> None:
    await ended(store, lease)
    other = await ended(store, lease)
    first, second = await due(store)
    assert [each.delivery.type for each in (first, second)] == ["workflow.queued"] * 2
    assert not await due(store)
    await store.end_try(first.delivery, at=NOW, error="HTTP 500", due_at=NOW + 50)
    assert not await due(store)
    await store.end_try(second.delivery, at=NOW, error="gone")  # it is dead
    (next_one,) = await due(store)
    assert (next_one.delivery.job_id, next_one.delivery.type) == (other.id, "workflow.started")
    (again,) = await due(store, NOW + 50)
    assert (again.delivery.id, again.delivery.tries) == (first.delivery.id, 2)


async def test_an_event_that_is_sent_again_comes_before_the_later_ones_of_its_job(
    store: Store, lease: Lease
) -> None:
    job = await ended(store, lease)
    (first,) = await due(store)
    await store.end_try(first.delivery, at=NOW, error="HTTP 410")
    (second,) = await due(store)
    assert await store.replay_deliveries(DeliveryQuery(job_id=job.id), at=NOW) == 1
    await store.end_try(second.delivery, at=NOW, error="HTTP 500", due_at=NOW)
    sent = []
    while found := await due(store):
        (one,) = found
        sent.append(one.delivery.type)
        await store.end_try(one.delivery, at=NOW)
    assert sent == ["workflow.queued", "workflow.started", "workflow.completed"]


async def test_a_try_that_nobody_ended_begins_again(store: Store, lease: Lease) -> None:
    await ended(store, lease, Webhook(url=URL))
    (lost,) = await due(store)
    (again,) = await due(store, NOW + 1_000)
    assert (again.delivery.id, again.delivery.tries) == (lost.delivery.id, 2)
    await store.end_try(lost.delivery, at=NOW, error="late")  # the slow one changes nothing
    assert [each.state for each in await known(store)] == [DeliveryState.PENDING]
    await store.release_tries([again.delivery], at=NOW)
    (once_more,) = await due(store)
    assert once_more.delivery.tries == 2
    await store.end_try(once_more.delivery, at=NOW)
    (done,) = await known(store)
    assert (done.state, done.ended_at, done.error) == (DeliveryState.DELIVERED, NOW, None)


FLOODS = {
    "one URL": ["http://slow.example/"],
    "ports of one host": [f"http://slow.example:{port}/" for port in range(1, 41)],
    "names of many hosts": [f"http://slow{number}.example/" for number in range(40)],
    "the host of others": ["http://kind.example/"],
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_client_that_floods_delays_nobody_else(store: Store, flood: str) -> None:
    """Whatever it floods, an event of somebody else is sent at once, beside all that is tried."""
    for number in range(40):
        url = FLOODS[flood][number % len(FLOODS[flood])]
        await submitted(store, Webhook(url=url, events=EVENTS), client="mean")
    begun = [each.delivery for each in await due(store, count=16, per_host=8)]
    at = Counter(host_of(each.url) for each in begun)
    assert len(begun) == (8 if flood == "names of many hosts" else 4), "half of all, and half of a host"
    assert max(at.values()) <= 4

    await submitted(store, Webhook(url="http://kind.example/", events=EVENTS), client="kind")
    more = await due(store, count=16 - len(begun), per_host=8, busy=begun)
    assert [each.delivery.client for each in more] == ["kind"]


async def test_clients_share_a_host(store: Store) -> None:
    for client in ("ann", "bob", "eve", "kim"):
        for _ in range(5):
            await submitted(store, client=client)
    assert Counter(each.delivery.client for each in await due(store, per_host=8)) == {
        "ann": 4, "bob": 2, "eve": 1, "kim": 1,
    }  # fmt: skip
    assert not await due(store, count=0)


async def test_a_clients_webhook_counts_as_it_is_at_each_event(store: Store, lease: Lease) -> None:
    await ended(store, lease, Webhook())  # none is registered
    await store.put_webhook(registered(url=None))
    await ended(store, lease, Webhook())  # no URL
    assert await known(store) == []
    await store.put_webhook(registered(events=("workflow.started",)))
    await ended(store, lease, Webhook())
    await store.put_webhook(registered(url="http://two.example/"))
    await ended(store, lease, Webhook())
    found = await known(store)
    assert [each.type for each in found] == ["workflow.started", "workflow.completed"]
    assert {each.url for each in found} == {"http://two.example/"}  # what waits follows the URL
    assert await store.webhooks() == {CLIENT: registered(url="http://two.example/")}


async def test_with_its_webhook_a_clients_deliveries_end(store: Store, lease: Lease) -> None:
    await store.put_webhook(registered())
    await store.put_webhook(registered("other"))
    await ended(store, lease, Webhook())
    assert await store.remove_webhook(CLIENT, at=NOW)
    assert not await store.remove_webhook(CLIENT, at=NOW)
    (one,) = await known(store)
    assert (one.state, one.ended_at, one.error) == (DeliveryState.DEAD, NOW, "the webhook was removed")
    assert list(await store.webhooks()) == ["other"]


async def test_the_dead_are_listed_and_sent_again(store: Store, lease: Lease) -> None:
    jobs = [await ended(store, lease, Webhook(url=URL)) for _ in range(3)]
    for one in await due(store):
        await store.end_try(one.delivery, at=NOW, error="HTTP 410")
    page = await store.list_deliveries(DeliveryQuery(state=DeliveryState.DEAD, client=CLIENT, limit=2))
    assert [each.job_id for each in page.items] == [jobs[2].id, jobs[1].id]
    assert page.next_cursor is not None
    rest = await store.list_deliveries(DeliveryQuery(limit=2, cursor=page.next_cursor))
    assert [each.job_id for each in rest.items] == [jobs[0].id]
    assert await store.replay_deliveries(DeliveryQuery(client=ClientId("nobody")), at=NOW) == 0
    assert await store.replay_deliveries(DeliveryQuery(id=rest.items[0].id), at=NOW) == 1
    assert await store.replay_deliveries(DeliveryQuery(job_id=jobs[1].id), at=NOW) == 1
    assert [each.state.value for each in await known(store)] == ["pending", "pending", "dead"]
    assert [each.delivery.tries for each in await due(store)] == [1, 1]


async def test_a_job_is_kept_until_its_events_are_sent(store: Store, lease: Lease) -> None:
    job = await ended(store, lease, Webhook(url=URL))
    far = 40 * 86_400_000
    assert await store.prune(now=far, retention_days=1, retention_jobs=0) == 0
    (one,) = await due(store)
    await store.end_try(one.delivery, at=NOW, error="HTTP 410")
    assert await store.prune(now=far, retention_days=1, retention_jobs=0) == 1
    assert await known(store) == []
    assert await store.get_job(job.id) is None


async def test_what_was_delivered_is_forgotten_after_some_days(store: Store, lease: Lease) -> None:
    await ended(store, lease, Webhook(url=URL))
    (one,) = await due(store)
    await store.end_try(one.delivery, at=NOW)
    for now, kept in ((NOW + KEPT_MS, 1), (NOW + KEPT_MS + 1, 0)):
        await store.prune(now=now, retention_days=0, retention_jobs=0)
        assert len(await known(store)) == kept


async def test_a_text_that_cannot_be_read_is_no_job(store: Store, lease: Lease) -> None:
    await ended(store, lease, Webhook(url=URL))
    await store._writer.do(lambda connection: connection.exec_driver_sql("UPDATE deliveries SET job = '{}'"))
    (one,) = await due(store)
    assert one.job is None


def test_no_secret_is_shown() -> None:
    webhook = registered(old_secret="whsec_BBBB", old_until=9)
    assert "whsec" not in repr(webhook)
    assert webhook.secrets(8) == ["whsec_AAAA", "whsec_BBBB"]
    assert webhook.secrets(9) == registered().secrets(8) == ["whsec_AAAA"]
