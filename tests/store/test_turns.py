"""Turns of clients within a priority, through the store: what is claimed, and which places are told."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from sqlalchemy import select

from comfy_mcp.domain import fair_share
from comfy_mcp.domain.events import FailureKind, JobRequeued, Priority
from comfy_mcp.domain.ids import EngineId, JobId
from comfy_mcp.domain.job import Job
from comfy_mcp.settings import load_settings
from comfy_mcp.store import Claim, Lease, Store, turns
from comfy_mcp.store.connection import Connection, Statement
from comfy_mcp.store.schema import client_shares
from tests.support.invariants import check_store
from tests.support.jobs import GRAPH, completed, new_prompt_id, queued_event, requeued
from tests.support.plans import plan_of

ENGINE = EngineId("engine")
CLIENTS = st.sampled_from("abc")
few = profile(max_examples=15, deadline=None, database=None)


class Queue:
    """A store, one engine's lease, and short ways to both."""

    def __init__(self, store: Store, lease: Lease) -> None:
        self.store = store
        self.lease = lease
        self.owners: dict[JobId, str] = {}

    async def submit(self, client: str, **options: Any) -> tuple[Job, int]:
        fair = options.pop("fair", True)
        event = queued_event(client=client, **options)
        job, position = await self.store.add_job(event, GRAPH, max_queued=1_000, fair=fair)
        self.owners[job.id] = client
        return job, position

    async def claim(self) -> Claim | None:
        return await self.store.claim_next(self.lease, prompt_id=new_prompt_id(), now=2_000)

    async def run(self) -> JobId | None:
        """The next job, to its end."""
        claim = await self.claim()
        if claim is None:
            return None
        await self.store.record(self.lease, claim.job.id, [completed(claim.job)])
        return claim.job.id

    async def rest(self) -> list[JobId]:
        """All that wait, run in their order."""
        ran: list[JobId] = []
        while (job_id := await self.run()) is not None:
            ran.append(job_id)
        return ran

    async def cancel(self, job_id: JobId) -> None:
        await self.store.request_cancel(job_id, at=3_000, reason=None)

    async def waiting(self) -> list[JobId]:
        return [job.id for job in (await self.store.queue(1_000)).queued]

    def clients(self, jobs: list[JobId]) -> str:
        return "".join(self.owners[job_id] for job_id in jobs)


async def queue_of(store: Store) -> Queue:
    lease = await store.acquire_lease(ENGINE, "me", 60)
    assert lease is not None
    return Queue(store, lease)


@asynccontextmanager
async def open_queue() -> AsyncIterator[Queue]:
    """One of its own for each example."""
    with tempfile.TemporaryDirectory() as folder:
        store = await Store.open(load_settings(state_dir=Path(folder) / "state"))
        try:
            yield await queue_of(store)
            await check_store(store)
        finally:
            await store.close()


async def test_who_comes_with_one_job_is_second_behind_a_flood(store: Store) -> None:
    queue = await queue_of(store)
    for place in range(1, 51):
        assert (await queue.submit("a"))[1] == place
    one, place = await queue.submit("b")
    assert place == 2
    assert await store.queue_position(one.id) == 2
    assert queue.clients(await queue.rest()) == "ab" + "a" * 49


async def test_who_comes_while_others_run_is_next(store: Store) -> None:
    queue = await queue_of(store)
    for _ in range(5):
        await queue.submit("a")
    await queue.run()
    await queue.claim()
    one, place = await queue.submit("b")
    assert place == 2  # behind what the engine has
    assert (await queue.waiting())[1] == one.id


async def test_clients_with_jobs_waiting_take_turns_whatever_they_queued_first(store: Store) -> None:
    queue = await queue_of(store)
    for client in "aaaabbbcc":
        await queue.submit(client)
    assert queue.clients(await queue.rest()) == "abcabcaba"


async def test_priority_comes_first_and_each_priority_has_turns_of_its_own(store: Store) -> None:
    queue = await queue_of(store)
    for client, priority in [
        ("a", Priority.LOW), ("a", Priority.HIGH), ("a", Priority.HIGH), ("b", Priority.LOW),
        ("b", Priority.HIGH), ("a", Priority.LOW), ("b", Priority.LOW),
    ]:  # fmt: skip
        await queue.submit(client, priority=priority)
    assert queue.clients(await queue.rest()) == "aba" + "abab"


