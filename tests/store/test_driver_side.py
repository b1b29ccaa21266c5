"""What a driver writes, its process shows without reading it again, and as anybody else reads it."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from comfy_mcp.domain.catalog import OutputFound
from comfy_mcp.domain.events import JobEvent
from comfy_mcp.domain.ids import EngineId, JobId
from comfy_mcp.domain.job import IllegalTransition, Job, JobStatus
from comfy_mcp.settings import Settings
from comfy_mcp.store import ClaimOffer, Lease, Store
from tests.support.jobs import (
    GRAPH,
    cancelled,
    completed,
    failed,
    new_prompt_id,
    output_of_job,
    outputs_of,
    queued_event,
    requeued,
    started,
    submission,
)

ENGINE = EngineId("engine")


class Two:
    """Two processes on one store: the first drives the engine, the second only reads."""

    def __init__(self, driving: Store, reading: Store, lease: Lease, reads: list[float]) -> None:
        self.driving = driving
        self.reading = reading
        self.lease = lease
        self.reads = reads

    def room(self, **fields: Any) -> ClaimOffer:
        return ClaimOffer(lease=self.lease, prompt_id=new_prompt_id(), **fields)

    async def claimed(self, **fields: Any) -> Job:
        job, _, claim = await self.driving.add_and_claim(submission(queued_event(**fields)), self.room())
        assert claim is not None
        return job

    async def seen(self, job_id: JobId) -> int:
        """How often the store is read for a view of the job, which is as the other process sees it."""
        before = len(self.reads)
        view = await self.driving.view_job(job_id)
        count = len(self.reads) - before
        await asyncio.sleep(0)  # nobody hears of another process's commit in the step in which it is made
        assert view == await self.reading.view_job(job_id)
        return count


@pytest.fixture
async def two(settings: Settings) -> Any:
    reads: list[float] = []
    driving, reading = await Store.open(settings, on_read=reads.append), await Store.open(settings)
    lease = await driving.acquire_lease(ENGINE, "me", 60.0)
    assert lease is not None
    await driving.view_job(JobId("unknown"))  # from here on the version is known
    yield Two(driving, reading, lease, reads)
    await driving.close()
    await reading.close()


def ends(job: Job) -> dict[str, JobEvent]:
    return {
        "completed": completed(job, output_count=2),
        "failed": failed(job),
        "cancelled": cancelled(job),
    }


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
async def test_a_job_is_shown_from_its_submit_to_its_end_without_a_read(two: Two, end: str) -> None:
    job = await two.claimed()
    assert await two.seen(job.id) == 0
    made = [output_of_job(job, f"{number}.png") for number in range(2)] if end == "completed" else []
    await two.driving.record(two.lease, job.id, [started(job), ends(job)[end]], outputs=made)
    assert await two.seen(job.id) == 0
    await two.claimed()
    assert await two.seen(job.id) == 0, "what happens to another job changes nothing"


async def test_a_job_that_starts_is_read_once(two: Two) -> None:
    job = await two.claimed()
    await two.driving.record(two.lease, job.id, [started(job)])
    assert [await two.seen(job.id) for _ in range(2)] == [1, 0]


async def test_a_place_in_the_queue_is_read_again_after_any_event(two: Two) -> None:
    first = await two.claimed()
    waiting, _ = await two.driving.add_job(queued_event(), {"1": {}}, max_queued=9)
    assert [await two.seen(waiting.id) for _ in range(2)] == [1, 0]
    await two.driving.record(two.lease, first.id, [completed(first)])
    assert await two.seen(waiting.id) == 1


async def test_what_an_attempt_before_has_left_is_read(two: Two) -> None:
    first = await two.claimed()
    half, whole = output_of_job(first, "half.png"), output_of_job(first, "whole.png")
    await two.driving.record(two.lease, first.id, [started(first), requeued(first)], outputs=[half])
    claim = await two.driving.claim_next(two.lease, prompt_id=new_prompt_id(), now=1)
    assert claim is not None
    await two.driving.record(two.lease, first.id, [completed(claim.job, output_count=2)], outputs=[whole])
    assert await two.seen(first.id) == 1
    assert await outputs_of(two.driving, first.id) == [half, whole]


async def test_outputs_come_with_the_end_of_an_attempt(two: Two) -> None:
    job = await two.claimed()
    with pytest.raises(ValueError, match="end of an attempt"):
        await two.driving.record(two.lease, job.id, [started(job)], outputs=[output_of_job(job)])
    assert await two.seen(job.id) == 0


@pytest.mark.parametrize("name", ["half \ud800.png", "nul \0.png", "snow \u2603.png"])
async def test_a_text_that_the_database_may_change_is_read(two: Two, name: str) -> None:
    job = await two.claimed()
    end = completed(job, output_count=1)
    await two.driving.record(two.lease, job.id, [end], outputs=[output_of_job(job, name)])
    assert await two.seen(job.id) == 1
    stranger = await two.claimed(client=name)
    assert await two.seen(stranger.id) == 1


async def test_what_else_is_written_of_a_final_job_is_seen(two: Two) -> None:
    job = await two.claimed()
    made = output_of_job(job)
    await two.driving.record(two.lease, job.id, [completed(job, output_count=1)], outputs=[made])
    assert await two.seen(job.id) == 0
    for size, store in enumerate((two.driving, two.reading)):
        await store.update_outputs([OutputFound(id=made.id, size=size)])
        assert await two.seen(job.id) == 1


async def test_a_retry_by_whomever_is_seen(two: Two) -> None:
    job = await two.claimed()
    await two.driving.record(two.lease, job.id, [failed(job)])
    assert await two.seen(job.id) == 0
    for store in (two.driving, two.reading):
        await store.add_job(replace(queued_event(), retry_of=job.id), {"1": {}}, max_queued=9)
        assert await two.seen(job.id) == 1


async def test_an_output_that_was_just_written_is_found_without_a_read(two: Two) -> None:
    job = await two.claimed()
    made = output_of_job(job)
    await two.driving.record(two.lease, job.id, [completed(job, output_count=1)], outputs=[made])
    before = len(two.reads)
    assert await two.driving.get_output(made.id) == made
    assert len(two.reads) == before
    await two.reading.update_outputs([OutputFound(id=made.id, size=5)])
    assert await two.driving.get_output(made.id) == replace(made, size=5)


async def test_an_end_and_the_next_claim_are_one_transaction(two: Two) -> None:
    first = await two.claimed()
    waiting, _ = await two.driving.add_job(queued_event(), GRAPH, max_queued=9)
    told: list[list[str]] = []
    two.driving.on_commit(lambda events: told.append([stored.event.type for stored in events]))
    room = two.room(stream_id="stream")
    done, claim = await two.driving.record_and_claim(first.id, [completed(first)], outputs=[], offer=room)
    assert (done.status, told) == (JobStatus.COMPLETED, [["completed", "claimed"]])
    assert claim is not None
    assert (claim.job.id, claim.job.prompt_id, claim.stream_id) == (waiting.id, room.prompt_id, "stream")
    assert await two.seen(first.id) == 0
    end = [completed(claim.job)]
    done, claim = await two.driving.record_and_claim(waiting.id, end, outputs=[], offer=two.room())
    assert (done.status, claim) == (JobStatus.COMPLETED, None)


async def test_an_end_that_is_refused_claims_nothing(two: Two) -> None:
    first = await two.claimed()
    waiting, _ = await two.driving.add_job(queued_event(), GRAPH, max_queued=9)
    twice = [completed(first), completed(first)]
    with pytest.raises(IllegalTransition):
        await two.driving.record_and_claim(first.id, twice, outputs=[], offer=two.room())
    for before in (first, waiting):
        assert await two.reading.get_job(before.id) == before
