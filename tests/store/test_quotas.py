"""How much of the queue one client may fill."""

import contextlib
from typing import Any

import pytest

from comfy_mcp.domain.access import ApiKey, Right, digest_of
from comfy_mcp.domain.errors import ErrorCode, LimitExceeded
from comfy_mcp.store import Store
from comfy_mcp.store.codec import Texts
from tests.support.jobs import GRAPH, queued_event

SUBMIT = frozenset({Right.READ, Right.SUBMIT})
BYTES = Texts.of(GRAPH, None).size


async def a_key(store: Store, name: str, rights: frozenset[Right] = SUBMIT, **quota: int) -> None:
    key = ApiKey(name=name, digest=digest_of(name), rights=rights, created_at=1, **quota)
    await store.add_key(key)
    assert key in await store.keys()


async def submit(store: Store, client: str, count: int, *, most: int = 20) -> int:
    """How many of them the queue took."""
    taken = 0
    for _ in range(count):
        with contextlib.suppress(LimitExceeded):
            await store.add_job(queued_event(client=client), GRAPH, max_queued=most)
            taken += 1
    return taken


async def test_a_client_with_a_key_leaves_a_quarter_of_the_queue_to_others(store: Store) -> None:
    await a_key(store, "ann")
    await a_key(store, "bob")
    assert await submit(store, "ann", 30) == 15
    assert await submit(store, "bob", 30) == 5


@pytest.mark.parametrize("client", ["local", "chief"])
async def test_the_person_at_the_machine_and_an_administrator_may_fill_it(store: Store, client: str) -> None:
    await a_key(store, "chief", SUBMIT | {Right.ADMIN})
    assert await submit(store, client, 30) == 20


async def test_a_key_has_a_quota_of_jobs_that_counts_what_waits(store: Store) -> None:
    await a_key(store, "ann", max_queued=2)
    await a_key(store, "chief", SUBMIT | {Right.ADMIN}, max_queued=3)
    assert await submit(store, "bob", 5) == 5
    assert await submit(store, "ann", 5) == 2
    assert await submit(store, "chief", 5) == 3
    with pytest.raises(LimitExceeded, match="You have 2 queued workflows, the limit of your key") as full:
        await store.add_job(queued_event(client="ann"), GRAPH, max_queued=20)
    assert full.value.code is ErrorCode.QUEUE_FULL
    for job in (await store.queue(20)).queued:
        if job.client == "ann":
            await store.request_cancel(job.id, at=5, reason=None)
    assert await submit(store, "ann", 5) == 2


async def test_a_key_has_a_quota_of_bytes(store: Store) -> None:
    await a_key(store, "ann", max_queued_bytes=3 * BYTES + BYTES // 2)
    assert await submit(store, "bob", 1) == 1
    assert await submit(store, "ann", 9) == 3
    with pytest.raises(LimitExceeded, match=f"{3 * BYTES} bytes and this one {BYTES}"):
        await store.add_job(queued_event(client="ann"), GRAPH, max_queued=20)


async def test_a_refused_job_leaves_nothing(store: Store) -> None:
    await a_key(store, "ann", max_queued=1)
    await submit(store, "ann", 1)
    before: Any = (await store.last_seq(), await store.counts())
    assert await submit(store, "ann", 3) == 0
    assert (await store.last_seq(), await store.counts()) == before


async def test_the_quota_of_bytes_holds_for_the_first_workflow_too(store: Store) -> None:
    await a_key(store, "ann", max_queued_bytes=BYTES - 1)
    await a_key(store, "bob", max_queued_bytes=BYTES)
    assert await submit(store, "ann", 1) == 0
    assert await submit(store, "bob", 2) == 1