async def test_a_lower_priority_gets_one_claim_in_sixteen_while_it_waits(store: Store) -> None:
    queue = await queue_of(store)
    for _ in range(2):
        await queue.submit("a", priority=Priority.LOW)
    for _ in range(40):
        await queue.submit("b")
    assert queue.clients(await queue.rest()) == "b" * 15 + "a" + "b" * 15 + "a" + "b" * 10


async def test_a_flood_of_high_ones_starves_neither_of_the_lower_priorities(store: Store) -> None:
    queue = await queue_of(store)
    for client, priority in [("l", Priority.LOW), ("n", Priority.NORMAL), ("l", Priority.LOW)]:
        await queue.submit(client, priority=priority)
    for _ in range(40):
        await queue.submit("h", priority=Priority.HIGH)
    assert queue.clients(await queue.rest()) == "h" * 15 + "ln" + "h" * 14 + "l" + "h" * 11


async def test_an_engine_that_may_have_none_of_the_passed_ones_takes_the_others(store: Store) -> None:
    queue = await queue_of(store)
    low, _ = await queue.submit("a", priority=Priority.LOW)
    claim = None
    for _ in range(16):
        await queue.submit("b")
        claim = await queue.claim()
        assert claim is not None
    assert claim is not None
    assert claim.job.id == low.id
    refusal = JobRequeued(job_id=low.id, at=3_000, attempt=1, reason="no", cause=FailureKind.VALIDATION)
    await store.record(queue.lease, low.id, [refusal])
    taken = [await queue.claim() for _ in range(3)]
    assert queue.clients([each.job.id for each in taken if each is not None]) == "b"


