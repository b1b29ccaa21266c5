"""What one client queues beyond its limits costs the others nothing: a claim takes the same work.

Counted are the steps of SQLite's virtual machine.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from comfy_mcp.domain.access import ApiKey, Right, digest_of
from comfy_mcp.domain.chains import Parent
from comfy_mcp.domain.events import Priority
from comfy_mcp.domain.ids import ClientId, JobId
from comfy_mcp.domain.vram import Admission, Rooms
from comfy_mcp.store import ClaimOffer, Lease, Store, chains, claims, reads
from comfy_mcp.store.connection import Connection
from comfy_mcp.store.queries import Chooser
from tests.store.test_claims_placing import Engine, needs
from tests.support.jobs import GRAPH, completed, new_prompt_id, queued_event, submission
from tests.support.leases import lease_on

RIGHTS = frozenset({Right.READ, Right.SUBMIT, Right.ADMIN})
SIZES = (100, 1_600)
STEPS = 100
"""That one call has at the greatest size, beyond those at the least: what a deeper index takes."""

sqlite_only = pytest.mark.parametrize("kind", ["wal"], indirect=True)


@pytest.fixture
async def limited(store: Store) -> Store:
    """Ann may have one job at engines at a time."""
    key = ApiKey(name="ann", digest=digest_of("ann"), rights=RIGHTS, created_at=1, max_running=1)
    await store.add_key(key)
    return store


async def fill(store: Store, count: int, **fields: Any) -> None:
    for at in range(0, count, 100):
        await store.add_jobs(
            [submission(queued_event(**fields), max_queued=10_000) for _ in range(min(100, count - at))]
        )


def steps_of(connection: Connection, work: Callable[[], object]) -> int:
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    connection.driver_connection.set_progress_handler(step, 1)
    try:
        work()
    finally:
        connection.driver_connection.set_progress_handler(None, 1)
    return steps


@contextmanager
def held(store: Store) -> Iterator[list[int]]:
    """The steps of each transaction of the writer."""
    write, found = store._writer.do, list[int]()

    async def counted(work: Callable[[Connection], Any]) -> Any:
        result: list[Any] = []
        found.append(await write(lambda each: steps_of(each, lambda: result.append(work(each)))))
        return result[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store._writer, "do", counted)
        yield found


async def claim(store: Store, lease: Lease, chooser: Chooser | None = None, *, admitted: bool = False) -> Any:
    admission = Admission(engine=lease.engine, rooms=Rooms()) if admitted else None
    found = await store.claim_next(
        lease, prompt_id=new_prompt_id(), now=2_000, chooser=chooser, admission=admission
    )
    return None if found is None else found.job


@sqlite_only
async def test_a_claim_takes_as_many_steps_however_much_a_client_at_its_limit_has_queued(
    limited: Store,
) -> None:
    lease = await lease_on(limited)
    await fill(limited, 3, client="ann")
    assert (await claim(limited, lease)).client == "ann"
    found: dict[str, list[int]] = {"nothing": [], "another": [], "any": [], "no": []}
    for size in SIZES:
        await fill(limited, size, client="ann")
        offer = ClaimOffer(lease=lease, prompt_id=new_prompt_id())

        def counted(name: str, work: Callable[[Connection], object]) -> Callable[[Connection], None]:
            return lambda connection: found[name].append(steps_of(connection, lambda: work(connection)))

        def claimed(client: str | None, offer: ClaimOffer, connection: Connection) -> None:
            got = claims.claim_next(connection, offer, 2_000)
            assert (None if got is None else got.job.client) == client

        def waits(answer: bool, connection: Connection) -> None:
            assert claims.any_waits(connection, 2_000, "local") is answer

        await limited._writer.do(counted("nothing", partial(claimed, None, offer)))
        await limited._writer.do(counted("no", partial(waits, False)))
        await fill(limited, 1, client="bob")
        await limited._writer.do(counted("any", partial(waits, True)))
        await limited._writer.do(counted("another", partial(claimed, "bob", offer)))
    for name, (few, many) in found.items():
        assert many <= few + STEPS, (name, few, many)


@sqlite_only
async def test_the_view_of_the_queue_takes_as_many_steps_however_long_it_is(store: Store) -> None:
    found = []
    for size in SIZES:
        await fill(store, size)
        found.append(
            await store._readers.do(
                lambda connection: steps_of(connection, lambda: reads.run_order(connection, 20))
            )
        )
    assert found[1] <= found[0] + STEPS, found


@sqlite_only
async def test_a_look_for_what_an_end_has_left_is_at_some_jobs_only(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chains, "LOOKED_AT", 50)
    parent, _ = await store.add_job(queued_event(), GRAPH, max_queued=10)
    found = []
    for size in SIZES:
        await fill(store, size, after=(Parent(id=parent.id),))
        found.append(
            await store._readers.do(
                lambda connection: steps_of(connection, lambda: chains.look(connection, 0))
            )
        )
    assert found[1] <= found[0] + STEPS, found


async def test_what_an_end_has_left_is_found_wherever_it_stands(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chains, "LOOKED_AT", 5)
    monkeypatch.setattr(chains, "AT_ONCE", 3)
    first, other = [(await store.add_job(queued_event(), GRAPH, max_queued=10))[0] for _ in range(2)]
    for parent in (other, first, other):
        await fill(store, 12, after=(Parent(id=parent.id),))
    lease = await lease_on(store)
    job = await claim(store, lease)
    assert job.id == first.id
    await store.record(lease, first.id, [completed(job)])
    settled = [await store.settle_chains(now=4_000) for _ in range(12 * 3)]
    assert sum(settled) == 12 - 3
    assert len((await store.queue(100)).queued) == 1 + 12
    assert [job.after[0].id for job in (await store.queue(100)).blocked] == [other.id] * 24


@pytest.mark.parametrize("admitted", [False, True])
@pytest.mark.parametrize("engine", [None, Engine("A"), Engine("A", sure=True)], ids=["any", "one", "sure"])
async def test_the_others_have_their_turns_as_if_it_had_nothing_queued(
    limited: Store, admitted: bool, engine: Engine | None
) -> None:
    choose = random.Random(int(admitted))
    lease = await lease_on(limited)
    await fill(limited, 1, client="ann", priority=Priority.HIGH)
    assert (await claim(limited, lease)).client == "ann"
    unfit = set[JobId]()
    for _ in range(30):
        event = queued_event(
            client=choose.choice(["ann", "ann", "bob", "cy"]), priority=choose.choice([*Priority])
        )
        kind = choose.choice("AAB")
        job, _ = await limited.add_job(event, GRAPH, max_queued=100, needs=needs(kind))
        if kind == "B" and engine is not None:
            unfit.add(job.id)
    waiting = [job for job in (await limited.queue(100)).queued if not job.is_claimed]
    expected = [job.id for job in waiting if job.client != ClientId("ann") and job.id not in unfit][:12]
    assert await limited.any_waits(now=2_000)
    taken = [await claim(limited, lease, engine, admitted=admitted) for _ in expected]
    assert [job.id for job in taken] == expected
