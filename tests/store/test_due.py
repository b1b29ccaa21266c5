"""What one client has to be sent, however much, costs the others nothing: a look takes the same work.

Counted are the steps of SQLite's virtual machine.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from comfy_mcp.domain.ids import ClientId
from comfy_mcp.domain.webhooks import EVENTS, ClientWebhook, DeliveryQuery, DeliveryState, Webhook
from comfy_mcp.store import Store, due, outbox
from comfy_mcp.store.connection import Connection
from tests.store.test_heads import SIZES, STEPS, held, sqlite_only, steps_of
from tests.support.jobs import new_job_id, new_prompt_id, queued_event, started, submission
from tests.support.leases import lease_on

NOW = 10_000


async def send(store: Store, *urls: str, client: str = "mean", at: int = 1_000) -> None:
    events = [
        replace(queued_event(client=client, at=at), webhook=Webhook(url=url, events=EVENTS)) for url in urls
    ]
    for start in range(0, len(events), 100):
        await store.add_jobs([submission(event, max_queued=100_000) for event in events[start : start + 100]])


async def written(store: Store, sql: str, *values: int) -> None:
    await store._writer.do(lambda connection: connection.exec_driver_sql(sql, values))


async def one_host(store: Store, count: int) -> None:
    await send(store, *["http://slow.example/"] * count)


async def many_hosts(store: Store, count: int) -> None:
    await send(store, *[f"http://slow{number}.example/" for number in range(count)])


async def later(store: Store, count: int) -> None:
    """Hosts of which nothing is due yet."""
    await send(store, *[f"http://slow{number}.example/" for number in range(count)], at=NOW + 1)


async def waiting(store: Store, count: int) -> None:
    """Later events of one job."""
    await send(store, "http://slow.example/")
    copied = "job_id, client, type, at, registered, url, host, job, state, tries, due_at"
    await written(
        store,
        f"INSERT INTO deliveries (id, waits, {copied}) WITH RECURSIVE each(n) AS "
        "(SELECT 1 UNION ALL SELECT n + 1 FROM each WHERE n < ?) "
        f"SELECT id || n, true, {copied} FROM each, "
        "(SELECT * FROM deliveries ORDER BY seq DESC LIMIT 1) AS last",
        count,
    )


FLOODS = {each.__name__: each for each in (one_host, many_hosts, later, waiting)}


@sqlite_only
@pytest.mark.parametrize("flood", FLOODS)
async def test_a_look_takes_as_many_steps_however_much_one_client_is_to_be_sent(
    store: Store, flood: str
) -> None:
    found: dict[str, list[int]] = {"any": [], "another": []}
    await FLOODS[flood](store, due.HOSTS)
    busy = [
        each.delivery
        for each in await store.begin_tries(now=NOW, until=NOW + 10**6, count=16, per_host=8, busy=())
    ]

    def counted(name: str, work: Callable[[Connection], object]) -> Callable[[Connection], None]:
        return lambda connection: found[name].append(steps_of(connection, lambda: work(connection)))

    def tried(connection: Connection) -> None:
        room = due.Room(16 - len(busy), 8, busy)
        begun = outbox.begin_tries(connection, NOW, NOW + 10**6, room)
        assert "kind" in {each.delivery.client for each in begun}

    def looked(connection: Connection) -> None:
        assert outbox.any_due(connection, NOW, due.Room(16 - len(busy), 8, busy))

    for size in SIZES:
        await FLOODS[flood](store, size)
        await send(store, "http://kind.example/", client="kind")
        await store._writer.do(counted("any", looked))
        await store._writer.do(counted("another", tried))
    for name, (few, many) in found.items():
        assert many <= 1.1 * few + STEPS, (name, few, many)


async def test_of_more_hosts_than_a_look_walks_the_oldest_delivery_has_its_turn(store: Store) -> None:
    await send(store, "http://z.example/")
    await send(store, *[f"http://a{number}.example/" for number in range(due.HOSTS)], at=NOW + 1)
    look = partial(store.begin_tries, now=NOW, until=NOW + 1, count=16, per_host=8, busy=())
    assert [each.delivery.url for each in await look()] == ["http://z.example/"]


async def test_a_host_that_takes_no_more_delays_no_other_of_its_client(store: Store) -> None:
    await one_host(store, 50)
    busy = [
        each.delivery
        for each in await store.begin_tries(now=NOW, until=NOW + 1_000, count=64, per_host=8, busy=())
    ]
    assert len(busy) == 4
    await send(store, "http://fast.example/", at=2_000)
    more = await store.begin_tries(now=NOW, until=NOW + 1_000, count=60, per_host=8, busy=busy)
    assert [each.delivery.url for each in more] == ["http://fast.example/"]


def registered(url: str, client: str = "mean") -> ClientWebhook:
    return ClientWebhook(client=ClientId(client), url=url, events=EVENTS, created_at=1, secret="whsec_AAAA")


async def owe(store: Store, count: int) -> None:
    """To the client's own webhook."""
    event = queued_event(client="mean")
    events = [replace(event, job_id=new_job_id(), webhook=Webhook(events=EVENTS)) for _ in range(count)]
    await store.add_jobs([submission(each, max_queued=100_000) for each in events])