@given(st.lists(st.tuples(st.sampled_from([*Priority, None]), CLIENTS), max_size=60))
@few
async def test_no_priority_waits_for_more_than_a_bounded_number_of_claims(
    steps: list[tuple[Priority | None, str]],
) -> None:
    """Whatever comes: PASSES claims of higher ones, and one for each other priority that is due as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fair_share, "PASSES", 3)
        async with open_queue() as queue:
            waits: Counter[Priority] = Counter()
            passed: Counter[Priority] = Counter()
            for priority, client in [*steps, *[(None, "a")] * 60]:
                if priority is not None:
                    await queue.submit(client, priority=priority)
                    waits[priority] += 1
                elif (claim := await queue.claim()) is not None:
                    taken = claim.job.priority
                    waits[taken], passed[taken] = waits[taken] - 1, 0
                    for each in Priority:
                        passed[each] += each is not taken and waits[each] > 0
                        assert passed[each] <= 3 + len(Priority) - 1
            assert not any(waits.values())


async def test_nobody_saves_up_turns_while_away(store: Store) -> None:
    queue = await queue_of(store)
    for client in "aaaaaa":
        await queue.submit(client)
    for _ in range(3):
        await queue.run()
    for client in "bbb":
        await queue.submit(client)
    assert queue.clients(await queue.rest()) == "bababa"


async def test_a_job_that_is_queued_again_keeps_its_place_and_pays_once(store: Store) -> None:
    queue = await queue_of(store)
    first = (await queue.submit("a"))[0]
    for client in "aab":
        await queue.submit(client)
    claim = await queue.claim()
    assert claim is not None
    await store.record(queue.lease, first.id, [requeued(claim.job)])
    assert (await queue.waiting())[0] == first.id
    assert await store.queue_position(first.id) == 1
    again = await queue.rest()
    assert again[0] == first.id
    assert queue.clients(again) == "abaa"
    assert (await queue.submit("a"))[1] == 1


async def test_cancelled_jobs_cost_no_turn(store: Store) -> None:
    queue = await queue_of(store)
    first, *others = [(await queue.submit("a"))[0].id for _ in range(20)]
    for _ in range(4):
        await queue.submit("b")
    for job_id in (others[3], first, *others[:3], *others[4:-2]):
        await queue.cancel(job_id)
    ran = await queue.rest()
    assert queue.clients(ran) == "abab" + "bb"
    assert [job_id for job_id in ran if queue.owners[job_id] == "a"] == others[-2:]


async def test_jobs_that_waited_too_long_cost_no_turn(store: Store) -> None:
    queue = await queue_of(store)
    for _ in range(5):
        late = replace(queued_event(client="a"), queue_timeout_ms=5)
        await store.add_job(late, GRAPH, max_queued=1_000)
    mine = (await queue.submit("a"))[0]
    for _ in range(2):
        await queue.submit("b")
    assert len(await store.expire_overdue(now=1_900)) == 5
    assert (await queue.rest())[0] == mine.id


async def test_switched_off_jobs_run_by_age(store: Store) -> None:
    queue = await queue_of(store)
    jobs = [await queue.submit(client, fair=False) for client in "aaabab"]
    assert [place for _, place in jobs] == [1, 2, 3, 4, 5, 6]
    await queue.cancel(jobs[1][0].id)
    ran = await queue.run()
    later = await queue.submit("c", fair=False)
    order = [job.id for job, _ in (*jobs, later)]
    order.remove(jobs[1][0].id)
    assert [ran, *await queue.rest()] == order


@few
@given(
    steps=st.lists(st.tuples(st.sampled_from(["submit", "submit", "run", "cancel"]), CLIENTS), max_size=30),
    number=st.integers(0, 1_000),
)
def test_one_job_waits_for_at_most_one_of_each_other_client_and_clients_run_by_age(
    steps: list[tuple[str, str]], number: int
) -> None:
    async def check() -> None:
        async with open_queue() as queue:
            ran: list[JobId] = []
            for what, client in steps:
                waiting = await queue.waiting()
                if what == "submit":
                    await queue.submit(client)
                elif what == "run":
                    ran += [job for job in [await queue.run()] if job is not None]
                    assert ran[-1:] == waiting[:1] or not waiting
                elif waiting:
                    await queue.cancel(waiting[number % len(waiting)])
            one, place = await queue.submit("light")
            told = await queue.waiting()
            assert told.index(one.id) == place - 1
            assert [await queue.store.queue_position(job_id) for job_id in told] == [*range(1, len(told) + 1)]
            ahead = queue.clients(told[: place - 1])
            assert max(Counter(ahead).values(), default=0) <= 1
            ran += await queue.rest()
            assert one.id in ran[-len(told) :]
            for client in "abc":
                mine = [job_id for job_id, owner in queue.owners.items() if owner == client]
                done = [job_id for job_id in ran if queue.owners[job_id] == client]
                assert done == [job_id for job_id in mine if job_id in done]

    asyncio.run(check())


@few
@given(clients=st.lists(CLIENTS, min_size=1, max_size=24), fair=st.booleans())
def test_whoever_has_jobs_waiting_has_had_as_many_turns_as_the_others_and_without_shares_age_decides(
    clients: list[str], fair: bool
) -> None:
    async def check() -> None:
        async with open_queue() as queue:
            jobs = [(await queue.submit(client, fair=fair))[0].id for client in clients]
            told = await queue.waiting()
            ran = await queue.rest()
            assert told == ran
            if not fair:
                assert ran == jobs
                return
            left, had = Counter(clients), Counter[str]()
            for client in queue.clients(ran):
                left[client] -= 1
                had[client] += 1
                hungry = [had[each] for each in left if left[each]]
                assert not hungry or max(had.values()) - min(hungry) <= 1

    asyncio.run(check())


async def test_shares_that_change_nothing_any_more_are_forgotten(store: Store) -> None:
    queue = await queue_of(store)
    for client in "abbbcc":
        await queue.submit(client)
    await queue.rest()

    def kept(connection: Connection) -> dict[str, int]:
        return {row.client: row.tag for row in connection.execute(select(client_shares))}

    assert await store._readers.do(kept) == {"a": 0, "b": 2, "c": 1}
    assert await store.prune(now=10_000, retention_days=0, retention_jobs=1) == 5
    assert await store._readers.do(kept) == {"b": 2}
    assert [(await queue.submit(client))[1] for client in "bac"] == [1, 1, 2]


@pytest.mark.parametrize("kind", ["wal", "truncate"], indirect=True)
async def test_every_query_for_a_turn_uses_an_index(store: Store) -> None:
    queries = {
        "ix_jobs_client_queue": (turns._STANDING, turns._MOVE_UP),
        "ix_jobs_queue": (turns._STANDING, turns._AHEAD),
        "sqlite_autoindex_client_shares_1": (turns._STANDING,),
    }

    def plan(statement: Statement, connection: Connection) -> str:
        return " | ".join(plan_of(connection, statement))

    for index, statements in queries.items():
        for statement in statements:
            found = await store._readers.do(partial(plan, statement))
            assert f" {index} " in f"{found} ", found
            assert "TEMP B-TREE" not in found, found
            assert "SCAN jobs" not in found, found
