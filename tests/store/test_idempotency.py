"""Submits that are repeated under an idempotency key."""

import asyncio
from functools import partial
from uuid import uuid4

import pytest

from comfy_mcp.domain.access import Idempotency
from comfy_mcp.domain.errors import Conflict, ErrorCode
from comfy_mcp.domain.events import JobQueued, Priority
from comfy_mcp.domain.ids import ClientId, JobId
from comfy_mcp.settings import Settings
from comfy_mcp.store import Store, idempotency

GRAPH = {"1": {"class_type": "EmptyImage", "inputs": {}}}


def queued(client: str = "anna", at: int = 1_000) -> JobQueued:
    return JobQueued(
        job_id=JobId(str(uuid4())),
        at=at,
        client=ClientId(client),
        lane="local",
        priority=Priority.NORMAL,
        node_count=1,
    )


def use(key: str = "k", digest: str = "d", since: int = 0, client: str = "anna") -> Idempotency:
    return Idempotency(client=ClientId(client), key=key, digest=digest, since=since)


async def submit(store: Store, event: JobQueued, idempotency: Idempotency | None) -> tuple[JobId, int]:
    job, position = await store.add_job(event, GRAPH, max_queued=100, idempotency=idempotency)
    return job.id, position


async def test_a_repeated_submit_gets_the_first_answer_and_makes_no_second_job(store: Store) -> None:
    await submit(store, queued(), None)
    first = await submit(store, queued(), use())
    await submit(store, queued(), None)
    assert await submit(store, queued(), use()) == first
    assert sum((await store.counts()).values()) == 3
    assert first[1] == 2


async def test_many_at_once_under_one_key_are_one_job(store: Store) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(submit(store, queued(), use())) for _ in range(50)]
    assert len({task.result() for task in tasks}) == 1
    assert sum((await store.counts()).values()) == 1


async def test_two_processes_at_once_under_one_key_are_one_job(store: Store, settings: Settings) -> None:
    other = await Store.open(settings)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(submit(each, queued(), use())) for each in (store, other) * 20]
    await other.close()
    assert len({task.result() for task in tasks}) == 1


async def test_a_key_used_for_something_else_is_refused_and_writes_nothing(store: Store) -> None:
    await submit(store, queued(), use())
    with pytest.raises(Conflict) as caught:
        await submit(store, queued(), use(digest="other"))
    assert caught.value.code is ErrorCode.IDEMPOTENCY_MISMATCH
    assert sum((await store.counts()).values()) == 1


async def test_keys_belong_to_their_client_and_end_with_their_time(store: Store) -> None:
    first = await submit(store, queued("anna"), use())
    assert await submit(store, queued("ben"), use(client="ben")) != first
    later = await submit(store, queued("anna", at=5_000), use(digest="other", since=2_000))
    assert later != first
    assert await submit(store, queued("anna", at=6_000), use(digest="other", since=2_000)) == later


async def test_old_keys_are_forgotten_and_their_jobs_stay(store: Store) -> None:
    first = await submit(store, queued(at=1_000), use())
    assert await store.forget_idempotency_keys(before=1_000) == 0
    assert await store.forget_idempotency_keys(before=1_001) == 1
    assert await store.get_job(first[0]) is not None
    assert await submit(store, queued(), use(digest="other")) != first


async def test_old_keys_are_forgotten_in_parts(store: Store) -> None:
    await submit(store, queued(at=1_000), use())
    copied = "client, digest, job_id, position"
    sql = (
        f"INSERT INTO idempotency_keys (key, created_at, {copied}) WITH RECURSIVE each(n) AS "
        f"(SELECT 1 UNION ALL SELECT n + 1 FROM each WHERE n < {idempotency.AT_ONCE}) "
        f"SELECT 'key' || n, 1000, {copied} FROM each, idempotency_keys"
    )
    await store._writer.do(lambda connection: connection.exec_driver_sql(sql))
    part = partial(idempotency.forget_uses, before=1_001)
    assert [await store._writer.do(part) for _ in range(3)] == [idempotency.AT_ONCE, 1, 0]
