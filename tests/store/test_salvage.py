"""A job's row that can't be decoded is that job's trouble: all others are claimed, adopted and shown."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from comfy_mcp.domain.access import ApiKey, Right
from comfy_mcp.domain.catalog import OutputKind, OutputQuery
from comfy_mcp.domain.events import FailureKind
from comfy_mcp.domain.ids import JobId
from comfy_mcp.domain.job import CancelAnswer, Job, JobStatus
from comfy_mcp.settings import Settings
from comfy_mcp.store import JobQuery, Store
from tests.support.jobs import completed, new_prompt_id, output_of_job, started
from tests.support.leases import add, claim, expire, lease_on
from tests.support.raw_sql import run

GARBAGE: dict[str, Any] = {
    "priority": 77,
    "failure": '{"kind":"of_a_newer_version"',
    "warnings": "{not json",
    "waiting_for": '{"reason":"of_a_newer_version"}',
    "started_at": b"\xff\x00",
    "finished_at": "when?",
    "created_at": "long ago",
    "current_node": b"\xff",
    "eta_ms": "soon",
    "node_count": "many",
    "output_count": "some",
    "queue_timeout_ms": 1.5,
    "run_timeout_ms": b"",
    "peak_vram_bytes": "all",
    "shape": b"\x00",
    "cancel_reason": b"\x01",
    "name": b"\xff",
    "batch": b"\xff",
    "refused_by": "{",
}
"""What this version can't read, by column."""


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    store = await Store.open(settings)
    yield store
    await store.close()


async def spoil(store: Store, job_id: JobId, column: str, value: object, *, table: str = "jobs") -> None:
    key = "id" if table == "jobs" else "job_id"

    def write(connection: Any) -> None:
        run(
            connection,
            f"UPDATE {table} SET {column} = ? WHERE {key} = ?",
            (value, job_id),
        )

    await store._writer.do(write)


async def seen(store: Store, job_id: JobId) -> Job:
    job = await store.get_job(job_id)
    assert job is not None
    return job


def is_internal(job: Job) -> bool:
    return (
        job.status is JobStatus.FAILED
        and job.failure is not None
        and (job.failure.kind is FailureKind.INTERNAL)
    )


@pytest.mark.parametrize("column", GARBAGE)
async def test_the_next_job_is_claimed_past_one_that_cant_be_read(store: Store, column: str) -> None:
    bad, good = await add(store), await add(store)
    await spoil(store, bad.id, column, GARBAGE[column])
    lease = await lease_on(store)
    assert (await claim(store, lease)).job.id == good.id
    assert await store.claim_next(lease, prompt_id=new_prompt_id(), now=1_600) is None
    shown = await seen(store, bad.id)
    assert is_internal(shown)
    assert shown.failure is not None
    assert column in shown.failure.message
    assert [each.event.type for each in await store.events_after(0, job_id=bad.id)] == ["queued", "failed"]


@pytest.mark.parametrize("column", GARBAGE)
async def test_a_takeover_adopts_the_others(store: Store, column: str) -> None:
    lease = await lease_on(store)
    for _ in range(2):
        await add(store)
    first, second = await claim(store, lease), await claim(store, lease)
    await spoil(store, first.job.id, column, GARBAGE[column])
    await expire(store)
    (adopted,) = await store.adopt(await lease_on(store, holder="another"))
    assert adopted.job.id == second.job.id
    assert is_internal(await seen(store, first.job.id))
    (attempt,) = await store.attempts_of(first.job.id)
    assert attempt.outcome == "failed"


async def test_what_was_submitted_beside_the_graph_counts_as_the_row(store: Store) -> None:
    bad, good = await add(store), await add(store)
    await spoil(store, bad.id, "submitted", '{"of": "a newer version"}', table="graphs")
    assert (await claim(store, await lease_on(store))).job.id == good.id
    assert is_internal(await seen(store, bad.id))


