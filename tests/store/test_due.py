"""What one client has to be sent, however much, costs the others nothing: a look takes the same work.

Counted are the steps of SQLite's virtual machine.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from comfy_mcp.domain.webhooks import EVENTS, Webhook
from comfy_mcp.store import Store, due, outbox
from comfy_mcp.store.connection import Connection
from tests.store.test_heads import SIZES, STEPS, sqlite_only, steps_of
from tests.support.jobs import queued_event, submission

NOW = 10_000


async def send(store: Store, *urls: str, client: str = "mean", at: int = 1_000) -> None:
    events = [
        replace(queued_event(client=client, at=at), webhook=Webhook(url=url, events=EVENTS)) for url in urls
    ]
    for start in range(0, len(events), 100):
        await store.add_jobs([submission(event, max_queued=100_000) for event in events[start : start + 100]])


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
    await store._writer.do(
        lambda connection: connection.exec_driver_sql(
            f"INSERT INTO deliveries (id, waits, {copied}) WITH RECURSIVE each(n) AS "
            "(SELECT 1 UNION ALL SELECT n + 1 FROM each WHERE n < ?) "
            f"SELECT id || n, true, {copied} FROM each, "
            "(SELECT * FROM deliveries ORDER BY seq DESC LIMIT 1) AS last",
            (count,),
        )
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