@sqlite_only
async def test_a_change_of_a_webhook_holds_the_writer_as_long_however_much_waits(store: Store) -> None:
    longest = list[int]()
    await store.put_webhook(registered("http://one.example/"))
    for number in range(2):
        await owe(store, outbox.AT_ONCE + number * 600)
        await store.put_webhook(registered(f"http://two{number}.example/"))
        with held(store) as steps:
            await store.put_webhook(registered(f"http://three{number}.example/"))
            await store.remove_webhook(ClientId("mean"), at=NOW)
        await store.put_webhook(registered("http://one.example/"))
        longest.append(max(steps))
    assert longest[1] <= 1.1 * longest[0] + STEPS, longest
    assert not (await store.list_deliveries(DeliveryQuery(state=DeliveryState.PENDING))).items


@sqlite_only
async def test_a_change_of_a_webhook_walks_nothing_that_others_are_sent_or_that_is_delivered(
    store: Store,
) -> None:
    total = list[int]()
    for size in SIZES:
        await many_hosts(store, size)
        await send(store, *["http://done.example/"] * size, client="kind")
        await written(store, "UPDATE deliveries SET state = 'delivered' WHERE client = 'kind'")
        with held(store) as steps:
            await store.put_webhook(registered("http://one.example/", client="kind"))
            await store.remove_webhook(ClientId("kind"), at=NOW)
        total.append(sum(steps))
    assert total[1] <= total[0] + STEPS, total


@sqlite_only
async def test_deliveries_are_forgotten_in_parts_and_found_by_their_age(store: Store) -> None:
    longest, looks = list[int](), list[int]()
    for number in range(2):
        await send(store, *["http://done.example/"] * (outbox.AT_ONCE + number * 600))
        await written(store, f"UPDATE deliveries SET state = 'delivered', ended_at = {NOW}")
        await store._readers.do(
            lambda each: looks.append(steps_of(each, lambda: outbox.any_old(each, NOW + outbox.KEPT_MS)))
        )
        with held(store) as steps:
            await store.prune(now=NOW + outbox.KEPT_MS + 1, retention_days=0, retention_jobs=0)
        assert len(steps) == number + 1
        longest.append(max(steps))
    assert longest[1] <= 1.1 * longest[0] + STEPS, longest
    assert looks[1] <= looks[0] + STEPS, looks
    assert not (await store.list_deliveries(DeliveryQuery())).items


async def test_a_webhook_that_is_half_removed_leaves_nothing_that_waits_for_ever(store: Store) -> None:
    """The process dies between two parts: the webhook is there, and what was not ended is sent."""
    await store.put_webhook(registered("http://one.example/"))
    lease = await lease_on(store)
    await owe(store, 1)
    (first,) = await store.begin_tries(now=NOW, until=NOW + 1, count=16, per_host=8, busy=())
    await owe(store, outbox.AT_ONCE - 1)
    claim = await store.claim_next(lease, prompt_id=new_prompt_id(), now=2_000)
    assert claim is not None
    assert claim.job.id == first.delivery.job_id
    await store.record(lease, claim.job.id, [started(claim.job)])
    work = partial(outbox.remove_webhook, after=0, client=ClientId("mean"), at=NOW)
    assert await store._writer.do(work) is not None
    assert await store.webhooks(fresh=True)
    (left,) = await store.begin_tries(now=NOW, until=NOW + 1, count=16, per_host=8, busy=())
    assert (left.delivery.job_id, left.delivery.type) == (claim.job.id, "workflow.started")


async def test_the_url_of_a_webhook_that_is_removed_meanwhile_is_followed_no_further(store: Store) -> None:
    work = partial(outbox.follow_url, after=0, client=ClientId("mean"))
    assert await store._writer.do(work) is None


async def test_what_is_sent_again_is_sent_again_once(store: Store) -> None:
    await one_host(store, 2)
    for each in await store.begin_tries(now=NOW, until=NOW + 1, count=16, per_host=8, busy=()):
        await store.end_try(each.delivery, at=NOW, error="HTTP 410")
    seqs = await store._readers.do(lambda connection: outbox.dead_ones(connection, DeliveryQuery()))
    again = [
        await store._writer.do(lambda connection: outbox.replay(connection, seqs, NOW)) for _ in range(2)
    ]
    assert again == [2, 0]