@pytest.mark.parametrize("column", [*GARBAGE, "status"])
async def test_lists_and_the_queue_are_shown_with_it(store: Store, column: str) -> None:
    bad, good = await add(store), await add(store)
    await spoil(store, bad.id, column, GARBAGE.get(column, "of_a_newer_version"))
    page = await store.list_views(JobQuery())
    assert {view.job.id for view in page.items} == {bad.id, good.id}
    assert good.id in {job.id for job in (await store.queue(50)).queued}
    assert is_internal(await seen(store, bad.id))


async def test_one_that_has_ended_stays_what_it_is(store: Store) -> None:
    job, lease = await add(store), await lease_on(store)
    job = (await claim(store, lease)).job
    await store.record(lease, job.id, [started(job), completed(job)])
    await spoil(store, job.id, "warnings", "{")
    assert (await seen(store, job.id)).status is JobStatus.COMPLETED


@pytest.mark.parametrize("column", [*GARBAGE, "status"])
async def test_it_can_be_abandoned(store: Store, column: str) -> None:
    job = await add(store)
    await spoil(store, job.id, column, GARBAGE.get(column, "of_a_newer_version"))
    ended = await store.abandon(job.id, at=5_000, reason="it is in the way")
    assert ended is not None
    assert is_internal(ended)
    assert await seen(store, job.id) == ended
    assert await store.abandon(job.id, at=6_000, reason="again") is None


async def test_a_cancel_ends_it(store: Store) -> None:
    job = await add(store)
    await spoil(store, job.id, "warnings", "{")
    ended, answer = await store.request_cancel(job.id, at=5_000, reason=None)
    assert answer is CancelAnswer.TOO_LATE
    assert is_internal(ended)


async def test_deadlines_of_others_are_kept(store: Store) -> None:
    jobs = [await add(store), await add(store)]
    for job in jobs:
        await spoil(store, job.id, "queue_deadline", 2_000)
    await spoil(store, jobs[0].id, "warnings", "{")
    ended = await store.expire_overdue(now=3_000)
    assert {job.id for job in ended} == {job.id for job in jobs}
    assert [(await seen(store, job.id)).failure for job in jobs] == [job.failure for job in ended]


async def test_the_holders_next_write_finds_it_ended(store: Store) -> None:
    """Its own knowledge of the row carries the write; nothing is decoded that it does not need."""
    await add(store)
    lease = await lease_on(store)
    job = (await claim(store, lease)).job
    await spoil(store, job.id, "waiting_for", "{")
    await store.record(lease, job.id, [started(job), completed(job)])
    assert (await seen(store, job.id)).status is JobStatus.COMPLETED


async def test_events_that_cant_be_read_are_left_out_and_the_rest_is_paged(store: Store) -> None:
    jobs = [await add(store) for _ in range(6)]
    for job in jobs[1:4]:
        await spoil(store, job.id, "type", "of_a_newer_version", table="events")
    events = await store.events_after(0, limit=2)
    assert [each.event.job_id for each in events] == [jobs[0].id, jobs[4].id]
    assert [each.event.job_id for each in await store.events_after(events[-1].seq, limit=2)] == [jobs[5].id]


async def test_an_output_of_an_unknown_kind_is_a_file(store: Store) -> None:
    await add(store)
    lease = await lease_on(store)
    job = (await claim(store, lease)).job
    made = output_of_job(job)
    await store.record(lease, job.id, [started(job), completed(job, output_count=1)], outputs=[made])
    await spoil(store, job.id, "kind", "hologram", table="outputs")
    (shown,) = (await store.list_outputs(OutputQuery())).items
    assert shown.file.kind is OutputKind.FILE


async def test_a_right_of_a_newer_version_is_none_here(store: Store) -> None:
    key = ApiKey(name="ci", digest="d", rights=frozenset({Right.READ}), created_at=1)
    await store.add_key(key)

    def newer(connection: Any) -> None:
        run(connection, "UPDATE api_keys SET rights = 'read teleport'")

    await store._writer.do(newer)
    assert [each.rights for each in await store.keys()] == [frozenset({Right.READ})]
